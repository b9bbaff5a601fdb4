"""How far the distributions of one model are from another's, on the same tokens.

Arrays of log-probabilities are [tokens, vocabulary], natural logarithm, fp64 inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Array = NDArray[numpy.floating]


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
    log_p, log_q = _pair(reference, other)
    if len(targets) != len(log_p) or not len(log_p):
        raise ValueError(f"{len(targets)} targets for {len(log_p)} tokens")
    divergence = kl_divergence(log_p, log_q)
    rows, columns = numpy.arange(len(log_p)), numpy.asarray(targets)
    with numpy.errstate(over="ignore"):
        ratio = numpy.exp(log_p[rows, columns].mean() - log_q[rows, columns].mean())
    return Fidelity(
        tokens=len(log_p),
        kl_mean=float(divergence.mean()),
        kl_p99=float(numpy.quantile(divergence, 0.99)),
        kl_max=float(divergence.max()),
        top1_agreement=float((log_p.argmax(1) == log_q.argmax(1)).mean()),
        perplexity_ratio=float(ratio),
        finite=not bool(numpy.isnan(log_q).any()) and bool(numpy.isfinite(divergence).all()),
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
