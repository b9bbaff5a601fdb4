"""Who applies pre_quant_scale. No GPU is there: the fused operator is replaced by one that says what it was given."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import vllm.model_executor.kernels.linear.scaled_mm.fused_int8 as fused
from vllm.model_executor.layers.quantization import modelopt


class Layer(torch.nn.Module):
    """A layer of two outputs and three inputs, as it is once it is loaded."""

    logical_widths = (2,)
    bias = None

    def __init__(self) -> None:
        super().__init__()
        values = {
            "weight": torch.ones(2, 3, dtype=torch.int8),
            "weight_scale": torch.ones(2, 1),
            "input_scale": torch.tensor(0.5),
            "pre_quant_scale": torch.tensor([1.0, 2.0, 3.0]),
        }
        for name, value in values.items():
            setattr(self, name, torch.nn.Parameter(value, requires_grad=False))


def probe(_: None) -> dict[str, Any]:
    given = []

    def fused_int8_linear(
        x: Any, pre: Any, weight: Any, weight_scale: Any, input_scale: Any, bias: Any, choice: str
    ) -> Any:
        given.append([x.tolist(), None if pre is None else pre.tolist(), list(weight.shape), choice])
        return x

    def meta(*shape: int) -> Any:
        return torch.empty(*shape, dtype=torch.half, device="meta")

    fake = fused._fused_int8_linear_fake(meta(2, 0, 3), None, meta(3, 5), None, None, None, "auto")
    kernel = object.__new__(fused.FusedInt8ScaledMMLinearKernel)
    kernel.config = fused.Int8ScaledMMLinearLayerConfig(
        is_static_input_scheme=True, is_channelwise=True, input_symmetric=True
    )
    kernel.layer_param_names = ["weight", "weight_scale", "input_scale", "input_zero_point", "azp_adj"]
    kernel.choice = "triton"
    ours, others, x = Layer(), Layer(), torch.ones(1, 3)
    kernel.process_weights_after_loading(ours)
    operators = SimpleNamespace(vllm=SimpleNamespace(fused_int8_linear=fused_int8_linear))
    with mock.patch.object(torch, "ops", operators):
        modelopt._SMOOTH_QUANT.apply(ours, x, None, lambda layer, value, bias: kernel.apply_weights(layer, value, bias))
        plain = modelopt._SMOOTH_QUANT.apply(others, x, None, lambda layer, value, bias: value)
    return {"given": given, "plain": plain.tolist(), "fake": [list(fake.shape), str(fake.dtype)]}
