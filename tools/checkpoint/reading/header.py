"""safetensors files: what they hold, from their headers alone.

The format (https://github.com/huggingface/safetensors#format): 8 bytes with the header's length, little-endian, the
header in JSON, and the tensors' bytes; offsets count from the header's end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
# Bytes of one element; U8 also holds packed 4-bit values.
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
# The format's own limit.
LONGEST_HEADER = 100_000_000


class BadFile(Exception):
    """A file that is not what its format says; the text tells how."""


@dataclass(frozen=True)
class Stored:
    """One tensor: its element type as safetensors names it, its shape, and where its bytes lie in `file`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def bytes(self) -> int:
        return self.end - self.start

    @property
    def described(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadFile: it cannot be read, or is none.
    """
    try:
        value = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise BadFile(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadFile(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadFile("does not hold a JSON object")
    return value


def read_header(file: Path) -> list[Stored]:
    """Return a safetensors file's tensors, in the order of their bytes.

    Raises:
        BadFile: it is cut off, overlaps, has holes, or is no such file at all.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                raise BadFile(f"is no safetensors file, or cut off: {size} bytes, a header of {length}")
            values = json.loads(stream.read(length))
    except OSError as error:
        raise BadFile(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadFile(f"has a header that is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadFile("has a header that is not a JSON object")
    values.pop("__metadata__", None)
    tensors = sorted((_stored(file, 8 + length, *item) for item in values.items()), key=lambda item: item.start)
    end = 8 + length
    for item in tensors:
        if item.start != end:
            raise BadFile(f"has a hole or an overlap before {item.name}")
        end = item.end
    if end != size:
        raise BadFile(f"is cut off: {size} bytes, where its header names {end}")
    return tensors


def _stored(file: Path, base: int, name: str, value: Any) -> Stored:
    try:
        dtype, shape, (start, end) = value["dtype"], tuple(map(int, value["shape"])), value["data_offsets"]
        elements = 1
        for side in shape:
            elements *= side
        wanted = elements * SIZES.get(dtype, 0)
    except (TypeError, KeyError, ValueError) as error:
        raise BadFile(f"describes {name} in a way that is not the format's") from error
    if dtype in SIZES and end - start != wanted:
        raise BadFile(f"gives {name} {end - start} bytes, where its type and shape take {wanted}")
    return Stored(name, dtype, shape, file, base + start, base + end)
