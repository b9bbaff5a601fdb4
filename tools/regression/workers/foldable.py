"""Smoothing that can be folded away without an error: powers of two, shared where query heads share a value head.

SmoothQuant is free in its choice of pre_quant_scale: what the activation is multiplied by, the weight is divided by.
A power of two commutes with every rounding of floating point, so that a norm or the projection before can take it;
and o_proj's can move into v_proj's output only where all query heads of a group want the same.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import modelopt.torch.quantization as mtq
import torch


@torch.no_grad()
def make_foldable(model: Any, calibrate: Callable[[], None]) -> None:
    """Replace every pre_quant_scale of a quantized Qwen2.5-VL's decoder, in place, and calibrate again."""
    for layer in model.model.language_model.layers:
        attention = layer.self_attn
        for linear in (*_linears(attention), *_linears(layer.mlp)):
            quantizer = getattr(linear, "input_quantizer", None)
            old = getattr(quantizer, "pre_quant_scale", None)
            if quantizer is None or old is None:
                continue
            new = torch.exp2(torch.log2(old.float()).round())
            if linear is attention.o_proj:
                new = _shared(new, attention)
            linear.weight.data = (linear.weight.float() * (old.float() / new)).to(linear.weight.dtype)
            quantizer.pre_quant_scale = new.to(old.dtype)
    mtq.calibrate(model.model.language_model, "max", lambda _: calibrate())


def _shared(scale: torch.Tensor, attention: Any) -> torch.Tensor:
    """Give all query heads of a group the smallest scale: no activation then exceeds what it would be calibrated to."""
    values, size = attention.v_proj.out_features, attention.head_dim
    grouped = scale.view(values // size, -1, size)
    return grouped.amin(1, keepdim=True).expand_as(grouped).reshape(scale.shape)


def _linears(module: Any) -> list[Any]:
    return [child for child in module.children() if hasattr(child, "input_quantizer")]
