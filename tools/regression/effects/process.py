"""The one door to the upstreams' processes: watched, with a limit, and gone with all their children afterwards."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Command:
    """A command with its environment, working folder, log, limit in seconds, and how many steps it takes."""

    arguments: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    timeout: float
    steps: int = 1


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
    """A process in a session of its own; leaving the block ends everything that it started."""

    def __init__(self, command: Command, task: Task) -> None:
        self._command = command
        self._task = task
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
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

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
                        self._task.update(progress["done"], progress["total"])
                else:
                    log.write(line)
                    log.flush()


class _Share(Task):
    """One command's part of a task's steps."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self.done = 0.0
        self._notify = notify

    def update(self, done: float, total: int | None = None) -> None:
        self.done = done
        self._notify()


def run_commands(commands: Sequence[Command], limit: int, task: Task) -> Generator[tuple[Command, ProcessEnd]]:
    """Run commands, at most `limit` at a time, and yield each with its end.

    Whatever leaves the loop, an error or Ctrl-C, ends all of them with everything that they started.
    """
    total = sum(command.steps for command in commands)
    shares: list[_Share] = []

    def notify() -> None:
        task.update(int(sum(share.done for share in shares)), total)

    waiting = list(commands)
    running: list[tuple[Command, WatchedProcess, _Share, ExitStack]] = []
    with ExitStack() as every:
        while waiting or running:
            while waiting and len(running) < limit:
                command, share, stack = waiting.pop(0), _Share(notify), ExitStack()
                every.push(stack)
                shares.append(share)
                running.append((command, stack.enter_context(WatchedProcess(command, share)), share, stack))
            for entry in list(running):
                command, process, share, stack = entry
                end = process.poll()
                if end is not None:
                    running.remove(entry)
                    stack.close()
                    share.update(command.steps)
                    yield command, end
            if running:
                time.sleep(_LOOK)


def environment(**more: str) -> dict[str, str]:
    """Return the environment for an upstream's process: the user's, without network and without our own paths."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **more}


def resident(session: int) -> int:
    """Return the resident memory of all processes of a session, in bytes; 0 where there is no /proc."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The command's name may hold spaces and brackets; what follows the last bracket does not.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


def interrupt_on_termination() -> None:
    """Make SIGTERM and SIGHUP end the command as Ctrl-C does, so that its processes are ended too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
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
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                os.kill(int(folder.name), number)
