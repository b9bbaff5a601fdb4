"""Rewriting a zip archive without touching what does not change: members are copied raw, still compressed.

Format: PKWARE's APPNOTE 6.3 (local file header 4.3.7, central directory header 4.3.12, end record 4.3.16), the
part of it that wheels use: one disk, no encryption, less than 4 GiB and 65,535 members.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from toolkit.errors import IntegrityError

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s4B4H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_UTF8 = 0x800
_ENCRYPTED = 0x1
_STEP = 1 << 24


@dataclass(frozen=True)
class Member:
    """A member as it stands in an archive: `span` is the bytes from its local header to the next one's."""

    info: zipfile.ZipInfo
    span: tuple[int, int]

    @property
    def name(self) -> str:
        return self.info.filename


class Archive:
    """A zip archive that is read; `members` is in the order in which they lie in the file.

    Raises:
        IntegrityError: it is no zip archive, holds a name twice, or uses what wheels do not use.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError) as error:
            raise _broken(file, str(error)) from error
        infos = sorted(self._zip.infolist(), key=lambda info: info.header_offset)
        ends = [info.header_offset for info in infos[1:]] + [self._zip.start_dir]
        self.members: Mapping[str, Member] = {
            info.filename: Member(info, (info.header_offset, end)) for info, end in zip(infos, ends, strict=True)
        }
        if len(self.members) != len(infos):
            self.close()
            raise _broken(file, "a name stands twice in it")
        if any(info.flag_bits & _ENCRYPTED for info in infos):
            self.close()
            raise _broken(file, "it is encrypted")

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """Return a member's content, its CRC checked.

        Raises:
            IntegrityError: there is no such member, or it is damaged.
        """
        try:
            return self._zip.read(name)
        except KeyError:
            raise _broken(self.file, f"it has no {name}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise _broken(self.file, f"{name}: {error}") from error

    def open(self, name: str) -> zipfile.ZipExtFile:
        """Open a member for reading, piece by piece."""
        return self._zip.open(name)  # type: ignore[return-value]


def _broken(file: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{file.name} cannot be used: {why}", remedy="fetch or build it again")


@dataclass
class Writer:
    """Writes an archive member by member into `stream`; `close` writes the central directory."""

    stream: BinaryIO
    _central: list[bytes] = field(default_factory=list)
    _offset: int = 0

    def copy(self, source: Archive, members: Iterable[Member]) -> None:
        """Copy members raw; what lies side by side in the source is copied in one piece."""
        with source.file.open("rb") as stream:
            start = end = 0
            for member in members:
                if member.span[0] != end:
                    self._copy_range(stream, start, end)
                    start = member.span[0]
                self._note(member.info, self._offset + member.span[0] - start, _encoded(member.info))
                end = member.span[1]
            self._copy_range(stream, start, end)

    def rename(self, source: Archive, member: Member, name: str) -> None:
        """Copy a member's compressed bytes raw under another name."""
        with source.file.open("rb") as stream:
            stream.seek(member.span[0])
            fields = list(_LOCAL.unpack(stream.read(_LOCAL.size)))
            name_length, extra_length = fields[-2:]
            stream.seek(name_length, os.SEEK_CUR)
            extra = stream.read(extra_length)
            raw = name.encode()
            fields[-2] = len(raw)
            info = _renamed(member.info, name)
            fields[2] = info.flag_bits
            start = self._offset
            self._write(_LOCAL.pack(*fields) + raw + extra)
            self._copy_range(stream, stream.tell(), member.span[1])
        self._note(info, start, raw)

    def add(self, name: str, data: bytes, like: zipfile.ZipInfo, mode: int = 0o100644) -> None:
        """Write a member with the date of `like`; stored, since compressors' output differs between releases."""
        info = zipfile.ZipInfo(name, like.date_time)
        info.create_system = 3
        info.external_attr = mode << 16
        info.flag_bits = 0 if name.isascii() else _UTF8
        info.CRC = zlib.crc32(data)
        info.file_size = info.compress_size = len(data)
        raw = name.encode()
        start = self._offset
        header = (b"PK\x03\x04", 20, info.flag_bits, 0, *_dos(info), info.CRC, len(data), len(data), len(raw), 0)
        self._write(_LOCAL.pack(*header) + raw + data)
        self._note(info, start, raw)

    def close(self) -> None:
        """Write the central directory.

        Raises:
            IntegrityError: the archive would need the zip64 format.
        """
        start, count = self._offset, len(self._central)
        directory = b"".join(self._central)
        if start + len(directory) >= 0xFFFFFFFF or count >= 0xFFFF:
            raise IntegrityError(
                "the wheel would be larger than 4 GiB or have more than 65,534 members",
                remedy="zip64 is not supported: use --route source",
            )
        self._write(directory)
        self._write(_END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), start, 0))

    def _write(self, data: bytes) -> None:
        self.stream.write(data)
        self._offset += len(data)

    def _copy_range(self, source: BinaryIO, start: int, end: int) -> None:
        self.stream.flush()
        done = start
        try:
            # In the kernel; on file systems that share blocks, without copying at all.
            while done < end:
                count = os.copy_file_range(source.fileno(), self.stream.fileno(), end - done, done, self._offset)
                if not count:
                    raise IntegrityError(f"{source.name} is shorter than its directory says", remedy="fetch it again")
                done += count
                self._offset += count
            self.stream.seek(self._offset)
        except (OSError, AttributeError):
            # Not there (macOS), or not between these file systems.
            self.stream.seek(self._offset)
            source.seek(done)
            while done < end:
                block = source.read(min(_STEP, end - done))
                if not block:
                    raise IntegrityError(
                        f"{source.name} is shorter than its directory says", remedy="fetch it again"
                    ) from None
                self._write(block)
                done += len(block)

    def _note(self, info: zipfile.ZipInfo, offset: int, name: bytes) -> None:
        fields = (
            b"PK\x01\x02",
            info.create_version,
            info.create_system,
            info.extract_version,
            info.reserved,
            info.flag_bits,
            info.compress_type,
            *_dos(info),
            info.CRC,
            info.compress_size,
            info.file_size,
            len(name),
            len(info.extra),
            len(info.comment),
            0,
            info.internal_attr,
            info.external_attr,
            offset,
        )
        self._central.append(_CENTRAL.pack(*fields) + name + info.extra + info.comment)


def _encoded(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")


def _renamed(info: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, info.date_time)
    for key in ("create_version", "create_system", "extract_version", "reserved", "compress_type", "CRC"):
        setattr(made, key, getattr(info, key))
    for key in ("compress_size", "file_size", "internal_attr", "external_attr", "extra", "comment"):
        setattr(made, key, getattr(info, key))
    made.flag_bits = info.flag_bits & ~_UTF8 | (0 if name.isascii() else _UTF8)
    return made


def _dos(info: zipfile.ZipInfo) -> tuple[int, int]:
    """MS-DOS time and date, as both headers have them."""
    year, month, day, hour, minute, second = info.date_time
    return hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day
