"""How far the distributions of one model are from another's, on the same tokens.

Arrays of log-probabilities are [tokens, vocabulary], natural logarithm, fp64 inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Array = NDArray[numpy.floating]
PIECE = 64  # tokens


@dataclass(frozen=True)
class Fidelity:
    """The figures of one pair of runs; divergences in nats."""

    tokens: int
    kl_mean: float
    kl_p99: float
    kl_max: float
    top1_agreement: float
    perplexity_ratio: float
    finite: bool


def kl_divergence(reference: Array, other: Array) -> NDArray[numpy.float64]:
    """Return the Kullback-Leibler divergence of each token, `sum p (log p - log q)`, [tokens], in nats.

    Where `reference` gives no probability a term is 0; where only `other` gives none it is infinite. A tiny
    negative sum, which rounding alone makes, is 0.

    Raises:
        ValueError: the shapes differ or are not [tokens, vocabulary].
    """
    log_p, log_q = _pair(reference, other)
    p = numpy.exp(log_p)
    with numpy.errstate(invalid="ignore"):
        terms = numpy.where(p > 0, p * (log_p - log_q), 0.0)
    total: NDArray[numpy.float64] = terms.sum(1)
    return numpy.where((total < 0) & (total > -1e-6), 0.0, total)


def compare(reference: Array, other: Array, targets: Sequence[int]) -> Fidelity:
    """Return the figures of `other` against `reference`; `targets` are the tokens that really come, [tokens].

    The perplexity ratio is `exp(mean(log p(target)) - mean(log q(target)))`: above 1, `other` is the worse one.

    Raises:
        ValueError: the shapes differ, or there is no token.
    """
    count = len(reference)
    if len(targets) != count or not count:
        raise ValueError(f"{len(targets)} targets for {count} tokens")
    # A vocabulary of 150 000 in fp64 is more than a megabyte a token: a piece at a time.
    pieces = [slice(start, start + PIECE) for start in range(0, count, PIECE)]
    divergence = numpy.concatenate([kl_divergence(reference[piece], other[piece]) for piece in pieces])
    agree = sum(int((reference[piece].argmax(1) == other[piece].argmax(1)).sum()) for piece in pieces)
    rows, columns = numpy.arange(count), numpy.asarray(targets)
    before, after = reference[rows, columns].astype(numpy.float64), other[rows, columns].astype(numpy.float64)
    with numpy.errstate(over="ignore"):
        ratio = numpy.exp(before.mean() - after.mean())
    return Fidelity(
        tokens=count,
        kl_mean=float(divergence.mean()),
        kl_p99=float(numpy.quantile(divergence, 0.99)),
        kl_max=float(divergence.max()),
        top1_agreement=agree / count,
        perplexity_ratio=float(ratio),
        finite=not any(bool(numpy.isnan(other[piece]).any()) for piece in pieces)
        and bool(numpy.isfinite(divergence).all()),
    )


def first_divergence(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the index of the first token that differs, or None; a missing token differs from any."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return None if len(one) == len(other) else min(len(one), len(other))


def _pair(reference: Array, other: Array) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    if reference.ndim != 2 or reference.shape != other.shape:
        raise ValueError(f"log-probabilities of shapes {reference.shape} and {other.shape}")
    return reference.astype(numpy.float64), other.astype(numpy.float64)
