"""The fake quantization to FP8 that is used without the CUDA extension."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from modelopt.torch.quantization.tensor_quant import scaled_e4m3_impl
from torch.utils._python_dispatch import TorchDispatchMode

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class Casts(TorchDispatchMode):  # type: ignore[misc]
    """Notes the largest value that is cast to float8: newer releases of torch saturate there, older ones make NaN."""

    largest = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kwargs and kwargs.get("dtype") == torch.float8_e4m3fn:
            self.largest = max(self.largest, args[0].abs().max().item())
        return function(*args, **(kwargs or {}))


def saturating(x: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
    """Return what the extension has for `x`: the nearest of e4m3's 253 finite values, scaled by true divisions."""
    amax = torch.where(amax == 0, torch.ones_like(amax), amax).float()
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    values = codes[codes.isfinite()].unique().sort().values
    scale = torch.full_like(amax, 448.0) / amax
    scaled = (x.float() * scale).clamp(-448, 448)
    middles = (values[1:] + values[:-1]) / 2
    return (values[torch.searchsorted(middles, scaled)] * (torch.ones_like(scale) / scale)).to(x.dtype)


def ask(dtype: torch.dtype, per_channel: bool, amax: float) -> dict[str, Any]:
    """Quantize values of up to four times the range."""
    x = (torch.randn(8, 33, generator=torch.Generator().manual_seed(0)) * 2).to(dtype)
    x[0] = 0
    limit = torch.full((8, 1) if per_channel else (), amax)
    if per_channel:
        limit[0] = 0
    with Casts() as casts:
        got = scaled_e4m3_impl(x, limit)
    expected = saturating(x, limit)
    return {
        "nan": int(got.isnan().sum()),
        "type": got.dtype == dtype,
        # Ties are rounded to even by the cast, and by the look-up to the smaller: none is among the values.
        "different": int((got != expected).sum()),
        "beyond": int((x.float().abs() > limit).sum()),
        "largest cast": casts.largest,
    }


def probe(folder: Path) -> dict[str, Any]:
    """Ask per type, per tensor and per channel; with a range of one, of zero, and one that rounds."""
    return {
        f"{name} {'channel' if per_channel else 'tensor'} {amax}": ask(dtype, per_channel, amax)
        for name, dtype in TYPES.items()
        for per_channel in (False, True)
        for amax in (1.0, 0.0, 1.7)
    }
