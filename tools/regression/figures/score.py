"""Right or wrong, item by item: a score with its interval, and two scores on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, sqrt

# 97.5 % quantile of the standard normal distribution: intervals of 95 %.
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Score:
    """`right` of `n` items; `low` and `high` bound the true share at 95 %."""

    right: int
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two answers to each item. `lost` were right before and are wrong now, `won` the other way round (indices)."""

    n: int
    lost: tuple[int, ...]
    won: tuple[int, ...]
    p_value: float


def wilson(right: int, n: int, z: float = Z95) -> Score:
    """Return the share with its score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Raises:
        ValueError: no items, or more right ones than there are.
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"{right} right of {n}")
    share = right / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Score(right, n, max(0.0, center - half), min(1.0, center + half))


def mcnemar(lost: int, won: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: `lost` of `lost + won` flips of a fair coin.

    (McNemar 1947, doi:10.1007/BF02295996, with the binomial distribution instead of chi-squared.)
    """
    flips = lost + won
    tail = sum(comb(flips, count) for count in range(min(lost, won) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**flips)))


def paired(before: Sequence[bool], after: Sequence[bool]) -> Paired:
    """Return the items that flipped between two runs over the same items.

    Raises:
        ValueError: the runs have different lengths.
    """
    flips = list(zip(before, after, strict=True))
    lost = tuple(index for index, pair in enumerate(flips) if pair == (True, False))
    won = tuple(index for index, pair in enumerate(flips) if pair == (False, True))
    return Paired(len(flips), lost, won, mcnemar(len(lost), len(won)))
