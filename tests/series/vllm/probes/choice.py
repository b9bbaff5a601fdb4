"""Which int8 kernel vLLM chooses, by compute capability; on a machine with or without a GPU.

The platform's own answers are set, since a machine without a GPU has none; what is asked is upstream's code.
"""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any
from unittest import mock

import vllm.model_executor.kernels.linear as linear
import vllm.model_executor.kernels.linear.scaled_mm.cutlass as cutlass
import vllm.model_executor.kernels.linear.scaled_mm.triton as triton
from vllm.platforms.interface import DeviceCapability, PlatformEnum

try:
    import vllm.model_executor.kernels.linear.scaled_mm.fused_int8 as fused
except ImportError:
    fused = None

GPUS = [(7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)]


class Gpu:
    """A CUDA device of some capability."""

    _enum = PlatformEnum.CUDA
    capability: Any = None

    def is_cuda(self) -> bool:
        return True

    def is_cuda_alike(self) -> bool:
        return True

    def is_xpu(self) -> bool:
        return False

    def get_device_capability(self, device_id: int = 0) -> Any:
        return self.capability


def layer(static: bool) -> Any:
    """Return a layer; one with a dynamic input scale is what upstream's own kernels alone can have."""
    return linear.Int8ScaledMMLinearLayerConfig(
        is_static_input_scheme=static, is_channelwise=True, input_symmetric=True
    )


def choose(gpu: Gpu, capability: tuple[int, int] | None, asked: bool, static: bool = False) -> str:
    """Return the kernel for a capability that is `asked` for, or that of the device that is there."""
    gpu.capability = DeviceCapability(*capability) if capability else None
    number = capability[0] * 10 + capability[1] if asked and capability else None
    try:
        kernel = linear.choose_scaled_mm_linear_kernel(
            layer(static), linear._POSSIBLE_INT8_KERNELS, number, quantization="int8"
        )
    except ValueError as error:
        return str(error)
    return str(kernel.__name__)


def probe(_: None) -> dict[str, Any]:
    gpu = Gpu()
    with ExitStack() as stack:
        for module in (linear, cutlass, triton, fused):
            if module is not None:
                stack.enter_context(mock.patch.object(module, "current_platform", gpu))
        answer: dict[str, Any] = {
            "asked": {f"{a}.{b}": choose(gpu, (a, b), True) for a, b in GPUS},
            "present": {f"{a}.{b}": choose(gpu, (a, b), False) for a, b in GPUS},
            "unknown": choose(gpu, None, False),
            "reason": cutlass.CutlassInt8ScaledMMLinearKernel.is_supported(120)[1],
            "fused": None,
        }
        if fused is not None:
            stack.enter_context(mock.patch.object(fused, "HAS_TRITON", True))
            answer["fused"] = {}
            for choice in ("auto", "triton", "cutlass"):
                stack.enter_context(mock.patch.dict(os.environ, VLLM_FUSED_INT8_LINEAR=choice))
                answer["fused"][choice] = {f"{a}.{b}": choose(gpu, (a, b), True, static=True) for a, b in GPUS}
        return answer
