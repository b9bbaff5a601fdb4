"""The one door to the upstreams' processes: watched, with a limit, and gone with all their children afterwards."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.progress import Task

Cause = Literal["ended", "timeout", "memory", "disk"]

_MARK = "\x1e"
_TAIL = 150
_GRACE = 10.0  # seconds between asking a process to end and killing it
_LOOK = 0.2  # seconds between looks at a process
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_NO_MEMORY = ("OutOfMemoryError", "CUDA out of memory", "DefaultCPUAllocator: can't allocate", "MemoryError")


@dataclass(frozen=True)
class Ended:
    """How a process ended. `peak` is the largest resident size of it and its children together, in bytes."""

    returncode: int
    cause: Cause
    seconds: float
    peak: int
    tail: str

    @property
    def good(self) -> bool:
        return self.returncode == 0 and self.cause == "ended"


class Running:
    """A process in a session of its own; leaving the block ends everything that it started."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path, task: Task) -> None:
        self._log = log
        self._task = task
        self._peak = 0
        self._started = time.monotonic()
        self._popen = subprocess.Popen(
            command,
            env={**env, "PYTHONUNBUFFERED": "1"},
            cwd=cwd,
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

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def tail(self) -> str:
        """Return the last lines that it wrote."""
        with suppress(OSError):
            return "".join(self._log.read_text(errors="replace").splitlines(keepends=True)[-_TAIL:])
        return ""

    def wait(self, timeout: float) -> Ended:
        """Wait for its end, at most `timeout` seconds; then it is stopped."""
        while (ended := self.poll(timeout)) is None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_LOOK)
        return ended

    def poll(self, timeout: float) -> Ended | None:
        """Return how it ended, or None while it runs; after `timeout` seconds in all it is stopped."""
        if self.alive:
            if time.monotonic() - self._started <= timeout:
                self._peak = max(self._peak, resident(self._popen.pid))
                return None
            self.stop()
            return self._ended("timeout")
        self.stop()
        return self._ended(_cause(self._popen.returncode, self.tail()))

    def stop(self) -> None:
        """End the process and everything in its session: asked first, then killed."""
        if self.alive:
            _signal(self._popen.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_GRACE)
        # Its children may outlive it, and may not listen.
        _signal(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._reader.join(_GRACE)

    def _ended(self, cause: Cause) -> Ended:
        seconds = time.monotonic() - self._started
        return Ended(self._popen.returncode, cause, seconds, self._peak, self.tail())

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stream, self._log.open("w", encoding="utf-8") as log:
            for line in stream:
                if line.startswith(_MARK):
                    with suppress(ValueError, KeyError):
                        told = json.loads(line[1:])
                        self._task.update(told["done"], told["total"])
                else:
                    log.write(line)
                    log.flush()


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
        # Nobody but the kernel's out-of-memory killer sends SIGKILL to a process that we watch.
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
