"""Reads archives member by member, without unpacking them: sdists (`.tar.gz`, `.zip`) and wheels (`.whl`).

What comes out is fit for a git tree: regular files and symbolic links, with git's modes and clean relative
paths. Whatever is not, is refused with the entry's name, before its bytes are read. One member is in memory
at a time.
"""

from __future__ import annotations

import calendar
import gzip
import io
import itertools
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit.errors import IntegrityError

FILE = 0o100644
EXECUTABLE = 0o100755
SYMLINK = 0o120000

LARGEST_MEMBER = 1 << 30
LARGEST_TOTAL = 8 << 30
LARGEST_HEADER = CHUNK = 1 << 20

MOST_MEMBERS = 1_000_000

_ENCRYPTED = 0x1
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: for a symbolic link, `data` is its target. `mtime` is in seconds, UTC."""

    path: str
    mode: int
    data: bytes
    mtime: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """What an archive says of a member before its bytes are read."""

    name: str
    mode: int
    size: int
    mtime: int
    read: Callable[[], bytes]


def members(path: Path) -> Iterator[Member]:
    """The members of the archive at `path`, in its order; an sdist's without its top folder.

    Raises IntegrityError, naming the entry, for an archive that is broken or that no honest build makes.
    """
    sdist = not path.name.endswith(".whl")
    check = _Check(path, sdist=sdist)
    try:
        for entry in _tar(path, check) if path.name.endswith((".tar.gz", ".tgz")) else _zip(path, check):
            check.admit(entry)
            data = entry.read()
            if len(data) != entry.size:
                raise check.refused(entry.name, f"has {len(data)} bytes, and declares {entry.size}")
            if entry.mode == SYMLINK:
                check.link(entry.name, data)
            name = entry.name.partition("/")[2] if sdist else entry.name
            yield Member(name, entry.mode, data, entry.mtime)
            del data
    except (*_BROKEN, OSError) as error:
        raise IntegrityError(
            f"{path} is not a readable archive: {error}", remedy="delete it: it is then fetched anew"
        ) from error


def newest_mtime(path: Path) -> int:
    """The newest modification time of the archive's members, in seconds, UTC."""
    return max((member.mtime for member in members(path)), default=0)


class _Check:
    """Refuses, by name, entries that must not get into a tree."""

    def __init__(self, path: Path, *, sdist: bool) -> None:
        self._path = path
        self._sdist = sdist
        self._top: str | None = None
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._total = 0

    def refused(self, name: str, why: str) -> IntegrityError:
        return IntegrityError(
            f"{self._path.name}: entry {name!r} {why}",
            remedy="do not use this archive: no build of a release makes such an entry",
        )

    def admit(self, entry: _Entry) -> None:
        name = entry.name
        self.name(name)
        if self._sdist and "/" not in name:
            raise self.refused(name, "is beside the sdist's top folder")
        if name in self._files:
            raise self.refused(name, "is there twice")
        parents = [name[:at] for at, char in enumerate(name) if char == "/"]
        if name in self._folders or not self._files.isdisjoint(parents):
            raise self.refused(name, "is a file and a folder at once")
        self._files.add(name)
        self._folders.update(parents)
        self._total += entry.size
        if entry.size > LARGEST_MEMBER:
            raise self.refused(name, f"has {entry.size} bytes, more than {LARGEST_MEMBER}")
        if self._total > LARGEST_TOTAL:
            raise self.refused(name, f"takes the archive over {LARGEST_TOTAL} bytes")
        if len(self._files) > MOST_MEMBERS:
            raise self.refused(name, f"takes the archive over {MOST_MEMBERS} members")

    def name(self, name: str) -> None:
        """Also for folders, which a git tree does not hold."""
        parts = name.split("/")
        if name.startswith("/"):
            raise self.refused(name, "has an absolute path")
        if "\0" in name or "\\" in name:
            raise self.refused(name, "has a NUL or a backslash in its name")
        if any(part in ("", ".", "..") for part in parts):
            raise self.refused(name, "has an empty, '.' or '..' part in its path")
        if any(part.rstrip(". ").lower() in (".git", "git~1") for part in parts):
            raise self.refused(name, "reaches into a .git folder")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise self.refused(name, "has a name that is not UTF-8") from None
        if self._sdist:
            if self._top not in (None, parts[0]):
                raise self.refused(name, f"is beside the sdist's top folder {self._top!r}")
            self._top = parts[0]

    def link(self, name: str, target: bytes) -> None:
        """A symbolic link may lead anywhere within the tree, and nowhere else."""
        depth = name.count("/") - self._sdist
        outside = target.startswith(b"/") or not target or b"\0" in target or b"\\" in target
        for part in target.split(b"/"):
            depth += -1 if part == b".." else part not in (b"", b".")
            outside = outside or depth < 0
        if outside:
            raise self.refused(name, f"is a symbolic link out of the tree, to {target!r}")
        # A name may be a link itself, and `..` then goes up from where that leads.
        ups = [part == b".." for part in target.split(b"/") if part not in (b"", b".")]
        if any(up and not before for before, up in itertools.pairwise(ups)):
            raise self.refused(name, f"may lead out of the tree: '..' behind a name in {target!r}")


