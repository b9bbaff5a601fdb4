"""What the int8 kernels compute, and what they compile to.

Run by an interpreter that has torch and Triton, with the two modules of the kernels in a package `int8` on its path:
`int8_kernels.py ANSWER reference cpu|cuda`, `one-row cpu|cuda` for those of one row, `compile`, or `warm-up`. On
the CPU it is Triton's interpreter that runs them (TRITON_INTERPRET=1). No vLLM is imported: the kernels want nothing of
it but Triton.
"""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from int8 import fused_int8_config as config
from int8 import fused_int8_triton as kernels

# The layers of Qwen2.5-VL-3B and 7B: K, N.
LAYERS = [(2048, 2560), (2048, 2048), (2048, 22016), (11008, 2048)]
LAYERS += [(3584, 4608), (3584, 3584), (3584, 37888), (18944, 3584)]
# Multiprocessors of an A100, L4, RTX 4090, H100, B200 and RTX 5090.
GPUS = [(80, 108), (89, 58), (89, 128), (90, 132), (100, 148), (120, 170)]
ROWS = [1, 2, 3, 4, *range(8, 64, 8), *range(64, 1024, 32), 1024, 1536, 2048, 3072, 4096, 8192, 16384]


class Compiled(NamedTuple):
    """One kernel of the tables: `config` has a split of 1 or 2, since the compiler only sees whether there is one."""

    capability: int
    config: Any


def kernel(m: int, n: int, k: int, gpu: Any, quantized: bool) -> Any:
    """Return what is chosen, as far as the compiler sees it."""
    chosen = config.matmul_config(m, n, k, gpu, True, quantized)
    return chosen._replace(split_k=min(chosen.split_k, 2))


def all_compiled() -> list[Compiled]:
    """Return every kernel that the tables can ask for, on every GPU."""
    cases = {}
    for capability, sms in GPUS:
        for k, n in LAYERS:
            for m in ROWS:
                for quantized in (False, True):
                    cases[Compiled(capability, kernel(m, n, k, config.Gpu(capability, sms), quantized))] = None
    return list(cases)


# --- what they compute ------------------------------------------------------------------------------------------------


