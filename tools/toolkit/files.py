"""Files written in one step, and their hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def replace_file(file: Path, data: bytes | str, *, durable: bool = False) -> None:
    """Make `data` the content of `file` (text as UTF-8) in one step: readers see the old content or all of the new.

    With `durable` the data is on the disk before the name is (fsync(2)), so that a power cut keeps the order too.
    A missing folder is created.

    Raises:
        OSError: the file system refuses; the old file is untouched.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as stream:
            stream.write(data.encode("utf-8") if isinstance(data, str) else data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file's content, as hex digits.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
