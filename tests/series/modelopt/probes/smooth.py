"""SmoothQuant of one linear layer with channels that calibration never woke."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import copy
import traceback
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import torch

WIDTH = 64
SLEEPING = [5, 17]


def smooth(dtype: torch.dtype, alpha: float, sleeping: list[int], column_of_zeros: int | None = None) -> dict[str, Any]:
    """Return the layer's scale per channel and how far its product is off, asleep and awake."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, 48, bias=False, dtype=dtype))
    if column_of_zeros is not None:
        model[0].weight.data[:, column_of_zeros] = 0
    x = torch.randn(32, WIDTH, dtype=dtype) * torch.linspace(0.05, 4, WIDTH, dtype=dtype)
    x[:, sleeping] = 0
    awake = x.clone()
    awake[:, sleeping] = 0.5
    with torch.no_grad():
        expected = [model(batch) for batch in (x, awake)]
        config = copy.deepcopy(mtq.INT8_SMOOTHQUANT_CFG)
        config["algorithm"] = {"method": "smoothquant", "alpha": alpha}
        try:
            mtq.quantize(model, config, lambda quantized: quantized(x))
        except Exception:
            return {"error": traceback.format_exc()}
        got = [model(batch) for batch in (x, awake)]
    off = [(a - b).float().norm().item() / (b.float().norm().item() or 1) for a, b in zip(got, expected, strict=True)]
    scale = model[0].input_quantizer.pre_quant_scale.float().flatten()
    live = torch.ones(WIDTH, dtype=torch.bool)
    live[sleeping] = False
    return {
        "sleeping": scale[sleeping].tolist(),
        "live": [scale[live].min().item(), scale[live].max().item()] if live.any() else None,
        "positive": bool((scale.isfinite() & (scale > 0)).all()),
        "off asleep": off[0],
        "off awake": off[1],
    }


def probe(folder: Path) -> dict[str, Any]:
    """Ask with every alpha and type that is in use, and where nothing woke at all."""
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    cases = {f"{name} {alpha}": smooth(dtype, alpha, SLEEPING) for name, dtype in types.items() for alpha in (1.0, 0.5)}
    cases["zeros in the weight"] = smooth(torch.float32, 0.5, SLEEPING, column_of_zeros=SLEEPING[0])
    cases["none sleeps"] = smooth(torch.float32, 1.0, [])
    cases["all sleep"] = smooth(torch.float32, 1.0, list(range(WIDTH)))
    return cases
