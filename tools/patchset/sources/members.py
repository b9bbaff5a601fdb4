"""Read archives member by member, without unpacking them: sdists (`.tar.gz`, `.zip`) and wheels (`.whl`).

The members are fit for a git tree: regular files and symbolic links, with git's modes and clean relative paths.
Every other entry is refused by its name, before its bytes are read. One member is in memory at a time.

`tarfile.data_filter` is no substitute: it mends names where a tree needs them refused, and looks up links on the
disk, where nothing is unpacked.
"""

from __future__ import annotations

import calendar
import gzip
import io
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
LATEST = 1 << 40

_ENCRYPTED = 0x1
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """One file of an archive: for a symbolic link, `data` is its target. `mtime` is in seconds, UTC."""

    path: str
    mode: int
    data: bytes
    mtime: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member before its bytes are read, as the archive declares it."""

    name: str
    mode: int
    size: int
    mtime: int
    read: Callable[[], bytes]


def members(path: Path) -> Iterator[ArchiveMember]:
    """Return the members of the archive at `path`, in its order; an sdist's without its top folder.

    Raises:
        IntegrityError: the archive is broken, or has an entry that no honest build makes; names the entry.
    """
    sdist = not path.name.endswith(".whl")
    check = _Check(path.name, sdist)
    try:
        for entry in _tar(path, check) if path.name.endswith((".tar.gz", ".tgz")) else _zip(path, check):
            check.entry(entry)
            data = entry.read()
            if len(data) != entry.size:
                raise check.refusal(entry.name, f"has {len(data)} bytes, and declares {entry.size}")
            if entry.mode == SYMLINK:
                check.link(entry.name, data)
            name = entry.name.partition("/")[2] if sdist else entry.name
            yield ArchiveMember(name, entry.mode, data, entry.mtime)
            del data
    except _BROKEN as error:
        raise IntegrityError(
            f"{path} is not a readable archive: {error}", remedy="delete it: it is then fetched anew"
        ) from error


def newest_mtime(path: Path) -> int:
    """Return the newest modification time of the archive's members, in seconds, UTC."""
    return max((member.mtime for member in members(path)), default=0)


class _Check:
    """Refuses, by name, entries that must not get into a tree."""

    def __init__(self, archive: str, sdist: bool) -> None:
        self._archive = archive
        self._sdist = sdist
        self._top: str | None = None
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._total = 0

    def refusal(self, name: str, why: str) -> IntegrityError:
        return IntegrityError(
            f"{self._archive}: entry {name!r} {why}",
            remedy="do not use this archive: no build of a release makes such an entry",
        )

    def _refuse(self, name: str, breaches: dict[str, bool]) -> None:
        for why, broken in breaches.items():
            if broken:
                raise self.refusal(name, why)

    def entry(self, entry: _Entry) -> None:
        name = entry.name
        self.name(name)
        parents = [name[:at] for at, char in enumerate(name) if char == "/"]
        breaches = {
            "is beside the sdist's top folder": self._sdist and not parents,
            "is there twice": name in self._files,
            "is a file and a folder at once": name in self._folders or not self._files.isdisjoint(parents),
            f"has {entry.size} bytes, not 0 to {LARGEST_MEMBER}": not 0 <= entry.size <= LARGEST_MEMBER,
            f"takes the archive over {LARGEST_TOTAL} bytes": self._total + entry.size > LARGEST_TOTAL,
            f"takes the archive over {MOST_MEMBERS} members": len(self._files) >= MOST_MEMBERS,
        }
        self._refuse(name, breaches)
        self._files.add(name)
        self._folders.update(parents)
        self._total += entry.size

    def name(self, name: str) -> None:
        """Check a path, also a folder's, which a git tree does not hold."""
        parts = name.split("/")
        breaches = {
            "has an absolute path": name.startswith("/"),
            "has a NUL or a backslash in its name": "\0" in name or "\\" in name,
            "has an empty, '.' or '..' part in its path": not {"", ".", ".."}.isdisjoint(parts),
            "reaches into a .git folder": any(part.rstrip(". ").lower() in (".git", "git~1") for part in parts),
            "has a name that is not UTF-8": name.encode(errors="ignore").decode() != name,
            f"is beside the sdist's top folder {self._top!r}": self._sdist and self._top not in (None, parts[0]),
        }
        self._refuse(name, breaches)
        self._top = parts[0]

    def link(self, name: str, target: bytes) -> None:
        """Check a symbolic link: it may lead anywhere within the tree, and nowhere else.

        A name may be a link itself, and `..` then goes up from where that leads: hence only leading ones.
        """
        steps = [part for part in target.split(b"/") if part not in (b"", b".")]
        ups = steps.count(b"..")
        outside = target.startswith(b"/") or not target or b"\0" in target or b"\\" in target
        if outside or ups > name.count("/") - self._sdist or steps[:ups] != [b".."] * ups:
            raise self.refusal(name, f"is a symbolic link out of the tree, or has '..' behind a name: {target!r}")


