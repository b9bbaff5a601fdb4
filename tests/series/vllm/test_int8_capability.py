"""Which int8 kernel vLLM chooses, by compute capability."""

from __future__ import annotations

import pytest

from .conftest import Probed

pytestmark = pytest.mark.slow

CUTLASS, TRITON, FUSED = "Cutlass", "Triton", "Fused"


@pytest.mark.parametrize("how", ["asked", "present"])
def test_the_kernel_chosen(said: Probed, how: str) -> None:
    old, new = said("base")["choice"][how], said("patched")["choice"][how]
    assert set(old.values()) == {CUTLASS}, "the unpatched release takes CUTLASS everywhere"
    for capability, kernel in new.items():
        assert kernel == (CUTLASS if float(capability) < 10 else TRITON), capability


@pytest.mark.patch("int8-fused-linear")
@pytest.mark.parametrize("choice", ["auto", "triton", "cutlass"])
def test_the_fused_kernel_chosen(said: Probed, choice: str) -> None:
    assert set(said("base")["choice"]["fused"][choice].values()) == {CUTLASS}
    for capability, kernel in said("patched")["choice"]["fused"][choice].items():
        number = float(capability)
        if number < 8:
            assert kernel == CUTLASS, capability
        elif number >= 10 and choice == "cutlass":
            assert kernel == TRITON, "CUTLASS cannot be forced where it has no kernel"
        else:
            assert kernel == FUSED, capability


def test_a_device_that_does_not_say_keeps_upstreams_choice(said: Probed) -> None:
    assert said("patched")["choice"]["unknown"] == said("base")["choice"]["unknown"] == CUTLASS


def test_the_reason_names_the_architecture(said: Probed) -> None:
    assert said("base")["choice"]["reason"] is None
    assert "sm_120" in said("patched")["choice"]["reason"]
