"""What vLLM's int8 layer for CPUs computes, of values all over the range: `int8_cpu.py ANSWER`, where vLLM is.

ANSWER is a list of objects: `dtype`, `static` (input scale), `bias`, `rows`, and `off`, the largest error, in the
largest magnitude of the exact output.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from vllm.model_executor.kernels.linear.scaled_mm.cpu import CPUInt8ScaledMMLinearKernel
from vllm.model_executor.kernels.linear.scaled_mm.ScaledMMLinearKernel import Int8ScaledMMLinearLayerConfig

# AMX takes multiples of 32 alone; these are for oneDNN on every CPU.
K, N = 330, 192
NAMES = ("weight", "weight_scale", "input_scale", "input_zero_point", "azp_adj")


def layer(weight: torch.Tensor, weight_scale: torch.Tensor, input_scale: torch.Tensor | None) -> Any:
    """Return a layer as it is loaded."""
    module: Any = torch.nn.Module()
    module.logical_widths = [N]
    module.bias = None
    for name, value in zip(NAMES, (weight, weight_scale, input_scale, None, None), strict=True):
        module.register_parameter(name, None if value is None else torch.nn.Parameter(value, requires_grad=False))
    return module


def case(dtype: torch.dtype, static: bool, bias: bool, rows: int) -> dict[str, Any]:
    """Return how far one layer is from the exact product."""
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randint(-128, 128, (N, K), generator=generator).to(torch.int8)
    weight_scale = torch.rand(N, 1, generator=generator, dtype=torch.float32) * 1e-2
    # Quantized, these are themselves, with a scale of 1: the largest of each row is 127.
    x = torch.randint(-127, 128, (rows, K), generator=generator)
    x[:, 0] = 127
    added = torch.randn(N, generator=generator).to(dtype) if bias else None
    torch.set_default_dtype(dtype)
    config = Int8ScaledMMLinearLayerConfig(is_channelwise=True, is_static_input_scheme=static, input_symmetric=True)
    kernel = CPUInt8ScaledMMLinearKernel(config, NAMES)
    module = layer(weight, weight_scale, torch.tensor(1.0, dtype=torch.float32) if static else None)
    kernel.process_weights_after_loading(module)
    out = kernel.apply_weights(module, x.to(dtype), added)
    exact = (x.double() @ weight.double().T) * weight_scale.double().T
    if added is not None:
        exact = exact + added.double()
    off = ((out.double() - exact).abs().max() / exact.abs().max()).item()
    return {"dtype": str(out.dtype), "static": static, "bias": bias, "rows": rows, "off": off}


def main() -> None:
    """Do all cases."""
    ways = itertools.product((torch.float32, torch.bfloat16), (True, False), (True, False), (1, 5, 64))
    Path(sys.argv[1]).write_text(json.dumps([case(*way) for way in ways]))


if __name__ == "__main__":
    main()
