"""Long processes: watched, with a limit, and gone with all their children afterwards."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from toolkit.progress import Task

Cause = Literal["ended", "timeout", "memory", "disk"]

_MARK = "\x1e"
_TAIL = 150
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_LOOK = 0.2  # seconds between looks at a process
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_NO_MEMORY = ("OutOfMemoryError", "CUDA out of memory", "DefaultCPUAllocator: can't allocate", "MemoryError")


@dataclass(frozen=True, eq=False)
class Command:
    """A command with its environment, working folder, log, limit in seconds, and how many steps it takes.

    Its process inherits the file descriptors `pass_fds`.
    """

    arguments: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    timeout: float = float("inf")
    steps: int = 1
    pass_fds: Sequence[int] = ()


@dataclass(frozen=True)
class ProcessEnd:
    """The end of a process. `peak` is the largest resident size of it and its children together, in bytes."""

    returncode: int
    cause: Cause
    seconds: float
    peak: int
    tail: str

    @property
    def succeeded(self) -> bool:
        return self.returncode == 0 and self.cause == "ended"


class WatchedProcess:
    """A process in a session of its own; leaving the block ends everything that it started.

    `show` gets the progress in lines of its output that begin with a mark, as `Task.update` does.
    """

    def __init__(self, command: Command, show: Callable[[int, int | None], None] = lambda *_: None) -> None:
        self._command = command
        self._show = show
        self._peak = 0
        self._started = time.monotonic()
        self._popen = subprocess.Popen(
            command.arguments,
            env={**command.env, "PYTHONUNBUFFERED": "1"},
            cwd=command.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_us,
            pass_fds=command.pass_fds,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        try:
            self._reader.start()
        except BaseException:
            # An interrupt that comes before the block is entered.
            _signal(self._popen.pid, signal.SIGKILL)
            raise

    def __enter__(self) -> WatchedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def tail(self) -> str:
        """Return the last lines that it wrote."""
        with suppress(OSError):
            return "".join(self._command.log.read_text(errors="replace").splitlines(keepends=True)[-_TAIL:])
        return ""

    def wait(self) -> ProcessEnd:
        """Wait for its end; out of time it is stopped."""
        while (end := self.poll()) is None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_LOOK)
        return end

    def poll(self) -> ProcessEnd | None:
        """Return its end, or None while it runs; out of time it is stopped."""
        if self.alive:
            if time.monotonic() - self._started <= self._command.timeout:
                self._peak = max(self._peak, resident(self._popen.pid))
                return None
            self.stop()
            return self._end("timeout")
        self.stop()
        return self._end(_cause(self._popen.returncode, self.tail()))

    def stop(self) -> None:
        """End the process and everything in its session, with SIGTERM and then SIGKILL."""
        if self.alive:
            _signal(self._popen.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_GRACE)
        # Its children may outlive it, and may ignore SIGTERM.
        _signal(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._reader.join(_GRACE)

    def _end(self, cause: Cause) -> ProcessEnd:
        seconds = time.monotonic() - self._started
        return ProcessEnd(self._popen.returncode, cause, seconds, self._peak, self.tail())

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stream, self._command.log.open("w", encoding="utf-8") as log:
            for line in stream:
                if line.startswith(_MARK):
                    with suppress(ValueError, KeyError):
                        progress = json.loads(line[1:])
                        self._show(progress["done"], progress["total"])
                else:
                    log.write(line)
                    log.flush()


def run_commands(commands: Sequence[Command], limit: int, task: Task) -> Generator[tuple[Command, ProcessEnd]]:
    """Run commands, at most `limit` at a time, and yield each with its end.

    Whatever leaves the loop, an error or Ctrl-C, ends all of them with everything that they started.
    """
    steps = dict.fromkeys(commands, 0.0)
    total = sum(command.steps for command in commands)

    def show(command: Command, done: float, _: int | None = None) -> None:
        steps[command] = done
        task.update(int(sum(steps.values())), total)

    waiting = list(commands)
    running: dict[Command, WatchedProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                command = waiting.pop(0)
                running[command] = WatchedProcess(command, partial(show, command))
            for command, process in list(running.items()):
                if (end := process.poll()) is not None:
                    del running[command]
                    show(command, command.steps)
                    yield command, end
            if running:
                time.sleep(_LOOK)
    finally:
        with ExitStack() as every:
            for process in running.values():
                every.callback(process.stop)


def resident(session: int) -> int:
    """Return the resident memory of all processes of a session, in bytes; 0 where there is no /proc."""
    return sum(size for _, size in _members(session))


def _members(session: int) -> Iterator[tuple[int, int]]:
    """Yield the id and the resident memory, in bytes, of each process of a session, as proc(5) has them."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The command's name may hold spaces and brackets; what follows the last bracket does not.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                yield int(folder.name), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def interrupt_on_termination() -> None:
    """Make SIGTERM and SIGHUP end the command as Ctrl-C does, so that its processes are ended too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup(1) has SIGHUP ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _die_with_us() -> None:
    """In the child: be killed when the command is, even by SIGKILL (prctl(2); Linux alone has it)."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _cause(returncode: int, tail: str) -> Cause:
    if returncode == 0:
        return "ended"
    if returncode == -signal.SIGKILL or any(text in tail for text in _NO_MEMORY):
        # A watched process gets SIGKILL from the kernel's out-of-memory killer alone.
        return "memory"
    return "disk" if any(text in tail for text in _NO_SPACE) else "ended"


def _signal(session: int, number: int) -> None:
    """Send a signal to every process of a session, which may hold several process groups."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, number)
    for pid, _ in _members(session):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
