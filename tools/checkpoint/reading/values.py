"""A tensor's values, a piece at a time: a checkpoint may be larger than memory.

numpy has neither bfloat16 nor FP8. `ml_dtypes` has, and would be a second dependency for the few lines here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoint.reading.header import SIZES, TensorHeader

Array = NDArray[Any]

PIECE = 1 << 24  # bytes
# The bits of the exponent, all set in infinities and NaN; e4m3fn has no infinity, and one NaN per sign.
_NOT_FINITE = {
    "F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000, "F64": 0x7FF << 52,
    "F8_E4M3": 0x7F, "F8_E5M2": 0x7C, "F8_E8M0": 0xFF,
}  # fmt: skip
FLOATS = frozenset(_NOT_FINITE)
# The types that numpy has.
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


@dataclass(frozen=True)
class ValueRange:
    """The range of a tensor's values; `least` and `most` are those of the finite ones."""

    not_finite: int
    not_positive: int
    least: float
    most: float


def elements(data: bytes | memoryview, dtype: str) -> Array:
    """Return a tensor's bytes as elements: unsigned integers of the type's size, one axis."""
    return np.frombuffer(data, f"<u{SIZES[dtype]}")


def pieces(tensor: TensorHeader) -> Iterator[Array]:
    """Yield the tensor's elements, `PIECE` bytes at a time, unsigned integers of the type's size.

    Raises:
        OSError: the file cannot be read, or ends within the tensor.
    """
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        left = tensor.nbytes
        while left:
            data = stream.read(min(left, PIECE))
            if not data:
                raise OSError(f"{tensor.file} ended within {tensor.name}")
            left -= len(data)
            yield elements(data, tensor.dtype)


def count_not_finite(tensor: TensorHeader) -> int:
    """Return the number of values that are NaN or infinite; 0 for integers."""
    mask = _NOT_FINITE.get(tensor.dtype)
    return 0 if mask is None else sum(int(np.count_nonzero((piece & mask) == mask)) for piece in pieces(tensor))


def value_range(tensor: TensorHeader) -> ValueRange:
    """Return the range of a floating-point tensor's values."""
    not_finite = not_positive = 0
    least, most = np.inf, -np.inf
    for piece in pieces(tensor):
        values = decode(piece, tensor.dtype)
        finite = values[np.isfinite(values)]
        not_finite += values.size - finite.size
        not_positive += int((finite <= 0).sum())
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    return ValueRange(not_finite, not_positive, least, most)


def raw(tensor: TensorHeader) -> bytes:
    """Return all bytes of a small tensor."""
    return b"".join(piece.tobytes() for piece in pieces(tensor))


def decode(piece: Array, dtype: str) -> Array:
    """Return elements, unsigned integers of the type's size, as numbers; each type holds its values exactly."""
    if dtype in _NUMPY:
        return piece.view(_NUMPY[dtype])
    if dtype == "BF16":
        return (piece.astype("<u4") << 16).view("<f4")
    if dtype == "F8_E5M2":
        return (piece.astype("<u2") << 8).view("<f2")
    return {"F8_E4M3": _E4M3, "F8_E8M0": _E8M0}[dtype][piece]


def encode(values: Array, dtype: str) -> bytes:
    """Return numbers as the bytes of bfloat16 or of a type that numpy has, rounded to nearest even."""
    with np.errstate(over="ignore"):
        if dtype == "BF16":
            bits = values.astype("<f4").view("<u4")
            # Half of the last place that stays, less one if it is even (ties go to even).
            rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        else:
            rounded = values.astype(_NUMPY[dtype])
    data: bytes = rounded.tobytes()
    return data


def _e4m3() -> Array:
    """Return e4m3fn's 256 values: 4 bits of exponent with bias 7, 3 of mantissa (arXiv:2209.05433)."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * np.exp2(exponent - 7.0))
    values = np.where((codes & 0x7F) == 0x7F, np.nan, values)
    return np.where(codes & 0x80, -values, values)


_E4M3 = _e4m3()
_E8M0 = np.append(np.exp2(np.arange(255) - 127.0), np.nan)
