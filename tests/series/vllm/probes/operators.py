"""What stands in for the operators of the CPU's int8 layers: a tree has no compiled part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


def quantize(x: torch.Tensor, scale: Any, zero_point: Any, symmetric: bool) -> tuple[Any, ...]:
    """Stand in for `onednn_scaled_int8_quant` and `scaled_int8_quant`, with a static scale."""
    assert scale is not None
    assert zero_point is None
    assert symmetric
    return (x / scale).round().clamp(-128, 127).to(torch.int8), scale, None


def product(x: torch.Tensor, weight: torch.Tensor, scale: Any, weight_scale: torch.Tensor, bias: Any) -> torch.Tensor:
    """Return int8 `x` [M, K] times `weight` [K, N], with scales and bias, in fp64."""
    out = (x.double() @ weight.double()) * weight_scale.double().view(1, -1) * scale.double()
    return out if bias is None else out + bias.double()


def prepare(weight: Any, weight_scale: Any, out_dtype: Any, dynamic: bool, azp: bool, size: int) -> Any:
    """Stand in for `create_onednn_scaled_mm`: keep weight [K, N] and scales [N, 1]."""
    assert not dynamic
    assert not azp
    return SimpleNamespace(weight=weight.clone(), scale=weight_scale.clone(), n=weight.shape[1])


def multiply(handler: Any, x: Any, out: Any, scale: Any, zero_point: Any, azp: Any, bias: Any) -> None:
    """Stand in for `onednn_scaled_mm`."""
    out.copy_(product(x, handler.weight, scale, handler.scale, bias))


def multiply_at_once(x: Any, weight: Any, scale_a: Any, scale_b: Any, out_dtype: Any, bias: Any = None) -> Any:
    """Stand in for `cutlass_scaled_mm`, which v0.10.1 has for the CPU too."""
    return product(x, weight, scale_a, scale_b, bias).to(out_dtype)
