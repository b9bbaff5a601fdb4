"""One `git cat-file --batch-command` process a repository, which answers requests for names and contents.

A process for each request costs 1.5 ms; a run of the tool has a dozen of them. An answer from here takes some
hundredths of that.
"""

from __future__ import annotations

import atexit
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from patchset.store.text import encode

_open: dict[tuple[int, Path], Reader] = {}


class PipeProcess:
    """A running git process that answers requests through its pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout

    def close(self) -> None:
        self._in.close()
        self._out.close()
        self._process.wait()


class Reader(PipeProcess):
    """A running `git cat-file --batch-command` (git-cat-file(1))."""

    def request(self, command: str) -> tuple[str, bytes] | None:
        """Return object id and content (nothing for `info`), or None where there is no such object.

        Raises:
            BrokenPipeError: the process has ended.
        """
        self._in.write(encode(command) + b"\n")
        self._in.flush()
        line = self._out.readline()
        if not line:
            raise BrokenPipeError
        fields = line.split()
        if len(fields) != 3 or fields[1] not in (b"blob", b"tree", b"commit", b"tag"):
            return None
        if command.startswith("info "):
            return fields[0].decode(), b""
        data = self._out.read(int(fields[2]) + 1)
        return fields[0].decode(), data[:-1]


def reader(gitdir: Path, start: Callable[[], subprocess.Popen[bytes]]) -> Reader:
    """Return the reader of a repository; `start` starts its process where none is running."""
    # A fork must not share its parent's pipe: their requests and answers would mix.
    key = (os.getpid(), gitdir)
    if key not in _open:
        _open[key] = Reader(start())
    return _open[key]


def close(folder: Path) -> None:
    """End the process that was started for a repository, if there is one."""
    process = _open.pop((os.getpid(), folder), None)
    if process is not None:
        process.close()


def close_all() -> None:
    """End every process that was started here."""
    for pid, folder in list(_open):
        if pid == os.getpid():
            close(folder)


atexit.register(close_all)
