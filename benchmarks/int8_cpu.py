"""vLLM's int8 layer on a CPU without VNNI: the clipped product of the release beside the series' exact one, in turns.

    python benchmarks/int8_cpu.py

Milliseconds, medians, one thread, a static input scale, 2048 x 2560. Wants the patched vLLM for CPUs; the release's way
is its own code, which the patch leaves to CPUs that multiply exactly. ONEDNN_MAX_CPU_ISA=AVX2 makes any newer x86 one
without VNNI.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as functional
from vllm.model_executor.kernels.linear.scaled_mm import cpu
from vllm.model_executor.kernels.linear.scaled_mm.ScaledMMLinearKernel import Int8ScaledMMLinearLayerConfig

K, N = 2048, 2560
ROWS = (1, 16, 256)
NAMES = ("weight", "weight_scale", "input_scale", "input_zero_point", "azp_adj")
SLOW = 1.0  # seconds of a call that is not worth being repeated often
TURNS = (7, 2)


def loaded(saturates: bool, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a kernel and its layer, on a CPU of which `saturates` is said."""
    torch.set_default_dtype(dtype)
    layer: Any = torch.nn.Module()
    layer.logical_widths, layer.bias = [N], None
    values = {
        "weight": torch.randint(-128, 128, (N, K)).to(torch.int8),
        "weight_scale": torch.rand(N, 1, dtype=torch.float32),
        "input_scale": torch.tensor(0.02, dtype=torch.float32),
    }
    for name in NAMES:
        value = torch.nn.Parameter(values[name], requires_grad=False) if name in values else None
        layer.register_parameter(name, value)
    config = Int8ScaledMMLinearLayerConfig(is_channelwise=True, is_static_input_scheme=True, input_symmetric=True)
    kernel = cpu.CPUInt8ScaledMMLinearKernel(config, NAMES)
    with mock.patch.object(cpu, "int8_products_saturate", return_value=saturates):
        kernel.process_weights_after_loading(layer)
    return kernel, layer


def main() -> None:
    if not cpu.int8_products_saturate():
        raise SystemExit("this CPU multiplies exactly: set ONEDNN_MAX_CPU_ISA=AVX2")
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.bfloat16):
        ways = {"released": loaded(False, dtype), "patched": loaded(True, dtype)}
        weight = torch.randn(N, K)
        for rows in ROWS:
            x = torch.randn(rows, K)
            calls = {name: partial(kernel.apply_weights, layer, x) for name, (kernel, layer) in ways.items()}
            calls["not quantized"] = partial(functional.linear, x, weight)
            times: dict[str, list[float]] = {name: [] for name in calls}
            turns = TURNS[0]
            while min(map(len, times.values())) < turns:
                for name, call in calls.items():
                    begin = time.perf_counter()
                    call()
                    times[name].append(time.perf_counter() - begin)
                turns = TURNS[1] if max(max(seconds) for seconds in times.values()) > SLOW else turns
            said = "  ".join(f"{name} {statistics.median(seconds) * 1e3:.1f}" for name, seconds in times.items())
            print(f"{str(dtype).removeprefix('torch.'):<9} {rows:>3} rows  {said}", flush=True)


if __name__ == "__main__":
    main()
