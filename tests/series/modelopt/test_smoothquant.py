"""SmoothQuant's scale for channels that are all zero (dead) in calibration."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_a_dead_channel_gets_a_scale_like_the_others(base: dict[str, Any], patched: dict[str, Any]) -> None:
    for case, after in patched["smooth"].items():
        assert "error" not in after, case
        if case[-3:] not in ("1.0", "0.5"):
            continue
        before = base["smooth"][case]
        assert min(before["dead"]) > 9000, case
        least, most = after["live"]
        assert all(least < scale < most for scale in after["dead"]), case
        # Not zero, the channel costs no more than the others; before it saturated.
        assert before["off nonzero"] > 4 * before["off zero"], case
        assert after["off nonzero"] < 1.1 * after["off zero"], case
        # And the others are none the worse for it.
        assert after["off zero"] == pytest.approx(before["off zero"]), case


def test_scales_are_finite_and_positive(patched: dict[str, Any]) -> None:
    for case, answer in patched["smooth"].items():
        assert answer["positive"], case


def test_a_column_of_zeros_in_the_weight_is_no_error(base: dict[str, Any], patched: dict[str, Any]) -> None:
    assert "pre_quant_scale should be positive" in base["smooth"]["zeros in the weight"]["error"]
    assert patched["smooth"]["zeros in the weight"]["off nonzero"] < 0.01


def test_a_layer_without_dead_channels_is_as_before(base: dict[str, Any], patched: dict[str, Any]) -> None:
    assert patched["smooth"]["none dead"] == base["smooth"]["none dead"]


def test_a_layer_that_is_dead_altogether_gets_ones(patched: dict[str, Any]) -> None:
    assert set(patched["smooth"]["all dead"]["dead"]) == {1.0}
