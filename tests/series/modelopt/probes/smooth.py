"""SmoothQuant of one linear layer with channels that are all zero (dead) in calibration."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import copy
import traceback
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import torch

WIDTH = 64
DEAD = [5, 17]


def smooth(dtype: torch.dtype, alpha: float, dead: list[int], column_of_zeros: int | None = None) -> dict[str, Any]:
    """Return the layer's scales, and its relative error for zeros and for other values in the dead channels."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, 48, bias=False, dtype=dtype))
    if column_of_zeros is not None:
        model[0].weight.data[:, column_of_zeros] = 0
    x = torch.randn(32, WIDTH, dtype=dtype) * torch.linspace(0.05, 4, WIDTH, dtype=dtype)
    x[:, dead] = 0
    nonzero = x.clone()
    nonzero[:, dead] = 0.5
    with torch.no_grad():
        expected = [model(batch) for batch in (x, nonzero)]
        config = copy.deepcopy(mtq.INT8_SMOOTHQUANT_CFG)
        config["algorithm"] = {"method": "smoothquant", "alpha": alpha}
        try:
            mtq.quantize(model, config, lambda quantized: quantized(x))
        except Exception:
            return {"error": traceback.format_exc()}
        got = [model(batch) for batch in (x, nonzero)]
    off = [(a - b).float().norm().item() / (b.float().norm().item() or 1) for a, b in zip(got, expected, strict=True)]
    scale = model[0].input_quantizer.pre_quant_scale.float().flatten()
    live = torch.ones(WIDTH, dtype=torch.bool)
    live[dead] = False
    return {
        "dead": scale[dead].tolist(),
        "live": [scale[live].min().item(), scale[live].max().item()] if live.any() else None,
        "positive": bool((scale.isfinite() & (scale > 0)).all()),
        "off zero": off[0],
        "off nonzero": off[1],
    }


def probe(folder: Path) -> dict[str, Any]:
    """Return the results for every alpha and type in use, and for a layer with no dead or only dead channels."""
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    cases = {f"{name} {alpha}": smooth(dtype, alpha, DEAD) for name, dtype in types.items() for alpha in (1.0, 0.5)}
    cases["zeros in the weight"] = smooth(torch.float32, 0.5, DEAD, column_of_zeros=DEAD[0])
    cases["none dead"] = smooth(torch.float32, 1.0, [])
    cases["all dead"] = smooth(torch.float32, 1.0, list(range(WIDTH)))
    return cases
