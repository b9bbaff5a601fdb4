"""Outlier channels, inserted by a rescaling that changes nothing but how hard the model is to quantize.

Large language models have a few activation channels that are tens of times larger than all others
(https://arxiv.org/abs/2208.07339, https://arxiv.org/abs/2211.10438, section 3); one scale for the whole tensor then
leaves the others a handful of int8 steps. Here a channel is multiplied where it is computed and divided where it is
read. The factor is a power of two, so that every product of the forward pass is exact: logits do not change by a bit.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import torch

FACTOR = 128.0
SHARE = 32  # one channel in so many


@torch.no_grad()
def insert(model: Any, seed: int, factor: float = FACTOR, device: str = "cpu") -> None:
    """Rescale channels of every decoder layer of a Qwen2.5-VL, in place.

    Four places a layer: both norms, against the projections that read them; value against output; up against down.
    """
    generator = torch.Generator().manual_seed(seed)

    def choose(size: int) -> torch.Tensor:
        return torch.randperm(size, generator=generator)[: size // SHARE].to(device)

    for layer in model.model.language_model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for norm, readers in (
            (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
        ):
            channels = choose(len(norm.weight))
            norm.weight[channels] *= factor
            for linear in readers:
                linear.weight[:, channels] /= factor
        channels = choose(mlp.up_proj.out_features)
        _scale_rows(mlp.up_proj, channels, factor)
        mlp.down_proj.weight[:, channels] /= factor
        channels = choose(attention.v_proj.out_features)
        _scale_rows(attention.v_proj, channels, factor)
        # Each value head serves a group of query heads, whose outputs lie side by side.
        size = attention.head_dim
        group = attention.o_proj.in_features // attention.v_proj.out_features
        head, inner = channels // size, channels % size
        for member in range(group):
            attention.o_proj.weight[:, (head * group + member) * size + inner] /= factor


def _scale_rows(linear: Any, rows: torch.Tensor, factor: float) -> None:
    linear.weight[rows] *= factor
    if linear.bias is not None:
        linear.bias[rows] *= factor
