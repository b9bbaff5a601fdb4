"""INT8 in floating point, plain and with SmoothQuant: how much accuracy each of them costs a model.

Weights have a scale for each output channel, activations one static scale for the tensor, both symmetric: what
ModelOpt's INT8_DEFAULT_CFG and INT8_SMOOTHQUANT_CFG do. SmoothQuant divides each input channel by a power of its
largest activation before it is quantized (https://arxiv.org/abs/2211.10438, equation 4, with alpha 1).
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def int8(model: Any, calibrate: Callable[[], None], smooth: bool) -> Iterator[None]:
    """Make the decoder's linear layers compute as int8 ones inside the block; `calibrate` runs the model."""
    linears = [module for module in model.model.language_model.modules() if isinstance(module, torch.nn.Linear)]
    largest = {linear: torch.zeros(linear.in_features) for linear in linears}

    def watch(linear: Any, inputs: tuple[torch.Tensor]) -> None:
        values = inputs[0].detach().abs().flatten(0, -2).amax(0)
        largest[linear] = torch.maximum(largest[linear], values)

    handles = [linear.register_forward_pre_hook(watch) for linear in linears]
    calibrate()
    _remove(handles)
    weights = {linear: linear.weight.data for linear in linears}
    handles = [_quantize(linear, largest[linear], smooth) for linear in linears]
    try:
        yield
    finally:
        _remove(handles)
        for linear, weight in weights.items():
            linear.weight.data = weight


def _quantize(linear: Any, largest: torch.Tensor, smooth: bool) -> Any:
    channel = 1 / largest.clamp_min(1e-4) if smooth else torch.ones_like(largest)
    step = (largest * channel).max() / 127
    weight = linear.weight.data / channel
    scale = weight.abs().amax(1, keepdim=True) / 127
    linear.weight.data = (weight / scale).round() * scale

    def hook(_: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return ((inputs[0] * channel / step).round().clamp(-128, 127) * step,)

    return linear.register_forward_pre_hook(hook)


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
