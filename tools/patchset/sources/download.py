"""Download a file whose sha256 is recorded: resumable, safe against kills and against other processes.

The bytes go to `<target>.part`, which is locked while a process writes it and stays where that process is
stopped. The next request is for the rest, by Range (RFC 9110, 14), with If-Range where the server sent a validator.
`target` appears in one step, when all bytes are on the disk and their sha256 is the recorded one. No answer is
judged by its headers: where the sha256 of a resumed or encoded file is wrong, the transfer starts anew, once for each.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Literal

import requests
from urllib3.exceptions import IncompleteRead

from patchset.sources.pipconfig import PipConfig
from patchset.sources.registry import RemoteFile
from patchset.sources.transport import BACKOFF, exchange
from patchset.sources.urls import local_path
from toolkit.errors import EnvironmentProblem, IntegrityError, SourceUnavailable
from toolkit.files import sha256_of
from toolkit.progress import Reporter, Task

CHUNK = 1 << 20


def download(
    remote: RemoteFile,
    sha256: str,
    target: Path,
    reporter: Reporter,
    *,
    config: PipConfig,
    backoff: float = BACKOFF,
) -> Path:
    """Fetch `remote` to `target`, and return `target`.

    Raises:
        SourceUnavailable: the bytes cannot be had; what came so far is kept for the next try.
        IntegrityError: the bytes have another sha256; nothing is kept.
        EnvironmentProblem: the disk is full or not writable.
    """
    with _disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _claim(target, reporter) as part:
        if target.is_file() and sha256_of(target) == sha256:
            part.discard()
            return target
        source = local_path(remote.url)
        with reporter.task(f"download {remote.filename}", remote.size, "bytes") as task:
            if source is not None:
                _copy(source, remote, part, task)
            elif part.sha256 != sha256:
                _transfer(remote, sha256, part, reporter, task, config, backoff)
        if part.sha256 != sha256:
            size, actual = part.size, part.sha256
            part.discard()
            raise IntegrityError(
                f"{remote.filename} from {remote.index} is not the recorded file",
                remedy="nothing of it was kept; try again, and if it stays so, ask who runs the index",
                details=(f"expected sha256 {sha256}", f"actual sha256 {actual} ({size} bytes)"),
            )
        part.move(target)
    return target


class _Part:
    """The unfinished file: its bytes on the disk and their running sha256.

    `validator` is the server's for these bytes, if it is known.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file
        self.resumable = True
        self.validator: str | None = None
        self._hash = hashlib.sha256()
        self.size = 0
        while chunk := file.read(CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def restart(self, *, resumable: bool = True, validator: str | None = None) -> None:
        """Forget all bytes; the arguments are those of the bytes that follow."""
        with _disk(self._path):
            self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0
        self.resumable, self.validator = resumable, validator

    def receive(self, read: Callable[[int], bytes], total: int | None, task: Task) -> None:
        """Append what `read` returns, until it ends or has exceeded `total`: every byte of a file comes this way."""
        with _disk(self._path):
            wanted, free = (total or 0) - self.size, shutil.disk_usage(self._path.parent).free
        if wanted > free:
            raise _no_space(self._path.parent, f" ({wanted} bytes wanted, {free} free)")
        task.update(self.size, total)
        while (total is None or self.size <= total) and (chunk := read(CHUNK)):
            left = memoryview(chunk)
            with _disk(self._path):
                while left:
                    count = self._file.write(left)
                    self._hash.update(left[:count])
                    self.size += count
                    left = left[count:]
            task.update(self.size)

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self._forget()

    def move(self, target: Path) -> None:
        with _disk(target):
            os.fsync(self._file.fileno())
            self._path.replace(target)
        self._forget()

    def _forget(self) -> None:
        """Remove the file in which earlier versions kept the validator."""
        self._path.with_name(self._path.name + ".validator").unlink(missing_ok=True)


@contextlib.contextmanager
def _claim(target: Path, reporter: Reporter) -> Iterator[_Part]:
    """Give the part file of `target` to this process alone.

    The lock is on the part itself, so that a kill leaves none behind. The process that had it may have moved the
    part to `target`, or discarded it: after the wait, the path must still mean the file that is locked.
    """
    path = target.with_name(target.name + ".part")
    while True:
        with _disk(path):
            file = path.open("a+b", buffering=0)
        with file:
            with _disk(path):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    reporter.note(f"another process is downloading {target.name}; waiting for it")
                    fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file):
                file.seek(0)
                yield _Part(path, file)
                return


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(path) from error
        raise EnvironmentProblem(
            f"{error.filename or path}: {error.strerror}",
            remedy="make the folder writable, or set PATCHSET_CACHE_DIR to another one",
        ) from error


