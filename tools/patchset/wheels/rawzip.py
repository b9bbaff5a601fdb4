"""A zip archive rewritten without touching what does not change: members are copied raw, still compressed.

Format: PKWARE's APPNOTE 6.3 (local file header 4.3.7). The zipfile module reads, and writes the headers; it has no
way to copy a member.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from toolkit.errors import IntegrityError

_LENGTHS = struct.Struct("<26x2H")  # of name and extra field, in a local header; they follow it
_UTF8 = 0x800
_ENCRYPTED = 0x1
_STEP = 1 << 24


@dataclass(frozen=True)
class RawMember:
    """A member as it stands in an archive: `span` is the bytes from its local header to the next one's."""

    info: zipfile.ZipInfo
    span: tuple[int, int]


class RawArchive(zipfile.ZipFile):
    """A zip archive that is read; `members` is in the order in which they lie in the file.

    Raises:
        IntegrityError: it is no zip archive, holds a name twice, or uses what wheels do not use.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            super().__init__(file)
        except (zipfile.BadZipFile, OSError) as error:
            raise _broken(file, str(error)) from error
        infos = sorted(self.infolist(), key=lambda info: info.header_offset)
        ends = [info.header_offset for info in infos[1:]] + [self.start_dir]
        self.members: Mapping[str, RawMember] = {
            info.filename: RawMember(info, (info.header_offset, end)) for info, end in zip(infos, ends, strict=True)
        }
        encrypted = any(info.flag_bits & _ENCRYPTED for info in infos)
        if encrypted or len(self.members) != len(infos):
            self.close()
            raise _broken(file, "it is encrypted" if encrypted else "a name stands twice in it")

    def read(self, name: str | zipfile.ZipInfo, pwd: bytes | None = None) -> bytes:
        """Return a member's content, its CRC checked.

        Raises:
            IntegrityError: there is no such member, or it is damaged.
        """
        try:
            return super().read(name, pwd)
        except KeyError:
            raise _broken(self.file, f"it has no {name}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise _broken(self.file, f"{name}: {error}") from error


def _broken(file: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{file.name} cannot be used: {why}", remedy="fetch or build it again")


class RawWriter(zipfile.ZipFile):
    """An archive that is written into `stream`, member by member; `close` writes the central directory."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, "w")
        self._stream = stream

    def copy(self, source: RawArchive, members: Iterable[RawMember]) -> None:
        """Copy members raw; what lies side by side in the source is copied in one piece."""
        with source.file.open("rb") as stream:
            start = end = 0
            for member in members:
                renamed = not member.info.filename.isascii() and not member.info.flag_bits & _UTF8
                if renamed or member.span[0] != end:
                    self._copy_range(stream, start, end)
                    start = member.span[0]
                if renamed:  # the zipfile module writes names in UTF-8 only
                    self.rename(source, member, member.info.filename)
                    start = member.span[1]
                else:
                    self._list(member.info, member.info.filename, self.start_dir + member.span[0] - start)
                end = member.span[1]
            self._copy_range(stream, start, end)

    def rename(self, source: RawArchive, member: RawMember, name: str) -> None:
        """Copy a member's compressed bytes raw under another name."""
        with source.file.open("rb") as stream:
            stream.seek(member.span[0])
            name_length, extra_length = _LENGTHS.unpack(stream.read(_LENGTHS.size))
            stream.seek(name_length, os.SEEK_CUR)
            # The extra fields of the two headers may differ.
            local = copy(self._list(member.info, name, self.start_dir))
            local.extra = stream.read(extra_length)
            self._stream.seek(self.start_dir)
            self.start_dir += self._stream.write(local.FileHeader(zip64=False))
            self._copy_range(stream, stream.tell(), member.span[1])

    def add(self, name: str, data: bytes, like: zipfile.ZipInfo, mode: int = 0o100644) -> None:
        """Write a member with the date of `like`; stored, since compressors' output differs between releases."""
        info = zipfile.ZipInfo(name, like.date_time)
        info.create_system = 3
        info.external_attr = mode << 16
        self.writestr(info, data)

    def _list(self, info: zipfile.ZipInfo, name: str, offset: int) -> zipfile.ZipInfo:
        """Put a member that begins at `offset` into the central directory, and return its entry."""
        info = copy(info)
        info.filename, info.header_offset = name, offset
        self.filelist.append(info)
        self.NameToInfo[name] = info
        return info

    def _copy_range(self, source: BinaryIO, start: int, end: int) -> None:
        self._stream.flush()
        while start < end:
            try:
                # In the kernel; on file systems that share blocks, without copying at all.
                target = self._stream.fileno()
                count = os.copy_file_range(source.fileno(), target, end - start, start, self.start_dir)
            except (OSError, AttributeError):
                # Not there (macOS), or not between these file systems.
                source.seek(start)
                self._stream.seek(self.start_dir)
                count = self._stream.write(source.read(min(_STEP, end - start)))
                self._stream.flush()
            if not count:
                raise IntegrityError(f"{source.name} is shorter than its directory says", remedy="fetch it again")
            start += count
            self.start_dir += count
