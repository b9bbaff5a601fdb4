"""Which int8 kernel vLLM chooses, by compute capability; on a machine with or without a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..conftest import Answer, Ask, Trees, Which
from .bases import BASES

pytestmark = pytest.mark.slow

# The platform's own answers are set, since a machine without a GPU has none; what is asked is upstream's code.
CHOOSE = """
import os
from vllm.platforms import current_platform
import vllm.model_executor.kernels.linear as linear
import vllm.model_executor.kernels.linear.scaled_mm.cutlass as cutlass
from vllm.platforms.interface import DeviceCapability, PlatformEnum

class Gpu:
    _enum = PlatformEnum.CUDA
    capability = None
    def is_cuda(self): return True
    def is_cuda_alike(self): return True
    def is_xpu(self): return False
    def get_device_capability(self, device_id=0): return self.capability
gpu = Gpu()
import vllm.model_executor.kernels.linear.scaled_mm.triton as triton
for module in (linear, cutlass, triton):
    module.current_platform = gpu
# A dynamic input scale is what upstream's two kernels alone can have.
dynamic, static = (
    linear.Int8ScaledMMLinearLayerConfig(is_static_input_scheme=it, is_channelwise=True, input_symmetric=True)
    for it in (False, True))

def choose(capability, argument, config=dynamic):
    gpu.capability = DeviceCapability(*capability) if capability else None
    number = capability[0] * 10 + capability[1] if argument and capability else None
    try:
        kernel = linear.choose_scaled_mm_linear_kernel(
            config, linear._POSSIBLE_INT8_KERNELS, number, quantization="int8")
    except ValueError as error:
        return str(error)
    return kernel.__name__
def choose_fused(capability, choice):
    os.environ["VLLM_FUSED_INT8_LINEAR"] = choice
    return choose(capability, True, static)
try:
    import vllm.model_executor.kernels.linear.scaled_mm.fused_int8 as fused
    fused.current_platform, fused.HAS_TRITON = gpu, True
except ImportError:
    fused = None
gpus = [(7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)]
supported = cutlass.CutlassInt8ScaledMMLinearKernel.is_supported
answer({
    "asked": {f"{a}.{b}": choose((a, b), True) for a, b in gpus},
    "present": {f"{a}.{b}": choose((a, b), False) for a, b in gpus},
    "unknown": choose(None, False),
    "reason": supported(120)[1],
    "fused": fused and {
        choice: {f"{a}.{b}": choose_fused((a, b), choice) for a, b in gpus}
        for choice in ("auto", "triton", "cutlass")},
})
"""


@pytest.fixture(scope="module")
def chosen(base: str, trees: Callable[[str], Trees], ask: Ask) -> dict[Which, Answer]:
    both, environment = trees(f"vllm@{base}"), BASES[base].imports
    return {
        "base": ask(both.base, CHOOSE, environment=environment),
        "patched": ask(both.patched, CHOOSE, environment=environment),
    }


CUTLASS, TRITON = "CutlassInt8ScaledMMLinearKernel", "TritonInt8ScaledMMLinearKernel"


@pytest.mark.parametrize("how", ["asked", "present"])
def test_the_kernel_chosen(chosen: dict[Which, Answer], how: str) -> None:
    old, new = chosen["base"].value[how], chosen["patched"].value[how]
    assert set(old.values()) == {CUTLASS}, "the unpatched release takes CUTLASS everywhere"
    for capability, kernel in new.items():
        assert kernel == (CUTLASS if float(capability) < 10 else TRITON), capability


FUSED = "FusedInt8ScaledMMLinearKernel"


@pytest.mark.patch("int8-fused-linear")
@pytest.mark.parametrize("choice", ["auto", "triton", "cutlass"])
def test_the_fused_kernel_chosen(chosen: dict[Which, Answer], choice: str) -> None:
    assert chosen["base"].value["fused"] is None
    for capability, kernel in chosen["patched"].value["fused"][choice].items():
        number = float(capability)
        if number < 8:
            assert kernel == CUTLASS, capability
        elif number >= 10 and choice == "cutlass":
            assert kernel == TRITON, "CUTLASS cannot be forced where it has no kernel"
        else:
            assert kernel == FUSED, capability


def test_a_device_that_does_not_say_keeps_upstreams_choice(chosen: dict[Which, Answer]) -> None:
    assert chosen["patched"].value["unknown"] == chosen["base"].value["unknown"] == CUTLASS


def test_the_reason_names_the_architecture(chosen: dict[Which, Answer]) -> None:
    assert chosen["base"].value["reason"] is None
    assert "sm_120" in chosen["patched"].value["reason"]