def _tar(path: Path, check: _Check) -> Iterator[_Entry]:
    with gzip.open(path) as unpacked:
        reader = _Reader(unpacked, check)
        with tarfile.open(fileobj=reader, mode="r:") as tar:  # type: ignore[call-overload]
            while (info := tar.next()) is not None:
                tar.members.clear()
                name = info.name
                if info.isdir():
                    check.name(name)
                    continue
                if info.islnk():
                    raise check.refused(name, "is a hard link")
                if not (info.isreg() or info.issym()) or info.issparse():
                    raise check.refused(name, "is neither a file nor a folder nor a symbolic link")
                if info.issym():
                    target = info.linkname.encode(errors="surrogateescape")
                    yield _Entry(name, SYMLINK, len(target), _seconds(info.mtime), partial(bytes, target))
                else:
                    mode = EXECUTABLE if info.mode & stat.S_IXUSR else FILE
                    yield _Entry(name, mode, info.size, _seconds(info.mtime), partial(reader.take, info.size))
            if reader.last.strip(b"\0"):
                raise check.refused(_name_in(reader.last), "has a broken header")
            # gzip checks its sum at the very end, behind the padding that tar does not read.
            while reader.read(CHUNK):
                pass


def _seconds(mtime: float) -> int:
    return max(0, int(mtime))


class _Reader:
    """What `tarfile` needs of a file, over a stream that only goes on.

    `tarfile` reads headers through `read`, each at once, whatever size it declares: hence the bounds.
    """

    def __init__(self, stream: gzip.GzipFile, check: _Check) -> None:
        self._stream = stream
        self._check = check
        self._position = 0
        self.last = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.StreamError("the entries overlap")
        while self._position < position and self.take(min(position - self._position, LARGEST_HEADER)):
            pass
        return self._position

    def read(self, size: int) -> bytes:
        if size > LARGEST_HEADER or self._position > LARGEST_TOTAL:
            raise self._check.refused(_name_in(self.last), "has an oversized header, or comes after too much data")
        return self.take(size)

    def take(self, size: int) -> bytes:
        self.last = self._stream.read(size)
        self._position += len(self.last)
        return self.last


def _name_in(header: bytes) -> str:
    return header[:100].partition(b"\0")[0].decode(errors="replace")


def _zip(path: Path, check: _Check) -> Iterator[_Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.orig_filename
            if not info.filename:
                raise check.refused(name, "has no name")
            if info.is_dir():
                check.name(name.removesuffix("/"))
                continue
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
                raise check.refused(name, "is neither a file nor a folder nor a symbolic link")
            if info.flag_bits & _ENCRYPTED:
                raise check.refused(name, "is encrypted")
            git_mode = SYMLINK if kind == stat.S_IFLNK else EXECUTABLE if mode & stat.S_IXUSR else FILE
            year, month, day, *clock = info.date_time
            mtime = calendar.timegm((year, max(month, 1), max(day, 1), *clock))
            yield _Entry(name, git_mode, info.file_size, mtime, partial(_unzip, archive, info))


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """In chunks: read at once, a member that lies about its size is decompressed up to 2 GiB.

    `BytesIO` hands out its buffer without a copy, so a large member is in memory once, not twice.
    """
    data = io.BytesIO()
    with archive.open(info) as file:
        shutil.copyfileobj(file, data, CHUNK)
    return data.getvalue()
