"""Where vLLM v0.10.1 has things."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any
from unittest import mock

import operators
import torch
import vllm.model_executor.layers.quantization.kernels.mixed_precision as mixed
import vllm.model_executor.layers.quantization.kernels.scaled_mm as linear
from vllm.config import ModelConfig
from vllm.model_executor import parameter
from vllm.model_executor.layers.fused_moe.layer import FusedMoE
from vllm.model_executor.layers.quantization import modelopt
from vllm.model_executor.layers.quantization.kernels.scaled_mm import cutlass, triton
from vllm.scalar_type import scalar_types

try:
    from vllm.model_executor.layers.quantization import modelopt_int8
except ImportError:
    modelopt_int8 = None

CONFIGS = {"modelopt": modelopt.ModelOptFp8Config}
MODELOPT = modelopt_int8
RANKS = (parameter, modelopt_int8) if modelopt_int8 is not None else (parameter,)
OPERATORS = {"scaled_int8_quant": operators.quantize, "cutlass_scaled_mm": operators.multiply_at_once}


def choose(stack: ExitStack, gpu: Any, number: int | None, static: bool) -> Any:
    """Return the class of the int8 kernel for a capability. ValueError: there is none."""
    for module in (linear, cutlass, triton):
        stack.enter_context(mock.patch.object(module, "current_platform", gpu))
    config = linear.ScaledMMLinearLayerConfig(is_static_input_scheme=static, is_channelwise=True, input_symmetric=True)
    return linear.choose_scaled_mm_linear_kernel(config, number)


def reason(gpu: Any, number: int) -> str | None:
    """Return why CUTLASS is not for a capability."""
    without = {"VLLM_DISABLED_KERNELS": "TritonScaledMMLinearKernel"}
    with ExitStack() as stack, mock.patch.dict(os.environ, without):
        try:
            choose(stack, gpu, number, static=False)
        except ValueError as error:
            return str(error)
    return None


def normalized(config: Any) -> Any:
    """Return the quantization that a model's configuration tells, with its method."""
    model = object.__new__(ModelConfig)
    model.hf_config = config
    return model._parse_quant_hf_config()


def experts() -> Any:
    """Return a layer of experts, not built up yet."""
    return object.__new__(FusedMoE)


def dequantizing(shape: tuple[int, int]) -> Any:
    """Return the CPU's kernel for int8 weights of a layer [in, out], which has them as `weight` and `scale`."""
    config = mixed.MPLinearLayerConfig(
        full_weight_shape=shape,
        partition_weight_shape=shape,
        weight_type=scalar_types.uint8b128,
        act_type=torch.float32,
        group_size=-1,
        zero_points=False,
        has_g_idx=False,
    )
    return mixed.CPUDequantW8A16LinearKernel(config, w_q_param_name="weight", w_s_param_name="scale")
