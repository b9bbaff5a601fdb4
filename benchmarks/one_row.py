"""The product of one row, or a few, without tensor cores, in all its sizes: against tiles, and CUTLASS's int8 and FP8.

    python benchmarks/one_row.py                        the layers of Qwen2.5-VL-3B and 7B, one row
    python benchmarks/one_row.py --rows 1 2 4 --best 6
    python benchmarks/one_row.py --tree TREE --library FILE, as for kernels.py

Microseconds under CUDA graphs, medians, all contenders in turns. Each product comes behind a kernel that quantizes the
row, as in a model, whose end it waits for; the time is of both. `feed` is that kernel alone. The first calls compile
some sixty kernels, for a minute or two.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kernels import LAYERS, Bench, installed, race

CHANNELS, BYTES, WARPS = (1, 2, 4, 8, 16), (512, 1024, 2048, 4096), (1, 2, 4, 8)
ALLOWED = 2**-7  # error in the largest output; bfloat16 rounds by 2**-9 of each


def sizes() -> Iterator[tuple[int, int, int]]:
    """Yield channels of a program, bytes along K at a time, and warps, where a thread has 8 to 256 bytes of weights."""
    for channels, size, warps in itertools.product(CHANNELS, BYTES, WARPS):
        thread = channels * size / (32 * warps)
        if size // 16 <= 128 * warps and 8 <= thread <= 256 and channels * size <= 32768:
            yield channels, size, warps


def layer(bench: Bench, m: int, k: int, n: int, has_bias: bool) -> dict[str, float]:
    """Return the seconds of every contender for one layer and number of rows.

    Raises:
        SystemExit: a product is wrong.
    """
    import torch

    kernels, config = bench.kernels, bench.config
    copies = max(2, min(24, math.ceil(3 * bench.cache / (n * k))))
    weights = [torch.randint(-127, 128, (n, k), dtype=torch.int8, device="cuda") for _ in range(copies)]
    x = torch.randn(m, k, device="cuda").bfloat16()
    pre = (torch.rand(k, device="cuda") + 0.5).bfloat16()
    scale = torch.tensor(3.3 / 127, device="cuda")
    weight_scale = torch.rand(n, 1, device="cuda") * 1e-3
    bias = torch.randn(n, device="cuda").bfloat16() if has_bias else None
    q = kernels.quantize(x, pre, scale, False)
    out = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
    counts = torch.zeros(config.MAX_TILES_SPLIT, dtype=torch.int32, device="cuda")
    exact = (q.double() @ weights[0].double().T) * weight_scale.double().T * scale.double()
    if bias is not None:
        exact += bias.double()

    def feed() -> None:
        kernels.quantize(x, pre, scale, False)

    def multiply(weight: Any, chosen: Any) -> Any:
        return kernels.matmul(q, None, weight, weight_scale, scale, bias, chosen, bench.pdl, counts, torch.bfloat16)

    def behind(products: list[Callable[[], object]]) -> list[Callable[[], object]]:
        return [lambda product=product: (feed(), product()) for product in products]

    # Two rows have the tiles that one had.
    tiles = config.matmul_config(max(m, 2), n, k, bench.gpu, True, True)
    contenders = {
        "feed": [feed] * copies,
        "tiles": behind([partial(multiply, weight, tiles) for weight in weights]),
    }
    for size in sizes():
        chosen = config.MatmulConfig(1, size[0], size[1], size[2], 3, matvec=True)
        off = ((multiply(weights[0], chosen).double() - exact).abs().amax() / exact.abs().amax()).item()
        if not off < ALLOWED:
            raise SystemExit(f"{size} is wrong by {off:.2g}")
        contenders[f"{size}"] = behind([partial(multiply, weight, chosen) for weight in weights])
    if bench.cutlass:
        mm = torch.ops._C.cutlass_scaled_mm
        eighths = [torch.randn(n, k, device="cuda").to(torch.float8_e4m3fn) for _ in range(copies)]
        row = x.to(torch.float8_e4m3fn)
        contenders["int8 CUTLASS"] = behind(
            [partial(mm, out, q, weight.t(), scale, weight_scale, bias) for weight in weights]
        )
        contenders["FP8 CUTLASS"] = behind(
            [partial(mm, out, row, weight.t(), scale, scale, bias) for weight in eighths]
        )
    return race(contenders)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1], help="numbers of rows")
    parser.add_argument("--best", type=int, default=4, help="so many sizes are shown, the fastest ones")
    parser.add_argument("--tree", type=Path, help="patched tree of vLLM (default: the installed one)")
    parser.add_argument("--library", type=Path, help="vLLM's _C_stable_libtorch.abi3.so (default: the tree's)")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here")
    tree = options.tree or installed()
    bench = Bench(tree, options.library or tree / "vllm/_C_stable_libtorch.abi3.so", None)
    print(bench.name)
    for (name, shape), m in itertools.product(LAYERS.items(), options.rows):
        times = {key: value * 1e6 for key, value in layer(bench, m, *shape).items()}
        swept = sorted((key for key in times if key.startswith("(")), key=times.__getitem__)
        shown = [key for key in times if not key.startswith("(")] + swept[: options.best]
        print(f"{name:<11} m={m}  " + "  ".join(f"{key} {times[key]:.2f}" for key in shown), flush=True)


if __name__ == "__main__":
    main()
