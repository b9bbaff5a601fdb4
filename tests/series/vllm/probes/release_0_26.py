"""Where vLLM has things from v0.26.0 on."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest import mock

import operators
import torch
import vllm.model_executor.kernels.linear as linear
import vllm.model_executor.kernels.linear.scaled_mm.cutlass as cutlass
import vllm.model_executor.kernels.linear.scaled_mm.triton as triton
from vllm.model_executor import parameter
from vllm.model_executor.layers.quantization import modelopt
from vllm.scalar_type import scalar_types
from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

try:
    import vllm.model_executor.kernels.linear.scaled_mm.fused_int8 as fused
except ImportError:
    fused = None
try:
    # v0.26.0 has a class for each format, and those of INT8 in a module of their own.
    from vllm.model_executor.layers.quantization import modelopt_int8
except ImportError:
    modelopt_int8 = None

CONFIGS = {"modelopt": modelopt.ModelOptFp8Config, "modelopt_mixed": modelopt.ModelOptMixedPrecisionConfig}
# The module that has PreQuantScaleParameter, and the modules that ask for the rank.
MODELOPT = modelopt_int8 or modelopt
RANKS = (parameter,)
OPERATORS = {
    "onednn_scaled_int8_quant": operators.quantize,
    "create_onednn_scaled_mm": operators.prepare,
    "onednn_scaled_mm": operators.multiply,
}


def choose(stack: ExitStack, gpu: Any, number: int | None, static: bool) -> Any:
    """Return the class of the int8 kernel for a capability. ValueError: there is none."""
    for module in (linear, cutlass, triton, fused):
        if module is not None:
            stack.enter_context(mock.patch.object(module, "current_platform", gpu))
    if fused is not None:
        stack.enter_context(mock.patch.object(fused, "HAS_TRITON", True))
    config = linear.Int8ScaledMMLinearLayerConfig(
        is_static_input_scheme=static, is_channelwise=True, input_symmetric=True
    )
    select = linear.choose_scaled_mm_linear_kernel
    more = {"quantization": "int8"} if "quantization" in inspect.signature(select).parameters else {}
    return select(config, linear._POSSIBLE_INT8_KERNELS, number, **more)


def reason(gpu: Any, number: int) -> str | None:
    """Return why CUTLASS is not for a capability."""
    with mock.patch.object(cutlass, "current_platform", gpu):
        why: str | None = cutlass.CutlassInt8ScaledMMLinearKernel.is_supported(number)[1]
    return why


def normalized(config: Any) -> Any:
    """Return the quantization that a model's configuration tells, with its method."""
    return object.__new__(ModelArchConfigConvertorBase)._normalize_quantization_config(config)


def experts() -> Any:
    """Return a layer of experts, not built up yet."""
    return object.__new__(modelopt.RoutedExperts)


def smoother(apply: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return what SmoothQuant does around the `apply` of its kernel: a function of a layer and its input."""
    if modelopt_int8 is None:
        return lambda layer, x: modelopt._SMOOTH_QUANT.apply(layer, x, None, apply)
    method = modelopt_int8.ModelOptInt8SqLinearMethod(None)
    method.kernel = SimpleNamespace(apply_weights=apply)
    multiply: Callable[[Any, Any], Any] = method.apply
    return multiply


def dequantizing(shape: tuple[int, int]) -> Any:
    """Return the CPU's kernel for int8 weights of a layer [in, out], which has them as `weight` and `scale`."""
    config = linear.MPLinearLayerConfig(
        full_weight_shape=shape,
        partition_weight_shape=shape,
        weight_type=scalar_types.uint8b128,
        act_type=torch.float32,
        group_size=-1,
        zero_points=False,
        **({"has_g_idx": False} if "has_g_idx" in linear.MPLinearLayerConfig.__dataclass_fields__ else {}),
    )
    return linear.CPUDequantW8A16LinearKernel(config, w_q_param_name="weight", w_s_param_name="scale")