def to_dtype(values: torch.Tensor, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Round fp32 to `dtype` as the machine does. Triton's interpreter cuts bfloat16 off; a GPU rounds."""
    if dtype is torch.bfloat16 and device == "cpu":
        return (values.float().view(torch.int32) & ~0xFFFF).view(torch.float32).to(dtype)
    return values.to(dtype)


def reference_quantize(x: torch.Tensor, pre: torch.Tensor | None, scale: torch.Tensor, device: str) -> torch.Tensor:
    """Return the int8 values, as float64, that `x * pre` and then vLLM's static quantization give.

    The quotient is one of fp32, as in vLLM's kernel: rounded from float64, where it is exact to twice the digits.
    """
    y = x.double()
    if pre is not None:
        y = to_dtype(x.float() * pre.float(), x.dtype, device).double()
    if not scale:
        return torch.zeros_like(y)
    return (y / scale.double()).float().double().round().clamp(-128, 127)


def fuse_in_the_interpreter() -> None:
    """Make Triton's interpreter round a fused multiply-add once, as a GPU does: it rounds the product as well."""
    from triton.runtime import interpreter

    def fma(_: Any, x: Any, y: Any, z: Any) -> Any:
        exact = x.data.astype("float64") * y.data.astype("float64") + z.data.astype("float64")
        return interpreter.TensorHandle(exact.astype(x.data.dtype), x.dtype.scalar)

    interpreter.InterpreterBuilder.create_fma = fma


def ties(device: str) -> list[dict[str, Any]]:
    """Quantize values whose quotients lie at a tie, where multiplying by the reciprocal would round to the other side.

    A few hundred scales y / (n + 1/2), of those that a plain multiplication gets wrong.
    """
    y = torch.arange(1, 2, 1 / 128, dtype=torch.float64)[:, None]
    scales = (y / (torch.arange(127, dtype=torch.float64) + 0.5)).float()
    values = y.float().expand_as(scales)
    plain = (values * (1 / scales)).double().round()
    scales = scales[plain != (values.double() / scales.double()).float().double().round()].unique()
    answers = []
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        x = torch.cat([y.flatten(), -y.flatten()])[None].to(device, dtype)
        wrong = 0
        for scale in scales[::8].to(device):
            q = kernels.quantize(x, None, scale, False)
            wrong += int((q.double() != reference_quantize(x, None, scale, device)).sum())
        what = {"name": "quantize", "kind": "ties", "shape": [len(scales[::8])], "given": str(dtype)}
        answers.append({**what, "quantized wrong": wrong, "off": 0.0, "dtype": str(dtype)})
    return answers


class Case(NamedTuple):
    """A linear layer's input and weights."""

    x: torch.Tensor
    pre: torch.Tensor | None
    weight: torch.Tensor
    weight_scale: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def make(cls, m: int, n: int, k: int, dtype: torch.dtype, device: str, *, kind: str = "plain") -> Case:
        """Return random tensors; `kind` is what is special about them."""
        generator = torch.Generator(device).manual_seed(m * 1000003 + n * 1009 + k)
        wide = torch.randn(m, 3 * k + 16, generator=generator, device=device)
        x = wide[:, 16 : 16 + k] if kind == "strided" else wide[:, :k].contiguous()
        if kind == "saturated":
            x = x * 1e4
        x = x.to(dtype) if kind != "strided" else wide.to(dtype)[:, 16 : 16 + k]
        scale = torch.tensor(0.0 if kind == "no scale" else 0.021, device=device)
        weight_scale = torch.rand(n, 1, generator=generator, device=device) * 1e-3
        if kind == "no weight scale":
            weight_scale[::2] = 0
        weight = torch.randint(-128, 128, (n, k), generator=generator, device=device, dtype=torch.int8)
        pre = (torch.rand(k, generator=generator, device=device) + 0.5).to(dtype)
        bias = torch.randn(n, generator=generator, device=device).to(dtype)
        plain = kind == "no bias"
        return cls(x, None if plain else pre, weight, weight_scale, scale, None if plain else bias)

    def expected(self, device: str) -> torch.Tensor:
        """Return the layer's output in float64, from the quantized input."""
        q = reference_quantize(self.x, self.pre, self.scale, device)
        out = (q @ self.weight.double().T) * self.weight_scale.double().T * self.scale.double()
        return out if self.bias is None else out + self.bias.double()


def error(case: Case, chosen: Any, device: str) -> dict[str, Any]:
    """Return how far the kernels are from float64, for one configuration."""
    q = kernels.quantize(case.x, case.pre, case.scale, False)
    wrong = int((q.double() != reference_quantize(case.x, case.pre, case.scale, device)).sum())
    pdl = device == "cuda" and torch.cuda.get_device_capability()[0] >= 9
    counts = torch.zeros(config.MAX_TILES_SPLIT, dtype=torch.int32, device=device)
    out = kernels.int8_linear(*case, chosen, pdl, counts, case.x.dtype)
    # Once more from int8, with the counters as the first call left them.
    given = case._replace(x=q, pre=None)
    product = config.MatmulConfig(16, 32, 64, 4, 4) if chosen.quantize else chosen
    again = kernels.int8_linear(*given, product, pdl, counts, case.x.dtype)
    expected = case.expected(device)
    finite = bool(torch.isfinite(out).all())
    off = ((out.double() - expected).abs() / expected.abs().amax().clamp(min=1e-9)).amax().item()
    return {
        "quantized wrong": wrong,
        "off": off if finite else float("inf"),
        "dtype": str(out.dtype),
        "from int8": bool((again == out).all()),
        "counts left": int(counts.count_nonzero()),
    }


def tiled() -> dict[str, Any]:
    """Return a small configuration for each way through the kernel with tensor cores."""
    make = config.MatmulConfig
    return {
        "prologue": make(2, 32, 256, 4, 4, quantize=True),
        "two launches": make(16, 32, 64, 4, 4),
        "split": make(16, 32, 64, 4, 4, 3),
        "tma": make(16, 32, 64, 4, 4, tma=True),
        "tma split": make(16, 32, 64, 4, 4, 2, tma=True),
    }


def one_row() -> dict[str, Any]:
    """Return a small configuration for each way through the kernel of one row."""
    make = config.MatmulConfig
    return {
        "one row": make(1, 1, 256, 1, 3, matvec=True),
        "one row, prologue": make(1, 4, 256, 2, 3, quantize=True, matvec=True),
    }


def reference(device: str, small: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare with float64: all dtypes, odd shapes, kinds of input, and ways through a kernel."""
    shapes = [(1, 33, 300), (2, 48, 320), (5, 130, 513), (21, 64, 256)]
    kinds = ["plain", "strided", "saturated", "no scale", "no weight scale", "no bias"]
    answers = []
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for m, n, k in shapes:
            for kind in kinds if (m, n, k) == (2, 48, 320) else kinds[:1]:
                case = Case.make(m, n, k, dtype, device, kind=kind)
                for name, chosen in small.items():
                    # Tensor descriptors want rows that start at multiples of 16 bytes.
                    if (chosen.tma and k % 16) or (name == "prologue" and m > 5):
                        continue
                    # Compiled, the prologue is for aligned rows of 2-byte elements alone: see PROLOGUE_K.
                    if device == "cuda" and name == "prologue" and (k % 16 or dtype is torch.float32):
                        continue
                    what = {"name": name, "kind": kind, "shape": [m, n, k], "given": str(dtype)}
                    answers.append({**what, **error(case, chosen, device)})
    return answers


def real_configurations(device: str) -> list[dict[str, Any]]:
    """On a GPU: every configuration of its tables, at the layers' own shapes."""
    properties = torch.cuda.get_device_properties(device)
    gpu = config.Gpu(properties.major * 10 + properties.minor, properties.multi_processor_count)
    answers, seen = [], set()
    for k, n in LAYERS:
        for m, quantized in itertools.product((*ROWS, 77, 301), (False, True)):
            chosen = config.matmul_config(m, n, k, gpu, True, quantized)
            if m <= 2048 and (chosen, m % 2) not in seen:
                seen.add((chosen, m % 2))
                for dtype in (torch.bfloat16, torch.float16):
                    case = Case.make(m, n, k, dtype, device)
                    what = {"name": str(tuple(chosen)), "kind": "plain", "shape": [m, n, k], "given": str(dtype)}
                    answers.append({**what, **error(case, chosen, device)})
    return answers


# --- what they compile to ---------------------------------------------------------------------------------------------


def source(kernel: Any, signature: dict[str, str], constants: dict[str, Any], plain: set[str]) -> Any:
    """Return a kernel for the compiler: pointers and sizes are multiples of 16, but for those in `plain`."""
    from triton.compiler import ASTSource

    multiples = {
        (place,): [["tt.divisibility", 16]]
        for place, (name, kind) in enumerate(signature.items())
        if name not in plain and not kind.startswith("tensordesc")
    }
    return ASTSource(kernel, {**signature, **dict.fromkeys(constants, "constexpr")}, constants, multiples)


def matvec_source(item: Compiled) -> Any:
    chosen = item.config
    signature = {
        "a_ptr": "*bf16" if chosen.quantize else "*i8", "pre_ptr": "*bf16", "b_ptr": "*i8", "a_scale_ptr": "*fp32",
        "b_scale_ptr": "*fp32", "bias_ptr": "*bf16", "c_ptr": "*bf16", "N": "i32", "K": "i32", "stride_a": "i32",
    }  # fmt: skip
    constants = {
        "HAS_BIAS": True, "HAS_PRE": True, "QUANTIZE": chosen.quantize, "EVEN_K": True, "PDL": item.capability >= 90,
        "BLOCK_N": chosen.block_n, "BLOCK_K": chosen.block_k,
    }  # fmt: skip
    return source(kernels._matvec_kernel, signature, constants, set())


def matmul_source(item: Compiled) -> Any:
    chosen = item.config
    if chosen.matvec:
        return matvec_source(item)
    a = "*bf16" if chosen.quantize else "*i8"
    b = "*i8"
    if chosen.tma:
        a = f"tensordesc<i8[{chosen.block_m},{chosen.block_k}]>"
        b = f"tensordesc<i8[{chosen.block_n},{chosen.block_k}]>"
    signature = {
        "a_ptr": a, "pre_ptr": "*bf16", "b_ptr": b, "a_scale_ptr": "*fp32", "b_scale_ptr": "*fp32",
        "bias_ptr": "*bf16", "c_ptr": "*bf16", "part_ptr": "*i32", "count_ptr": "*i32",
        "M": "i32", "N": "i32", "K": "i32", "stride_a": "i32", "split_k": "i32",
    }  # fmt: skip
    constants = {
        "HAS_BIAS": True, "HAS_PRE": True, "QUANTIZE": chosen.quantize, "TMA": chosen.tma,
        "SPLIT": chosen.split_k > 1, "EVEN_K": True, "PDL": item.capability >= 90,
        "BLOCK_M": chosen.block_m, "BLOCK_N": chosen.block_n, "BLOCK_K": chosen.block_k, "GROUP": kernels.GROUP_M,
    }  # fmt: skip
    return source(kernels._matmul_kernel, signature, constants, {"M", "split_k"})


def quantize_source(capability: int) -> Any:
    signature = {
        "x_ptr": "*bf16", "pre_ptr": "*bf16", "scale_ptr": "*fp32", "q_ptr": "*i8", "K": "i32", "stride_x": "i32",
    }  # fmt: skip
    constants = {"HAS_PRE": True, "EVEN_K": True, "BLOCK_K": kernels.QUANTIZE_BLOCK, "PDL": capability >= 90}
    return source(kernels._quantize_kernel, signature, constants, set())


def compiled(item: Compiled | int, name: str, options: dict[str, int]) -> dict[str, Any]:
    """Compile one kernel with Triton, its PTX once more with ptxas for the report, and return what came out."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas

    capability = item if isinstance(item, int) else item.capability
    program = triton.compile(
        quantize_source(capability) if isinstance(item, int) else matmul_source(item),
        target=GPUTarget("cuda", capability, 32),
        options=options,
    )
    ptx = program.asm["ptx"]
    (target,) = re.findall(r"^\.target (sm_\w+)", ptx, re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        tool = get_ptxas(capability)
        command = [getattr(tool, "path", tool), "-v", f"--gpu-name={target}", file, "-o", Path(folder) / "cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    operations = re.findall(r"(?:wgmma\.mma_async|mma\.sync|tcgen05\.mma)[\w.:]*", ptx)
    return {
        "capability": capability,
        "name": name,
        "matvec": not isinstance(item, int) and item.config.matvec,
        "shared": program.metadata.shared,
        "spilled": sum(int(size) for size in re.findall(r"(\d+) bytes spill", report)),
        "registers": int(re.findall(r"Used (\d+) registers", report)[0]),
        "operations": sorted(set(operations)),
    }


def compile_one(item: Compiled | int) -> dict[str, Any]:
    if isinstance(item, int):
        return compiled(item, "quantize", {})
    options = {"num_warps": item.config.num_warps, "num_stages": item.config.num_stages}
    return compiled(item, str(tuple(item.config)), options)


def not_warm() -> list[dict[str, Any]]:
    """Return the layers that need a kernel which none of the numbers of rows needs that are multiplied beforehand."""
    cases = []
    ways = itertools.product(GPUS, LAYERS, ("auto", "triton"), (False, True))
    for (capability, sms), (k, n), choice, quantized in ways:
        gpu = config.Gpu(capability, sms)
        kernels = [
            "CUTLASS" if choice == "auto" and config.use_cutlass(m, n, k, gpu) else kernel(m, n, k, gpu, quantized)
            for m in range(1, 16385)
        ]
        numbers = config.kernel_rows(n, k, gpu, choice, quantized)
        warm = {kernels[m - 1] for m in numbers}
        if warm != set(kernels) or len(warm) < len(numbers):
            cases.append({"capability": capability, "layer": [k, n], "choice": choice, "numbers": numbers})
    return cases


def main() -> None:
    """Run the part that the arguments name."""
    answer: Any
    if sys.argv[2] == "warm-up":
        answer = not_warm()
    elif sys.argv[2] == "compile":
        items = [*all_compiled(), *sorted({capability for capability, _ in GPUS})]
        with ProcessPoolExecutor(2) as pool:
            answer = list(pool.map(compile_one, items))
    else:
        if sys.argv[3] == "cpu":
            fuse_in_the_interpreter()
        if sys.argv[2] == "one-row":
            answer = reference(sys.argv[3], one_row())
        else:
            answer = reference(sys.argv[3], tiled()) + ties(sys.argv[3])
        if sys.argv[2] == "reference" and sys.argv[3] == "cuda":
            answer += real_configurations("cuda")
    Path(sys.argv[1]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