def _no_space(path: Path, wanted: str = "") -> EnvironmentProblem:
    return EnvironmentProblem(
        f"no disk space left for {path}{wanted}",
        remedy="free some, or set PATCHSET_CACHE_DIR to a folder on another disk; what came so far is kept",
    )


def _copy(source: Path, remote: RemoteFile, part: _Part, task: Task) -> None:
    """Copy a file of a local index, always from its start: that costs little."""
    try:
        with source.open("rb") as file:
            part.restart()
            part.receive(file.read, os.fstat(file.fileno()).st_size, task)
    except OSError as error:
        raise SourceUnavailable(
            f"{source}: {error.strerror}",
            remedy=f"mend {remote.index}, or take it out of pip's configuration: python -m pip config debug",
        ) from error


# How the bytes of a part came: in one answer, in several, or in one that declares a content encoding.
_Course = Literal["whole", "resumed", "encoded"]


def _transfer(
    remote: RemoteFile,
    sha256: str,
    part: _Part,
    reporter: Reporter,
    task: Task,
    config: PipConfig,
    backoff: float,
) -> None:
    """Fill the part over HTTP; start anew where the sha256 is wrong and other bytes may come of it.

    A server may declare an encoding although none is accepted. Either that is a mere label on a `.tar.gz`, and the
    file is what was sent; or the server did compress, and the file is what that decodes to.
    """

    def receive(decode: bool) -> _Course:
        return exchange(
            lambda session: _request(session, remote, part, task, config.timeout, decode),
            remote.url,
            config,
            reporter.note,
            backoff=backoff,
            size=lambda: part.size,
        )

    course = receive(decode=False)
    for doubt in ("resumed", "encoded"):
        if part.sha256 != sha256 and course == doubt:
            reporter.note(f"{remote.filename}: the {course} download is not the recorded file; starting anew")
            part.restart()
            course = receive(decode=course == "encoded")


def _request(
    session: requests.Session, remote: RemoteFile, part: _Part, task: Task, timeout: float, decode: bool
) -> _Course:
    """Request the file, or what the part lacks of it, and append that to the part.

    Raises:
        OSError, urllib3.exceptions.HTTPError: there is no answer, or it breaks off.
    """
    headers = {"Accept-Encoding": "identity"}
    if part.size and part.resumable:
        headers["Range"] = f"bytes={part.size}-"
        if part.validator is not None:
            headers["If-Range"] = part.validator
    with session.get(remote.url, headers=headers, stream=True, timeout=timeout) as response:
        resumed = "Range" in headers and response.status_code in (206, 416)
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        if not resumed:
            response.raise_for_status()
            part.restart(resumable=not encoded, validator=_validator(response))
        if response.status_code != 416:
            left = None if decode else response.raw.length_remaining
            total = remote.size if left is None else part.size + left
            # read1() gives what has come; stream() would hold it back until a chunk is full, and a connection that
            # stalls would take it along.
            part.receive(lambda size: response.raw.read1(size, decode_content=decode), total, task)
            if total is not None and part.size < total:
                raise IncompleteRead(part.size, total - part.size)
    return "resumed" if resumed else "encoded" if encoded else "whole"


def _validator(response: requests.Response) -> str | None:
    """Return what If-Range takes (RFC 9110, 13.1.5): a strong entity tag, else the modification date."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
