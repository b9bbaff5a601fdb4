"""One `git cat-file --batch-command` process a repository, that answers for names and contents.

A process for each question costs 1.5 ms; a run of the tool has a dozen of them, an answer from here takes some
hundredths of one.
"""

from __future__ import annotations

import atexit
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

_open: dict[tuple[int, Path], Reader] = {}


class Reader:
    """A running process; `command` and `env` are those of git in one repository."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def ask(self, request: str) -> tuple[str, bytes] | None:
        """Return object id and content (nothing for `info`), or None where there is no such object.

        Raises:
            BrokenPipeError: the process has ended.
        """
        self._in.write(request.encode("utf-8", errors="surrogateescape") + b"\n")
        self._in.flush()
        line = self._out.readline()
        if not line:
            raise BrokenPipeError
        fields = line.split()
        if len(fields) != 3 or fields[1] not in (b"blob", b"tree", b"commit", b"tag"):
            return None
        if request.startswith("info "):
            return fields[0].decode(), b""
        data = self._out.read(int(fields[2]) + 1)
        return fields[0].decode(), data[:-1]

    def close(self) -> None:
        self._in.close()
        self._out.close()
        self._process.wait()


def reader(gitdir: Path, start: Callable[[], Reader]) -> Reader:
    """Return the process for a repository, started where it is not yet running."""
    # A fork must not share its parent's pipe: their questions and answers would mix.
    key = (os.getpid(), gitdir)
    if key not in _open:
        _open[key] = start()
    return _open[key]


def close(folder: Path) -> None:
    """End the process that was started for a repository, where there is one."""
    found = _open.pop((os.getpid(), folder), None)
    if found is not None:
        found.close()


def close_all() -> None:
    """End every process that was started here."""
    for key in [key for key in _open if key[0] == os.getpid()]:
        _open.pop(key).close()


atexit.register(close_all)
