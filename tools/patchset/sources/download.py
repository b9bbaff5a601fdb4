"""Downloads one file whose sha256 is known beforehand: resumable, safe against kills and against other
processes.

The bytes go to `<target>.part`, which is locked while a process writes it and stays where that process is
stopped. The next one asks for the rest by Range (RFC 9110, 14), with If-Range where the server gave a
validator; without one, or where the answer does not fit, it starts anew. `target` appears in one step, when
all bytes are on the disk and their sha256 is the expected one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from patchset.sources import pipconfig
from patchset.sources.pipconfig import PipConfig
from patchset.sources.registry import RemoteFile
from patchset.sources.transport import (
    BACKOFF,
    is_transient,
    local_path,
    open_session,
    pauses,
    unavailable,
)
from toolkit.errors import EnvironmentProblem, IntegrityError, SourceUnavailable

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 20


class Progress(Protocol):
    """Who shows how far a download is."""

    def start(self, filename: str, total: int | None, done: int) -> None:
        """The transfer begins, or begins again, with `done` of `total` bytes at hand."""

    def advance(self, count: int) -> None:
        """`count` more bytes came."""

    def note(self, message: str) -> None:
        """Something that the user should know."""


class Quiet:
    """Shows nothing."""

    def start(self, filename: str, total: int | None, done: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def note(self, message: str) -> None:
        pass


QUIET = Quiet()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    remote: RemoteFile,
    sha256: str,
    target: Path,
    progress: Progress = QUIET,
    *,
    config: PipConfig | None = None,
    backoff: float = BACKOFF,
) -> Path:
    """Puts the bytes of `remote` at `target`, and returns that.

    Raises SourceUnavailable where they cannot be had (what came so far is kept for the next try),
    IntegrityError where they have another sha256 (nothing is kept), EnvironmentProblem where the disk is full
    or not writable.
    """
    with _disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _claim(target, progress) as part:
        if target.is_file() and sha256_of(target) == sha256:
            part.discard()
            return target
        source = local_path(remote.url)
        if source is None:
            config = pipconfig.load() if config is None else config
            _Transfer(remote, sha256, part, progress, config, backoff).run()
        else:
            _copy(source, remote, part, progress)
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
    """The unfinished file: its bytes on the disk, their running sha256, and the server's validator for
    them."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file
        self._validator = path.with_name(path.name + ".validator")
        self._hash = hashlib.sha256()
        self.size = 0
        while chunk := file.read(CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)

    @property
    def folder(self) -> Path:
        return self._path.parent

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def validator(self) -> str | None:
        try:
            return self._validator.read_text("ascii") or None
        except (OSError, UnicodeDecodeError):
            return None

    def restart(self, validator: str | None = None) -> None:
        """Forgets all bytes. The validator is on the disk before the first byte that it stands for."""
        with _disk(self._path):
            self._file.truncate(0)
            self._hash = hashlib.sha256()
            self.size = 0
            self._validator.unlink(missing_ok=True)
            if validator is not None:
                self._validator.write_text(validator, "ascii")

    def write(self, chunk: bytes) -> None:
        with _disk(self._path):
            left = memoryview(chunk)
            while left:
                count = self._file.write(left)
                self._hash.update(left[:count])
                self.size += count
                left = left[count:]

    def discard(self) -> None:
        self._validator.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)

    def move(self, target: Path) -> None:
        with _disk(target):
            os.fsync(self._file.fileno())
            self._path.replace(target)
        self._validator.unlink(missing_ok=True)


@contextlib.contextmanager
def _claim(target: Path, progress: Progress) -> Iterator[_Part]:
    """The part file of `target`, for this process alone.

    The lock is on the part itself, so that a kill leaves none behind. Whoever waited for it looks again
    whether the path still means the file that it locked: the one before may have moved it to `target`, or
    discarded it.
    """
    path = target.with_name(target.name + ".part")
    while True:
        with _disk(path):
            file = path.open("a+b", buffering=0)
        with file:
            with _disk(path):
                _lock(file, progress, target.name)
            if _is_at(path, file):
                file.seek(0)
                yield _Part(path, file)
                return


