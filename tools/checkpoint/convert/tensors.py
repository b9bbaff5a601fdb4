"""Tensors of a safetensors file (https://github.com/huggingface/safetensors#format), bfloat16 too, without torch."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import NDArray

from toolkit.errors import IntegrityError

Values = NDArray[numpy.float64]

_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
_MAX_HEADER = 100_000_000  # bytes, the format's own limit


@dataclass(frozen=True)
class Tensor:
    """A tensor as it is stored: `dtype` in the format's words (F32, BF16, I8), `data` little-endian."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    def values(self) -> Values:
        """Return the values in fp64, which holds those of every smaller type exactly."""
        if self.dtype == "BF16":
            high = numpy.frombuffer(self.data, "<u2").astype(numpy.uint32) << 16
            return high.view(numpy.float32).astype(numpy.float64).reshape(self.shape)
        return numpy.frombuffer(self.data, _NUMPY[self.dtype]).astype(numpy.float64).reshape(self.shape)

    def reshaped(self, *shape: int) -> Tensor:
        return Tensor(self.dtype, shape, self.data)


def encode(values: Values, dtype: str) -> Tensor:
    """Return values as a tensor of a floating type, rounded to nearest even."""
    if dtype == "BF16":
        bits = values.astype(numpy.float32).view(numpy.uint32)
        # Half of the last place that stays, less one if it is even (ties go to even).
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return Tensor(dtype, values.shape, rounded.astype("<u2").tobytes())
    with numpy.errstate(over="ignore"):
        return Tensor(dtype, values.shape, values.astype(_NUMPY[dtype]).tobytes())


def read_file(file: Path) -> dict[str, Tensor]:
    """Return all tensors of a file; their data are mapped, not read.

    Raises:
        IntegrityError: the file is not safetensors, or is cut off.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise IntegrityError(f"{file} is no safetensors file", remedy="export or download it again")
        try:
            header = json.loads(stream.read(length))
            places = {
                name: (entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"the header of {file} cannot be read: {error}") from None
    if max((end for *_, end in places.values()), default=0) + 8 + length > size:
        raise IntegrityError(f"{file} is cut off", remedy="export or download it again")
    with file.open("rb") as stream:
        data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))[8 + length :]
    return {name: Tensor(dtype, shape, data[start:end]) for name, (dtype, shape, start, end) in places.items()}


def write_file(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors in the order of their names; the same tensors give the same bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in sorted(tensors.items()):
        end = position + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in sorted(tensors.items()):
            stream.write(tensor.data)
