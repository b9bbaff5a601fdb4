"""Tensors in memory: mapped from safetensors files, changed, and written."""

from __future__ import annotations

import json
import mmap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
from numpy.typing import NDArray

from checkpoint.reading.header import TensorHeader
from checkpoint.reading.values import decode, elements
from checkpoint.reading.values import encode as encode_bytes

Values = NDArray[numpy.float64]


@dataclass(frozen=True)
class Tensor:
    """A tensor: `dtype` as safetensors names it (F32, BF16, I8), `data` little-endian."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    def values(self) -> Values:
        """Return the values in fp64, which holds those of every smaller type exactly."""
        return decode(elements(self.data, self.dtype), self.dtype).astype(numpy.float64).reshape(self.shape)

    def reshaped(self, *shape: int) -> Tensor:
        return replace(self, shape=shape)


def encode(values: Values, dtype: str) -> Tensor:
    """Return values as a tensor of a floating type, rounded to nearest even."""
    return Tensor(dtype, values.shape, encode_bytes(values, dtype))


def map_tensors(headers: Collection[TensorHeader]) -> dict[str, Tensor]:
    """Return tensors by name; their data are mapped, not read."""
    files = {}
    for file in {header.file for header in headers}:
        with file.open("rb") as stream:
            files[file] = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    return {
        header.name: Tensor(header.dtype, header.shape, files[header.file][header.start : header.end])
        for header in headers
    }


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
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in sorted(tensors.items()):
            stream.write(tensor.data)
