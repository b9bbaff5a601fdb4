"""Fold a pre_quant_scale into the norm or projection before it, where that changes nothing.

A layer computes `Q(x * p) @ W`. The factor p of an input channel can move into the module whose output that channel
is: the norm before q/k/v and gate/up (its weight), v_proj for o_proj, up_proj for down_proj (the scales and biases of
their output channels; attention is linear in the values, the gate multiplies element by element).

The fold is exact to the bit where every p is a power of two and the product can be stored: scaling by a power of two
commutes with rounding. Otherwise each product is rounded anew. In float32 that is an error of at most 2**-23 of the
value, no more than another order of summation costs, and is accepted; in bfloat16 or float16 it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy

from checkpoint.convert.tensors import Tensor, Values, encode

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class AttentionShape:
    """The architecture of the attention: elements of a head, and the number of key and value heads."""

    head_size: int
    kv_heads: int


class CannotFoldError(Exception):
    """One layer cannot be folded; the text says why."""


def fold(
    tensors: Mapping[str, Tensor], shape: AttentionShape, kv_quantized: bool
) -> tuple[Tensors, dict[str, str], bool]:
    """Fold every pre_quant_scale away.

    Returns the tensors that change, the layers that are refused with the reason, and whether all folds are exact.
    """
    changed: Tensors = {}
    refused: dict[str, str] = {}
    exact = True
    for name in sorted(name for name in tensors if name.endswith(".pre_quant_scale")):
        layer = name.removesuffix(".pre_quant_scale")
        block, _, kind = layer.rpartition(".")
        try:
            into = _TARGETS.get(kind)
            if into is None:
                raise CannotFoldError("nothing is known of the module before a layer of this name")
            exact &= into(tensors, changed, block, kind, shape, kv_quantized)
        except CannotFoldError as error:
            refused[layer] = str(error)
    return changed, refused, exact


def _scale(tensors: Mapping[str, Tensor], layer: str) -> Values:
    scale = tensors[f"{layer}.pre_quant_scale"].values()
    if not (numpy.isfinite(scale) & (scale > 0)).all():
        raise CannotFoldError("its pre_quant_scale holds numbers that are not above 0, or not finite")
    return scale


def _into_norm(norm: str, readers: Sequence[str]) -> Callable[..., bool]:
    def into(tensors: Mapping[str, Tensor], changed: Tensors, block: str, kind: str, *_: object) -> bool:
        scale = _scale(tensors, f"{block}.{kind}")
        for other in readers:
            layer = f"{block}.{other}"
            if f"{layer}.pre_quant_scale" not in tensors:
                raise CannotFoldError(f"{other} reads the same norm and has no pre_quant_scale")
            if not numpy.array_equal(_scale(tensors, layer), scale):
                raise CannotFoldError(f"{other} reads the same norm with another pre_quant_scale")
        name = f"{block.rpartition('.')[0]}.{norm}.weight"
        return _multiply(tensors, changed, name, scale)

    return into


def _into_value(
    tensors: Mapping[str, Tensor], changed: Tensors, block: str, kind: str, shape: AttentionShape, kv_quantized: bool
) -> bool:
    scale = _scale(tensors, f"{block}.{kind}")
    if (scale == 1).all():
        return True
    if kv_quantized:
        raise CannotFoldError("v_proj would take it, and then the quantized KV cache would hold other values")
    grouped = scale.reshape(shape.kv_heads, -1, shape.head_size)
    if not (grouped == grouped[:, :1]).all():
        group = grouped.shape[1]
        raise CannotFoldError(f"{group} query heads share each value head, and want different factors of it")
    return _into_rows(tensors, changed, f"{block}.v_proj", grouped[:, 0].reshape(-1))


def _into_up(tensors: Mapping[str, Tensor], changed: Tensors, block: str, kind: str, *_: object) -> bool:
    return _into_rows(tensors, changed, f"{block}.up_proj", _scale(tensors, f"{block}.{kind}"))


def _into_rows(tensors: Mapping[str, Tensor], changed: Tensors, layer: str, scale: Values) -> bool:
    """Scale the output channels of a layer: its weight_scale (or, unquantized, its weight) and its bias."""
    if f"{layer}.weight" not in tensors:
        raise CannotFoldError(f"there is no {layer.rpartition('.')[2]} before it")
    target = f"{layer}.weight_scale" if f"{layer}.weight_scale" in tensors else f"{layer}.weight"
    # The layer's output is rounded to the model's type, which may be smaller than the scale's fp32.
    exact = _multiply(tensors, changed, target, scale, model=tensors[f"{layer}.pre_quant_scale"].dtype)
    return exact & (_multiply(tensors, changed, f"{layer}.bias", scale) if f"{layer}.bias" in tensors else True)


def _multiply(
    tensors: Mapping[str, Tensor], changed: Tensors, name: str, scale: Values, model: str | None = None
) -> bool:
    """Put `tensors[name]`, its first axis multiplied by `scale`, into `changed`; return whether it is exact."""
    before = tensors.get(name)
    if before is None:
        raise CannotFoldError(f"there is no {name} to fold it into")
    if before.shape[0] != len(scale):
        raise CannotFoldError(f"{name} has {before.shape[0]} channels, its pre_quant_scale {len(scale)}")
    product = before.values() * scale.reshape(-1, *[1] * (len(before.shape) - 1))
    stored = encode(product, before.dtype)
    powers = bool((numpy.frexp(scale)[0] == 0.5).all())
    exact = powers and numpy.array_equal(stored.values(), product)
    if not exact and (before.dtype != "F32" or model not in (None, "F32")):
        why = "is no power of two" if not powers else f"times {name} cannot be stored in {before.dtype}"
        raise CannotFoldError(f"its pre_quant_scale {why}: the product would be rounded in {model or before.dtype}")
    changed[name] = stored
    return exact


_TARGETS: dict[str, Callable[..., bool]] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), _into_norm("input_layernorm", ("q_proj", "k_proj", "v_proj"))),
    **dict.fromkeys(("gate_proj", "up_proj"), _into_norm("post_attention_layernorm", ("gate_proj", "up_proj"))),
    "o_proj": _into_value,
    "down_proj": _into_up,
}
