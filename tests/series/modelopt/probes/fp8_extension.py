"""The fake quantization to FP8 on a GPU: the fallback beside the CUDA extension, bit by bit.

`fp8_extension.py ANSWER`, with ModelOpt on the path and a GPU; the extension is built if it was not.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from modelopt.torch.quantization import extensions
from modelopt.torch.quantization.tensor_quant import fp8_eager

TYPES = {
    "fp16": (torch.float16, torch.int16),
    "bf16": (torch.bfloat16, torch.int16),
    "fp32": (torch.float32, torch.int32),
}
RANGES = (0.0, 1e-9, 0.001, 1.0, 1.7, 6.0, 448.0)
ROWS, COLUMNS = 64, 4096


def values(dtype: torch.dtype, amax: float) -> torch.Tensor:
    """Return finite values for a range: within, beyond, on the steps and between, subnormal, and both zeros."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, COLUMNS, generator=generator) * (amax or 1) / 2
    x[1] *= 100  # beyond the range
    x[2] *= 2**-12  # where e4m3 has subnormals and less
    x[3] = torch.randn(COLUMNS, generator=generator) * torch.finfo(dtype).smallest_normal / 2
    # Every step of e4m3, and half way to the next one.
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    steps = codes[codes.isfinite()].sort().values
    grid = torch.cat([steps, (steps[1:] + steps[:-1]) / 2]) * ((amax or 1) / 448)
    x[4, : len(grid)] = grid
    x[5] = 0.0
    x[6] = -0.0
    x[7] = torch.finfo(dtype).max * x[7].sign()
    return x.clamp(torch.finfo(dtype).min, torch.finfo(dtype).max).to(dtype).cuda()


def ask(extension: Any, name: str, per_channel: bool, amax: float) -> dict[str, Any]:
    """Count the values, those that differ in a bit, and the NaN of each."""
    dtype, bits = TYPES[name]
    x = values(dtype, amax)
    limit = torch.full((ROWS, 1) if per_channel else (), amax, device="cuda")
    if per_channel:
        limit *= torch.linspace(0.5, 1.5, ROWS, device="cuda")[:, None]
        limit[8] = 0
        built = extension.fake_e4m3fy_with_axis(x, limit.squeeze(), 0)
    else:
        built = extension.fake_e4m3fy(x, limit)
    fallback = fp8_eager(x, limit)
    return {
        "values": x.numel(),
        "different": int((built.view(bits) != fallback.view(bits)).sum()),
        "not equal": int((built != fallback).sum()),
        "nan": [int(values.isnan().sum()) for values in (built, fallback)],
    }


def main() -> None:
    """Ask per type, per tensor and per channel, for each range."""
    extension = extensions.get_cuda_ext_fp8(raise_if_failed=True)
    answers = {
        f"{name} {'channel' if per_channel else 'tensor'} {amax}": ask(extension, name, per_channel, amax)
        for name in TYPES
        for per_channel in (False, True)
        for amax in RANGES
    }
    Path(sys.argv[1]).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
