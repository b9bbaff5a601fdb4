"""The distance of one model's distributions from another's, on the same tokens: one row of METRICS for each figure.

Everything derives from that table: the report's JSON, its columns in Markdown and HTML, the lines of
`regression compare`, and the keys of a scenario's [[distance]].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import zip_longest
from typing import Any

import numpy
from numpy.typing import NDArray

Array = NDArray[numpy.floating]
PIECE = 64  # tokens


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs over the same tokens, which metrics are computed from.

    `reference` and `other` are log-probabilities, [tokens, vocabulary], natural logarithm. `targets` are the tokens
    that really come, [tokens]. `answers` are greedy answers as tokens, the reference's and the other's to each
    question; empty where one of them gave none.

    Raises:
        ValueError: there is no token, or not one target for each.
    """

    reference: Array
    other: Array
    targets: Sequence[int]
    answers: Sequence[tuple[Sequence[int], Sequence[int]]] = ()

    def __post_init__(self) -> None:
        if len(self.targets) != len(self.reference) or not self.targets:
            raise ValueError(f"{len(self.targets)} targets for {len(self.reference)} tokens")

    @cached_property
    def pieces(self) -> list[slice]:
        """Slices of tokens: a vocabulary of 150 000 in fp64 is more than a megabyte a token."""
        return [slice(start, start + PIECE) for start in range(0, len(self.reference), PIECE)]

    @cached_property
    def divergence(self) -> NDArray[numpy.float64]:
        """The Kullback-Leibler divergence of each token, [tokens], in nats."""
        return numpy.concatenate([kl_divergence(self.reference[piece], self.other[piece]) for piece in self.pieces])

    @cached_property
    def finite(self) -> bool:
        """True where `other` holds no NaN and every divergence is finite."""
        nan = any(bool(numpy.isnan(self.other[piece]).any()) for piece in self.pieces)
        return not nan and bool(numpy.isfinite(self.divergence).all())

    @cached_property
    def differences(self) -> list[int]:
        """The first token that differs, of each answer that does."""
        places = (first_divergence(reference, other) for reference, other in self.answers)
        return [place for place in places if place is not None]


@dataclass(frozen=True)
class Limit:
    """A limit in a scenario's [[distance]]: `key` is its TOML key, `check` the title of its check.

    The limit is a distance from the metric's ideal, or with `of_value` a value of the metric. With `noisy` the check
    takes the noise floor, which is a divergence, into account.
    """

    key: str
    check: str
    noisy: bool = False
    of_value: bool = False


@dataclass(frozen=True)
class Metric:
    """One figure of a pair: `key` names it in JSON, `title` heads its column; without a title it has none.

    `form` is the format of its cell, which may name other figures too. A value is the worse the farther it is from
    `ideal`; without an ideal it is neither good nor bad. `change` is what `regression compare` calls it; without
    that it is not compared.
    """

    key: str
    title: str
    value: Callable[[Pair], float | None]
    form: str = "{:.3g}"
    unit: str = ""
    ideal: float | None = None
    limit: Limit | None = None
    change: str = ""

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def distance(self, value: float) -> float:
        """Return how far a value is from the ideal."""
        return abs(value - (self.ideal or 0.0))

    def cell(self, row: Mapping[str, Any]) -> str:
        """Return a row's value as text; a dash where an older report has none."""
        value = row.get(self.key)
        return "-" if value is None else self.form.format(value, **row)


def kl_divergence(reference: Array, other: Array) -> NDArray[numpy.float64]:
    """Return the Kullback-Leibler divergence of each token, `sum p (log p - log q)`, [tokens], in nats.

    Where `reference` gives no probability a term is 0; where only `other` gives none it is infinite. A tiny
    negative sum, which rounding alone causes, is 0.

    Raises:
        ValueError: the shapes differ or are not [tokens, vocabulary].
    """
    if reference.ndim != 2 or reference.shape != other.shape:
        raise ValueError(f"log-probabilities of shapes {reference.shape} and {other.shape}")
    log_p, log_q = reference.astype(numpy.float64), other.astype(numpy.float64)
    p = numpy.exp(log_p)
    with numpy.errstate(invalid="ignore"):
        terms = numpy.where(p > 0, p * (log_p - log_q), 0.0)
    total: NDArray[numpy.float64] = terms.sum(1)
    return numpy.where((total < 0) & (total > -1e-6), 0.0, total)


def first_divergence(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the index of the first token that differs, or None; a missing token differs from any."""
    return next((index for index, (a, b) in enumerate(zip_longest(one, other)) if a != b), None)


def _of_divergence(figure: Callable[[NDArray[numpy.float64]], Any]) -> Callable[[Pair], float]:
    """Return a figure of the divergence, which is infinite where the pair is not finite."""
    return lambda pair: float(figure(pair.divergence)) if pair.finite else float("inf")


def _agreement(pair: Pair) -> float:
    """Return the share of tokens with the same likeliest token."""
    same = sum(int((pair.reference[at].argmax(1) == pair.other[at].argmax(1)).sum()) for at in pair.pieces)
    return same / len(pair.targets)


def _perplexity_ratio(pair: Pair) -> float:
    """Return `exp(mean(log p(target)) - mean(log q(target)))`: above 1, `other` is the worse one."""
    rows, columns = numpy.arange(len(pair.targets)), numpy.asarray(pair.targets)
    before, after = (array[rows, columns].astype(numpy.float64).mean() for array in (pair.reference, pair.other))
    with numpy.errstate(over="ignore"):
        return float(numpy.exp(before - after))


METRICS: tuple[Metric, ...] = (
    Metric("tokens", "tokens", lambda pair: len(pair.targets), "{}"),
    Metric("kl_mean", "KL mean", _of_divergence(numpy.mean), unit="nats", ideal=0.0,
           limit=Limit("kl-mean", "KL mean", noisy=True)),
    Metric("kl_p99", "KL p99", _of_divergence(partial(numpy.quantile, q=0.99)), unit="nats", ideal=0.0),
    Metric("kl_max", "KL max", _of_divergence(numpy.max), unit="nats", ideal=0.0,
           limit=Limit("kl-max", "KL max", noisy=True), change="largest divergence"),
    Metric("top1_agreement", "top-1", _agreement, "{:.4f}", ideal=1.0,
           limit=Limit("top1", "top-1 differing", of_value=True)),
    Metric("perplexity_ratio", "perplexity ratio", _perplexity_ratio, "{:.6f}", ideal=1.0,
           limit=Limit("perplexity", "perplexity ratio off 1 by")),
    Metric("diverged", "greedy answers that differ", lambda pair: len(pair.differences) if pair.answers else None,
           "{} of {n}"),
    Metric("n", "", lambda pair: len(pair.answers) or None),
    Metric("first_divergence", "first differing token", lambda pair: min(pair.differences, default=None), "{}"),
)  # fmt: skip


def figures(pair: Pair) -> dict[str, float | None]:
    """Return the value of every metric of a pair, by key."""
    return {metric.key: metric.value(pair) for metric in METRICS}


def limited() -> list[tuple[Metric, Limit]]:
    """Return the metrics that a scenario may limit."""
    return [(metric, metric.limit) for metric in METRICS if metric.limit is not None]
