"""A tensor's values, a piece at a time: a checkpoint may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from checkpoint.reading.header import SIZES, Stored

PIECE = 1 << 24  # bytes
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}
# The bits of the exponent, all set in infinities and NaN; e4m3fn has no infinity, and one NaN per sign.
_NOT_FINITE = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000, "F8_E4M3": 0x7F, "F8_E5M2": 0x7C, "F8_E8M0": 0xFF}
FLOATS = frozenset({*_NOT_FINITE, "F64"})


@dataclass(frozen=True)
class Range:
    """What a tensor's values are like; `least` and `most` are those of the finite ones."""

    not_finite: int
    not_positive: int
    least: float
    most: float


def pieces(tensor: Stored) -> Iterator[NDArray[np.generic]]:
    """Yield the tensor's raw elements: unsigned integers of their size, or float64."""
    size = SIZES[tensor.dtype]
    kind = np.dtype("<f8") if tensor.dtype == "F64" else np.dtype(_UNSIGNED[size]).newbyteorder("<")
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        left = tensor.bytes
        while left:
            data = stream.read(min(left, PIECE))
            if not data:
                raise OSError(f"{tensor.file} ended within {tensor.name}")
            left -= len(data)
            yield np.frombuffer(data, kind)


def count_not_finite(tensor: Stored) -> int:
    """Return how many values are NaN or infinite; 0 for integers."""
    if tensor.dtype == "F64":
        return sum(int(np.count_nonzero(~np.isfinite(piece.astype(np.float64)))) for piece in pieces(tensor))
    mask = _NOT_FINITE.get(tensor.dtype)
    if mask is None:
        return 0
    kind = _UNSIGNED[SIZES[tensor.dtype]]
    return sum(int(np.count_nonzero((piece.astype(kind, copy=False) & kind(mask)) == mask)) for piece in pieces(tensor))


def describe(tensor: Stored) -> Range:
    """Return what the values of a floating-point tensor are like."""
    not_finite = not_positive = 0
    least, most = np.inf, -np.inf
    for piece in pieces(tensor):
        values = decode(piece, tensor.dtype)
        finite = values[np.isfinite(values)]
        not_finite += values.size - finite.size
        not_positive += int((finite <= 0).sum())
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    return Range(not_finite, not_positive, least, most)


def raw(tensor: Stored) -> bytes:
    """Return all bytes of a small tensor."""
    return b"".join(piece.tobytes() for piece in pieces(tensor))


def decode(piece: NDArray[np.generic], dtype: str) -> NDArray[np.floating]:
    """Return raw elements as numbers.

    Raises:
        ValueError: the type is none of floating point.
    """
    if dtype == "F64":
        return piece.astype(np.float64)
    if dtype == "F32":
        return piece.view(np.float32)
    if dtype == "F16":
        return piece.view(np.float16).astype(np.float32)
    if dtype == "BF16":
        return (piece.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "F8_E4M3":
        return _E4M3[piece.astype(np.intp)]
    if dtype == "F8_E8M0":
        codes = piece.astype(np.float64)
        return np.where(codes == 255, np.nan, np.exp2(codes - 127))
    raise ValueError(f"{dtype} is not read as numbers")


def _e4m3() -> NDArray[np.floating]:
    """Return e4m3fn's 256 values: 4 bits of exponent with bias 7, 3 of mantissa (arXiv:2209.05433)."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * np.exp2(exponent - 7.0))
    values = np.where((codes & 0x7F) == 0x7F, np.nan, values)
    return np.where(codes & 0x80, -values, values)


_E4M3 = _e4m3()
