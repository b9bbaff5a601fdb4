"""RECORD: every file of a distribution with its sha256 and size.

Format: the Python packaging specification "Recording installed projects", the RECORD file.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from toolkit.errors import IntegrityError


@dataclass(frozen=True)
class RecordEntry:
    """A file's row; `digest` is `sha256=<urlsafe base64>` and `size` bytes, both empty for RECORD itself."""

    path: str
    digest: str
    size: str


def entry_of(path: str, data: bytes) -> RecordEntry:
    return RecordEntry(path, digest_of(hashlib.sha256(data).digest()), str(len(data)))


def digest_of(sha256: bytes) -> str:
    """Return a raw sha256 digest as RECORD writes it."""
    return "sha256=" + base64.urlsafe_b64encode(sha256).rstrip(b"=").decode()


def parse(data: bytes, where: str) -> tuple[RecordEntry, ...]:
    """Return the entries of a RECORD; `where` names it in errors.

    Raises:
        IntegrityError: a row has not three fields, or a path stands twice.
    """
    entries: dict[str, RecordEntry] = {}
    try:
        for number, fields in enumerate(csv.reader(io.StringIO(data.decode("utf-8"), newline="")), 1):
            if len(fields) != 3:
                raise IntegrityError(f"{where}, line {number}: {len(fields)} fields, not 3", remedy=_REMEDY)
            if fields[0] in entries:
                raise IntegrityError(f"{where}, line {number}: {fields[0]} stands twice", remedy=_REMEDY)
            entries[fields[0]] = RecordEntry(*fields)
    except (UnicodeDecodeError, csv.Error) as error:
        raise IntegrityError(f"{where}: {error}", remedy=_REMEDY) from error
    return tuple(entries.values())


_REMEDY = "the wheel is damaged: fetch or build it again"


def dump(entries: Iterable[RecordEntry]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(astuple(entry) for entry in entries)
    return out.getvalue().encode()