def _tar(path: Path, check: _Check) -> Iterator[_Entry]:
    with _Stream(path, check) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]
            stream.allowance = LARGEST_HEADER
            if info.isdir():
                check.name(info.name)
                continue
            if info.islnk():
                raise check.refusal(info.name, "is a hard link")
            if not (info.isreg() or info.issym()) or info.issparse():
                raise check.refusal(info.name, "is neither a file nor a folder nor a symbolic link")
            # An extended header holds any float.
            mtime = int(info.mtime) if 0 <= info.mtime < LATEST else 0
            if info.issym():
                target = info.linkname.encode(errors="surrogateescape")
                yield _Entry(info.name, SYMLINK, len(target), mtime, partial(bytes, target))
            else:
                mode = EXECUTABLE if info.mode & stat.S_IXUSR else FILE
                yield _Entry(info.name, mode, info.size, mtime, partial(stream.data, info.size))
        if stream.header.strip(b"\0"):
            raise stream.refusal("has a broken header")
        # gzip checks its sum at the very end, behind the padding that tar does not read.
        stream.allowance = LARGEST_TOTAL
        while stream.read(CHUNK):
            pass


class _Stream(gzip.GzipFile):
    """The bytes of a tar. Its headers come through `read`, which bounds them: `tarfile` believes their sizes."""

    def __init__(self, path: Path, check: _Check) -> None:
        super().__init__(path, "rb")
        self._check = check
        self.allowance = LARGEST_HEADER
        self.header = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.allowance or self.tell() > LARGEST_TOTAL:
            raise self.refusal("has an oversized header, or comes after too much data")
        self.allowance -= size
        self.header = self.data(size)
        return self.header

    def data(self, size: int) -> bytes:
        return super().read(size)

    def refusal(self, why: str) -> IntegrityError:
        """Return the error for the entry whose header is the last that was read."""
        return self._check.refusal(self.header[:100].partition(b"\0")[0].decode(errors="replace"), why)


def _zip(path: Path, check: _Check) -> Iterator[_Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.orig_filename
            if not info.filename:
                raise check.refusal(name, "has no name")
            if info.is_dir():
                check.name(name.removesuffix("/"))
                continue
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
                raise check.refusal(name, "is neither a file nor a folder nor a symbolic link")
            if info.flag_bits & _ENCRYPTED:
                raise check.refusal(name, "is encrypted")
            git_mode = SYMLINK if kind == stat.S_IFLNK else EXECUTABLE if mode & stat.S_IXUSR else FILE
            year, month, day, *clock = info.date_time
            mtime = calendar.timegm((year, max(month, 1), max(day, 1), *clock))
            yield _Entry(name, git_mode, info.file_size, mtime, partial(_unzip, archive, info))


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes, read in chunks: at once, a wrong size would decompress up to 2 GiB.

    `BytesIO` hands out its buffer without a copy, so a large member is in memory once, not twice.
    """
    data = io.BytesIO()
    with archive.open(info) as file:
        shutil.copyfileobj(file, data, CHUNK)
    return data.getvalue()
