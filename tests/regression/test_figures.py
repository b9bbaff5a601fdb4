"""The figures against closed forms, and the verdicts that follow from them."""

from __future__ import annotations

from math import exp, log

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regression.figures.metrics import Pair, figures, first_divergence, kl_divergence
from regression.figures.score import Paired, mcnemar, paired, wilson
from regression.figures.verdict import EXIT_CODE, Verdict, at_most, combine, holds, not_worse


def logs(*rows: list[float]) -> numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float64]]:
    with numpy.errstate(divide="ignore"):
        return numpy.log(numpy.array(rows))


def test_kl_of_two_coins() -> None:
    divergence = kl_divergence(logs([0.5, 0.5], [0.9, 0.1]), logs([0.9, 0.1], [0.5, 0.5]))
    assert divergence == pytest.approx([-0.5 * log(4 * 0.9 * 0.1), 0.9 * log(1.8) + 0.1 * log(0.2)])


def test_kl_where_probabilities_are_zero() -> None:
    assert kl_divergence(logs([1.0, 0.0]), logs([0.5, 0.5])) == pytest.approx([log(2)])
    assert kl_divergence(logs([0.5, 0.5]), logs([1.0, 0.0])) == [numpy.inf]


def test_kl_wants_equal_shapes() -> None:
    with pytest.raises(ValueError, match="shapes"):
        kl_divergence(logs([0.5, 0.5]), logs([0.2, 0.3, 0.5]))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_kl_is_never_negative(one: list[float], other: list[float]) -> None:
    rows = [numpy.array(logits) - numpy.logaddexp.reduce(logits) for logits in (one, other[: len(one)])]
    assert kl_divergence(rows[0][None], rows[1][None])[0] >= 0
    assert kl_divergence(rows[0][None], rows[0][None])[0] == 0


def test_figures_of_a_pair() -> None:
    reference, other = logs([0.8, 0.2], [0.6, 0.4]), logs([0.4, 0.6], [0.6, 0.4])
    pair = Pair(reference, other, [0, 0])
    row = figures(pair)
    assert (row["tokens"], row["top1_agreement"], pair.finite) == (2, 0.5, True)
    assert row["perplexity_ratio"] == pytest.approx(exp((log(0.8) + log(0.6) - log(0.4) - log(0.6)) / 2))
    divergence = 0.8 * log(2) + 0.2 * log(1 / 3)
    assert (row["kl_mean"], row["kl_max"]) == pytest.approx((divergence / 2, divergence))
    assert row["kl_p99"] == pytest.approx(0.99 * divergence)


def test_what_is_not_a_number_is_not_finite() -> None:
    reference = logs([0.5, 0.5])
    pair = Pair(reference, numpy.full((1, 2), numpy.nan), [0])
    assert not pair.finite
    assert {figures(pair)[key] for key in ("kl_mean", "kl_p99", "kl_max")} == {numpy.inf}
    with pytest.raises(ValueError, match="targets"):
        Pair(reference, reference, [])


def test_greedy_answers_that_differ() -> None:
    one = logs([0.5, 0.5])
    row = figures(Pair(one, one, [0], [([1, 2], [1, 2]), ([1, 2, 3], [1, 5, 3]), ([1], [1, 2])]))
    assert (row["diverged"], row["n"], row["first_divergence"]) == (2, 3, 1)
    none = figures(Pair(one, one, [0]))
    assert (none["diverged"], none["n"], none["first_divergence"]) == (None, None, None)


@pytest.mark.parametrize(
    ("one", "other", "index"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 5, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [], None), ([], [1], 0)],
)
def test_first_divergence(one: list[int], other: list[int], index: int | None) -> None:
    assert first_divergence(one, other) == index


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), method 3.
    for (right, n), bounds in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        score = wilson(right, n)
        assert (score.low, score.high) == pytest.approx(bounds, abs=5e-5)
    with pytest.raises(ValueError, match="right of"):
        wilson(1, 0)


def test_mcnemar_against_the_binomial() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == mcnemar(0, 5) == 2 / 2**5
    assert mcnemar(1, 9) == pytest.approx(2 * 11 / 2**10)
    assert mcnemar(4, 4) == 1
    assert 0 < mcnemar(0, 1070) < 1e-300, "no overflow, and no negative"


def test_flipped_items_are_named() -> None:
    flips = paired([True, True, False, True], [True, False, True, False])
    assert (flips.lost, flips.won, flips.p_value) == ((1, 3), (2,), 1.0)


@pytest.mark.parametrize(
    ("value", "limit", "noise", "verdict"),
    [
        (1e-7, 1e-6, 0, Verdict.PASS),
        (1e-5, 1e-6, 0, Verdict.REGRESSION),
        (1e-5, 1e-6, 6e-6, Verdict.INCONCLUSIVE),
        (float("nan"), 1e-6, 1, Verdict.REGRESSION),
        (float("inf"), 1e-6, 1, Verdict.REGRESSION),
    ],
)
def test_a_distance_and_its_limit(value: float, limit: float, noise: float, verdict: Verdict) -> None:
    assert at_most("kl", value, limit, noise).verdict is verdict


@pytest.mark.parametrize(
    ("lost", "won", "verdict"),
    [(0, 0, Verdict.PASS), (2, 1, Verdict.PASS), (4, 0, Verdict.INCONCLUSIVE), (20, 1, Verdict.REGRESSION)],
)
def test_a_task_may_lose_little(lost: int, won: int, verdict: Verdict) -> None:
    flips = Paired(100, tuple(range(lost)), tuple(range(lost, lost + won)), mcnemar(lost, won))
    assert not_worse("captions", flips, 0.02).verdict is verdict


def test_the_worst_verdict_is_the_whole_one() -> None:
    good, bad, unknown, none = Verdict.PASS, Verdict.REGRESSION, Verdict.INCONCLUSIVE, Verdict.NOT_RUN
    assert combine([good, none]) is good
    assert combine([good, unknown, none]) is unknown
    assert combine([unknown, bad, good]) is bad
    assert combine([]) is combine([none]) is none
    assert [EXIT_CODE[item] for item in (good, none, bad, unknown)] == [0, 0, 13, 14]
    assert holds("served", False, "refused", "served").verdict is bad
