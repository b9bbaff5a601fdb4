"""The int8 linear layer's kernels against bf16, CUTLASS and vLLM's Triton kernel, for the layers of Qwen2.5-VL.

Microseconds under CUDA graphs, medians, each contender in turn on the same tensors. The weights rotate among copies
that together outgrow the L2 cache, as those of a model's layers do; the activations do not. The floor is what the GPU
needs at least: the bytes that have to move or the operations that have to be done, over rates measured at the start.

Nothing of vLLM is imported but its compiled operators, CUTLASS's among them, and the files with the Triton kernels:

    python benchmarks/kernels.py                              the installed vLLM, patched
    python benchmarks/kernels.py --tree TREE --library FILE   kernels from a source tree, operators from a .so
    python benchmarks/kernels.py --from figures.json --plot docs/kernels.png
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import statistics
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kernels_report import goals, plot, table

LAYERS = {  # K, N, has a bias
    "3B qkv": (2048, 2560, True),
    "3B o": (2048, 2048, False),
    "3B gate_up": (2048, 22016, False),
    "3B down": (11008, 2048, False),
    "7B qkv": (3584, 4608, True),
    "7B o": (3584, 3584, False),
    "7B gate_up": (3584, 37888, False),
    "7B down": (18944, 3584, False),
}
ROWS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16384)
SCALED_MM = "vllm/model_executor/kernels/linear/scaled_mm"


def load(tree: Path, library: Path) -> tuple[Any, Any, Any]:
    """Return the modules of our configurations, our kernels and vLLM's Triton kernel, and load the operators."""
    import torch
    import triton
    import triton.language
    import triton.tools.tensor_descriptor

    torch.ops.load_library(str(library))
    shim: Any = types.ModuleType("vllm.triton_utils")
    shim.triton, shim.tl = triton, triton.language
    shim.use_tensor_descriptor = lambda *_: False
    allocation: Any = types.ModuleType("vllm.triton_utils.allocation")
    allocation.set_triton_allocator = lambda _: None
    package = types.ModuleType("int8")
    package.__path__ = [str(tree / SCALED_MM)]
    sys.modules |= {
        "vllm": types.ModuleType("vllm"),
        "vllm.triton_utils": shim,
        "vllm.triton_utils.allocation": allocation,
        "int8": package,
    }
    theirs = tree / "vllm/model_executor/layers/quantization/compressed_tensors/triton_scaled_mm.py"
    spec = importlib.util.spec_from_file_location("theirs", theirs)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return importlib.import_module("int8.fused_int8_config"), importlib.import_module("int8.fused_int8_triton"), module


def graph_of(calls: Sequence[Callable[[], object]]) -> Any:
    """Return a CUDA graph of `calls`."""
    import torch

    for call in calls[:2]:
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def race(contenders: dict[str, Sequence[Callable[[], object]]]) -> dict[str, float]:
    """Return the median seconds of one call of each contender.

    They take turns, so that all see the same GPU. In each turn the first replay is not counted: a server replays one
    graph over and over.
    """
    import torch

    graphs = {name: graph_of(calls) for name, calls in contenders.items()}
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def once(name: str) -> float:
        start.record()
        graphs[name].replay()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1000

    longest = max([once(name) for name in graphs for _ in range(2)])
    rounds = max(3, min(15, int(8e-3 / longest)))
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(rounds):
        for name in graphs:
            once(name)
            times[name] += [once(name), once(name)]
    return {name: statistics.median(values) / len(contenders[name]) for name, values in times.items()}


