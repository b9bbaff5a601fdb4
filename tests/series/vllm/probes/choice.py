"""Which int8 kernel vLLM chooses, by compute capability; on a machine with or without a GPU.

The platform's own answers are set, since a machine without a GPU has none; the choice is upstream's code.
"""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any
from unittest import mock

from release import release
from vllm.platforms.interface import DeviceCapability, PlatformEnum

GPUS = [(7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)]


class Gpu:
    """A CUDA device of some capability."""

    _enum = PlatformEnum.CUDA
    capability: Any = None

    def is_cpu(self) -> bool:
        return False

    def is_cuda(self) -> bool:
        return True

    def is_cuda_alike(self) -> bool:
        return True

    def is_xpu(self) -> bool:
        return False

    def get_device_capability(self, device_id: int = 0) -> Any:
        return self.capability


def choose(gpu: Gpu, capability: tuple[int, int] | None, named: bool, static: bool = False) -> str:
    """Return the kernel for a capability that is `named`, or that of the device that is there.

    A layer with a dynamic input scale is what upstream's own kernels alone can have.
    """
    gpu.capability = DeviceCapability(*capability) if capability else None
    number = capability[0] * 10 + capability[1] if named and capability else None
    with ExitStack() as stack:
        try:
            kernel = release.choose(stack, gpu, number, static)
        except ValueError as error:
            return str(error)
    return family(kernel)


def family(kernel: Any) -> str:
    """Return the first part of a kernel's name: v0.10.1 does not call them Int8."""
    return str(kernel.__name__).removesuffix("ScaledMMLinearKernel").removesuffix("Int8")


def probe(_: None) -> dict[str, Any]:
    gpu = Gpu()
    answer: dict[str, Any] = {
        "named": {f"{a}.{b}": choose(gpu, (a, b), True) for a, b in GPUS},
        "present": {f"{a}.{b}": choose(gpu, (a, b), False) for a, b in GPUS},
        "unknown": choose(gpu, None, False),
        "reason": release.reason(gpu, 120),
        "fused": {},
    }
    for choice in ("auto", "triton", "cutlass"):
        with mock.patch.dict(os.environ, VLLM_FUSED_INT8_LINEAR=choice):
            answer["fused"][choice] = {f"{a}.{b}": choose(gpu, (a, b), True, static=True) for a, b in GPUS}
    return answer
