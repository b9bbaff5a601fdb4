"""Which int8 kernel vLLM chooses, by compute capability."""

from __future__ import annotations

import pytest

from .conftest import Probe

pytestmark = pytest.mark.slow

CUTLASS, TRITON, FUSED = "Cutlass", "Triton", "Fused"


@pytest.mark.parametrize("how", ["named", "present"])
def test_the_kernel_chosen(probe: Probe, how: str) -> None:
    old, new = probe("base")["choice"][how], probe("patched")["choice"][how]
    assert set(old.values()) == {CUTLASS}, "the unpatched release takes CUTLASS everywhere"
    for capability, kernel in new.items():
        assert kernel == (CUTLASS if float(capability) < 10 else TRITON), capability


@pytest.mark.patch("int8-fused-linear")
@pytest.mark.parametrize("choice", ["auto", "triton", "cutlass"])
def test_the_fused_kernel_chosen(probe: Probe, choice: str) -> None:
    assert set(probe("base")["choice"]["fused"][choice].values()) == {CUTLASS}
    for capability, kernel in probe("patched")["choice"]["fused"][choice].items():
        number = float(capability)
        if number < 8:
            assert kernel == CUTLASS, capability
        elif number >= 10 and choice == "cutlass":
            assert kernel == TRITON, "CUTLASS cannot be forced where it has no kernel"
        else:
            assert kernel == FUSED, capability


def test_a_device_that_does_not_say_keeps_upstreams_choice(probe: Probe) -> None:
    assert probe("patched")["choice"]["unknown"] == probe("base")["choice"]["unknown"] == CUTLASS


def test_the_reason_names_the_architecture(probe: Probe) -> None:
    assert probe("base")["choice"]["reason"] is None
    assert "sm_120" in probe("patched")["choice"]["reason"]