class Bench:
    """All contenders on one GPU."""

    def __init__(self, tree: Path, library: Path, table: int | None) -> None:
        import torch

        self.config, self.kernels, self.theirs = load(tree, library)
        properties = torch.cuda.get_device_properties(0)
        capability = properties.major * 10 + properties.minor
        self.gpu = self.config.Gpu(table or capability, properties.multi_processor_count)
        self.name = properties.name if table in (None, capability) else f"{properties.name}, tiles of sm_{table}"
        self.pdl = capability >= 90
        self.cutlass = capability < 100
        self.cache = properties.L2_cache_size
        self.bandwidth, self.rate = self.ceilings()

    def ceilings(self) -> tuple[float, float]:
        """Return bytes per second of a large copy or sum, and operations per second of a large int8 product."""
        import torch

        source = torch.zeros(1 << 29, device="cuda")
        target = torch.empty_like(source)
        size = 8192
        a = torch.randint(-127, 128, (size, size), dtype=torch.int8, device="cuda")
        one = torch.ones(size, 1, device="cuda")
        out = torch.empty(size, size, dtype=torch.bfloat16, device="cuda")
        times = race(
            {
                "copy": [lambda: target.copy_(source)] * 3,
                "read": [lambda: source.sum()] * 3,
                "product": [lambda: self.product(a, a, one[0, 0], one, None, out)] * 3,
            }
        )
        size_bytes = source.numel() * source.element_size()
        return max(2 * size_bytes / times["copy"], size_bytes / times["read"]), 2 * size**3 / times["product"]

    def product(self, q: Any, weight: Any, scale: Any, weight_scale: Any, bias: Any, out: Any) -> None:
        """The fastest int8 product that this GPU has, for the ceiling."""
        import torch

        if self.cutlass:
            torch.ops._C.cutlass_scaled_mm(out, q, weight.t(), scale, weight_scale, bias)
        else:
            chosen = self.config.matmul_config(*out.shape, q.shape[1], self.gpu, True)
            self.kernels.matmul(q, None, weight, weight_scale, scale, bias, chosen, self.pdl, None, out.dtype)

    def layer(self, m: int, k: int, n: int, has_bias: bool) -> dict[str, float]:
        """Return the seconds of every contender for one layer and number of rows."""
        import torch
        import torch.nn.functional as functional

        dtype = torch.bfloat16
        copies = max(2, min(24, math.ceil(3 * self.cache / (n * k)))) if m < 2048 else 2
        weights = [torch.randint(-127, 128, (n, k), dtype=torch.int8, device="cuda") for _ in range(copies)]
        x = torch.randn(m, k, device="cuda").to(dtype)
        pre = (torch.rand(k, device="cuda") + 0.5).to(dtype)
        scale = torch.tensor(3.3 / 127, device="cuda")
        weight_scale = torch.rand(n, 1, device="cuda") * 1e-3
        bias = torch.randn(n, device="cuda").to(dtype) if has_bias else None
        q = self.kernels.quantize(x, pre, scale, False)
        out = torch.empty(m, n, dtype=dtype, device="cuda")
        chosen = self.config.matmul_config(m, n, k, self.gpu, True)
        ours_uses_cutlass = self.config.use_cutlass(m, n, k, self.gpu)
        # The product alone takes quantized input, so that it is not the configuration that quantizes.
        alone = self.config.matmul_config(m, n, k, self.gpu, True, True)
        # Of a split along K; every product leaves them at zero.
        counts = torch.zeros(self.config.MAX_TILES_SPLIT, dtype=torch.int32, device="cuda")

        def cutlass(weight: Any) -> None:
            torch.ops._C.cutlass_scaled_mm(out, q, weight.t(), scale, weight_scale, bias)

        def their_triton(weight: Any) -> None:
            self.theirs.triton_scaled_mm(q, weight.t(), scale, weight_scale, dtype, bias)

        def their_quantize(values: Any) -> None:
            torch.ops._C.static_scaled_int8_quant(q, values, scale, None)

        def smooth() -> Any:
            return x * pre

        def ours_triton(weight: Any) -> None:
            self.kernels.int8_linear(x, pre, weight, weight_scale, scale, bias, chosen, self.pdl, counts, dtype)

        def ours(weight: Any) -> None:
            if ours_uses_cutlass:
                quantized = self.kernels.quantize(x, pre, scale, self.pdl)
                torch.ops._C.cutlass_scaled_mm(out, quantized, weight.t(), scale, weight_scale, bias)
            else:
                ours_triton(weight)

        def ours_alone(weight: Any) -> None:
            self.kernels.matmul(q, None, weight, weight_scale, scale, bias, alone, False, counts, dtype)

        def each(call: Callable[[Any], object]) -> list[Callable[[], object]]:
            return [lambda weight=weight: call(weight) for weight in weights]

        floats = [torch.randn(n, k, device="cuda", dtype=dtype) for _ in range(max(2, copies // 2))]
        contenders: dict[str, list[Callable[[], object]]] = {
            "bf16": [lambda weight=weight: functional.linear(x, weight, bias) for weight in floats],
            "ours": each(ours),
            "ours, no CUTLASS": each(ours_triton),
            "Triton": each(lambda weight: (their_quantize(smooth()), their_triton(weight))),
            "product: Triton": each(their_triton),
            "product: ours": each(ours_alone),
            "quantize: vLLM": [lambda: their_quantize(x)] * 16,
            "quantize: ours": [lambda: self.kernels.quantize(x, pre, scale, False)] * 16,
        }
        if self.cutlass:
            contenders["CUTLASS"] = each(lambda weight: (their_quantize(smooth()), cutlass(weight)))
            contenders["product: CUTLASS"] = each(cutlass)
        return race(contenders)

    def floor(self, m: int, k: int, n: int) -> float:
        """Return the seconds that no int8 layer can beat: bf16 in, int8 weights, bf16 out."""
        moved = 2 * m * k + n * k + 2 * m * n
        return max(moved / self.bandwidth, 2 * m * k * n / self.rate)

    def run(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return all figures, for the `numbers` of rows."""
        rows = []
        for name, (k, n, has_bias) in LAYERS.items():
            for m in numbers:
                times = self.layer(m, k, n, has_bias)
                rows.append({"layer": name, "m": m, "k": k, "n": n, "floor": self.floor(m, k, n), "times": times})
                print(f"\r{name} m={m:<6}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        return {"gpu": self.name, "bytes/s": self.bandwidth, "operations/s": self.rate, "rows": rows}


def installed() -> Path:
    """Return where vLLM is installed, without importing it."""
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("vLLM is not installed here: name a source tree (--tree) and its operators (--library)")
    return Path(found.submodule_search_locations[0]).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, help="patched tree of vLLM (default: the installed one)")
    parser.add_argument("--library", type=Path, help="vLLM's _C_stable_libtorch.abi3.so (default: the tree's)")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="numbers of tokens")
    parser.add_argument("--table", type=int, help="use the tiles chosen for this capability (120: an RTX 5090's)")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--from", dest="given", type=Path, help="show figures of an earlier run")
    parser.add_argument("--plot", type=Path, help="draw them (needs matplotlib)")
    options = parser.parse_args()
    if options.given:
        figures = json.loads(options.given.read_text())
    else:
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("no CUDA device here; --from shows the figures of an earlier run")
        tree = options.tree or installed()
        library = options.library or tree / "vllm/_C_stable_libtorch.abi3.so"
        figures = Bench(tree, library, options.table).run(options.rows)
    if options.json:
        options.json.write_text(json.dumps(figures))
    print(table(figures))
    print()
    print(goals(figures))
    if options.plot:
        plot(figures, options.plot)


if __name__ == "__main__":
    main()
