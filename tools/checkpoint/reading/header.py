"""The headers of safetensors files, read without the tensors.

The format (https://github.com/huggingface/safetensors#format): 8 bytes with the header's length, little-endian, the
header in JSON, and the tensors' bytes; offsets count from the header's end.

The `safetensors` package does not fit: its numpy interface (0.8.0) has neither bfloat16 nor the FP8 types.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
# Bytes of one element; U8 also holds packed 4-bit values.
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
# The format's own limit, in bytes.
LONGEST_HEADER = 100_000_000


class FileFormatError(Exception):
    """A file is absent, damaged or of another format; the text is a predicate for the file's name."""


@dataclass(frozen=True)
class TensorHeader:
    """One tensor: its element type as safetensors names it, its shape, and its bytes' place in `file`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start

    @property
    def description(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileFormatError: the file cannot be read, or is no JSON object.
    """
    try:
        value = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise FileFormatError(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FileFormatError("does not hold a JSON object")
    return value


def read_header(file: Path) -> list[TensorHeader]:
    """Return a safetensors file's tensors, in the order of their bytes.

    Raises:
        FileFormatError: the file is cut off, its tensors overlap or leave a hole, or it is not a safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                raise FileFormatError(f"is no safetensors file, or cut off: {size} bytes, a header of {length}")
            values = json.loads(stream.read(length))
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise FileFormatError(f"has a header that is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise FileFormatError("has a header that is not a JSON object")
    values.pop("__metadata__", None)
    headers = sorted((_entry(file, 8 + length, *entry) for entry in values.items()), key=lambda header: header.start)
    end = 8 + length
    for header in headers:
        if header.start != end:
            raise FileFormatError(f"has a hole or an overlap before {header.name}")
        end = header.end
    if end != size:
        raise FileFormatError(f"is cut off: {size} bytes, where its header names {end}")
    return headers


def _entry(file: Path, base: int, name: str, value: Any) -> TensorHeader:
    try:
        dtype, shape = value["dtype"], tuple(map(index, value["shape"]))
        start, end = map(index, value["data_offsets"])
        wanted = math.prod(shape) * SIZES.get(dtype, 0)
        header = TensorHeader(name, dtype, shape, file, base + start, base + end)
    except (TypeError, KeyError, ValueError) as error:
        raise FileFormatError(f"describes {name} in a way that is not the format's") from error
    if dtype in SIZES and header.nbytes != wanted:
        raise FileFormatError(f"gives {name} {header.nbytes} bytes, where its type and shape take {wanted}")
    return header
