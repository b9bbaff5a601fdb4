"""SmoothQuant's scale for channels that calibration never woke."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_a_sleeping_channel_gets_the_scale_of_a_middling_one(base: dict[str, Any], patched: dict[str, Any]) -> None:
    for case, after in patched["smooth"].items():
        assert "error" not in after, case
        if case[-3:] not in ("1.0", "0.5"):
            continue
        before = base["smooth"][case]
        assert min(before["sleeping"]) > 9000, case
        least, most = after["live"]
        assert all(least < scale < most for scale in after["sleeping"]), case
        # Awake, the channel costs no more than the others; before it saturated.
        assert before["off awake"] > 4 * before["off asleep"], case
        assert after["off awake"] < 1.1 * after["off asleep"], case
        # And the others are none the worse for it.
        assert after["off asleep"] == pytest.approx(before["off asleep"]), case


def test_scales_are_finite_and_positive(patched: dict[str, Any]) -> None:
    for case, answer in patched["smooth"].items():
        assert answer["positive"], case


def test_a_column_of_zeros_in_the_weight_is_no_error(base: dict[str, Any], patched: dict[str, Any]) -> None:
    assert "pre_quant_scale should be positive" in base["smooth"]["zeros in the weight"]["error"]
    assert patched["smooth"]["zeros in the weight"]["off awake"] < 0.01


def test_a_layer_without_sleeping_channels_is_as_before(base: dict[str, Any], patched: dict[str, Any]) -> None:
    assert patched["smooth"]["none sleeps"] == base["smooth"]["none sleeps"]


def test_a_layer_that_slept_altogether_gets_ones(patched: dict[str, Any]) -> None:
    assert set(patched["smooth"]["all sleep"]["sleeping"]) == {1.0}