def _lock(file: FileIO, progress: Progress, name: str) -> None:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress.note(f"another process is downloading {name}; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into an error with a remedy."""
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


def _copy(source: Path, remote: RemoteFile, part: _Part, progress: Progress) -> None:
    """A file of a local index: reading it again from the start costs little."""
    try:
        with source.open("rb") as file:
            part.restart()
            size = os.fstat(file.fileno()).st_size
            _require_space(part, size)
            progress.start(remote.filename, size, 0)
            while chunk := file.read(CHUNK):
                part.write(chunk)
                progress.advance(len(chunk))
    except OSError as error:
        raise SourceUnavailable(
            f"{source}: {error.strerror}",
            remedy=f"mend {remote.index}, or take it out of pip's configuration: python -m pip config debug",
        ) from error


def _require_space(part: _Part, total: int | None) -> None:
    wanted = (total or 0) - part.size
    with _disk(part.folder):
        free = shutil.disk_usage(part.folder).free
    if wanted > free:
        raise _no_space(part.folder, f" ({wanted} bytes wanted, {free} free)")


class _Transfer:
    """One file over HTTP, with as many tries as pip would make; those that brought something do not count."""

    def __init__(
        self,
        remote: RemoteFile,
        sha256: str,
        part: _Part,
        progress: Progress,
        config: PipConfig,
        backoff: float,
    ) -> None:
        self._remote = remote
        self._sha256 = sha256
        self._part = part
        self._progress = progress
        self._config = config
        self._backoff = backoff
        self._encoded = False
        self._resumed = False

    def run(self) -> None:
        """Fills the part.

        The caller judges whether the bytes are the right ones; here those doubts are settled that another
        request can settle: a part that was put together from two transfers, and a server that declares an
        encoding although it was asked for none (either a mere label on a `.tar.gz`, then the file is what was
        sent, or it did compress, then the file is what that decodes to).
        """
        if self._part.size and self._part.sha256 == self._sha256:
            return
        with open_session(self._config) as session:
            self._receive(session, decode=False)
            if self._part.sha256 != self._sha256 and self._resumed:
                self._progress.note(f"{self._remote.filename}: the resumed download does not fit; starting anew")
                self._part.restart()
                self._receive(session, decode=False)
            if self._part.sha256 != self._sha256 and self._encoded:
                self._part.restart()
                self._receive(session, decode=True)

    def _receive(self, session: requests.Session, *, decode: bool) -> None:
        most = self._part.size
        waits = pauses(self._config.retries, self._backoff)
        while True:
            try:
                return self._request(session, decode=decode)
            except OSError as error:
                if self._part.size > most:
                    most = self._part.size
                    waits = pauses(self._config.retries, self._backoff)
                wait = next(waits, None) if is_transient(error) else None
                if wait is None:
                    raise unavailable(self._remote.url, error) from error
                reason = unavailable(self._remote.url, error).message
                self._progress.note(f"{reason}; trying again in {wait:g} s")
                time.sleep(wait)

    def _request(self, session: requests.Session, *, decode: bool) -> None:
        import requests
        import urllib3

        part = self._part
        headers = {"Accept-Encoding": "identity"}
        if part.size and part.validator is not None:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
        with session.get(self._remote.url, headers=headers, stream=True, timeout=self._config.timeout) as response:
            if "Range" in headers and response.status_code in (206, 416):
                if not self._continues(response):
                    part.restart()
                    return self._request(session, decode=decode)
                self._resumed = True
            else:
                response.raise_for_status()
                self._encoded = _is_encoded(response)
                part.restart(None if self._encoded else _validator(response))
            length = response.headers.get("Content-Length", "")
            total = part.size + int(length) if length.isdigit() and not decode else self._remote.size
            _require_space(part, total)
            self._progress.start(self._remote.filename, total, part.size)
            try:
                # read1() gives what has come; stream() would hold it back until a chunk is full, and a
                # connection that stalls would take it along.
                while chunk := response.raw.read1(CHUNK, decode_content=decode):
                    part.write(chunk)
                    self._progress.advance(len(chunk))
                    if total is not None and part.size > total:
                        break
            except urllib3.exceptions.ReadTimeoutError as error:
                raise requests.Timeout(error) from error
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(error) from error
            if total is not None and part.size < total:
                raise requests.ConnectionError(f"it ended after {part.size} of {total} bytes")
        return None

    def _continues(self, response: requests.Response) -> bool:
        """Whether the answer is the rest of what the part begins with, and not of another file."""
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        return (
            response.status_code == 206
            and found is not None
            and int(found[1]) == self._part.size
            and _validator(response) in (None, self._part.validator)
            and not _is_encoded(response)
        )


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity") != "identity"


def _validator(response: requests.Response) -> str | None:
    """What If-Range takes (RFC 9110, 13.1.5): a strong entity tag, else the modification date."""
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")
