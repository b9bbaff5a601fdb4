"""The int8 kernels against float64, what they compile to on every architecture, and who applies pre_quant_scale."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Ask, Trees

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("int8_kernels.py")
SCALED_MM = "vllm/model_executor/kernels/linear/scaled_mm"
# Shared memory that a block can have, in KiB.
SHARED = {80: 163, 89: 99, 90: 227, 100: 227, 120: 99}

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def run(trees: Callable[[str], Trees], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs the script with the patched tree's kernels, and without the rest of vLLM."""
    python = os.environ.get("PATCHSET_KERNELS_PYTHON")
    if python is None:
        pytest.skip("PATCHSET_KERNELS_PYTHON names no interpreter with tests/requirements/kernels.txt installed")
    folder = tmp_path_factory.mktemp("kernels")
    for package in ("int8", "vllm"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    for name in ("fused_int8_config.py", "fused_int8_triton.py"):
        shutil.copy(trees("vllm@v0.30.0").patched / SCALED_MM / name, folder / "int8")
    (folder / "vllm/triton_utils.py").write_text(
        "import triton\nimport triton.language as tl\nimport triton.tools.tensor_descriptor\n"
    )

    def call(*arguments: str, **environment: str) -> list[dict[str, Any]]:
        answer = folder / "answer.json"
        done = subprocess.run(
            [python, str(SCRIPT), str(answer), *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(folder),
                "TRITON_CACHE_DIR": str(folder / "cache"),
                **environment,
            },
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        answers: list[dict[str, Any]] = json.loads(answer.read_text())
        return answers

    return call


def check(answers: list[dict[str, Any]], device: str) -> None:
    """Assert that the int8 values are those of the reference, and the outputs its rounded ones."""
    # The interpreter cuts bfloat16 off where a GPU rounds.
    allowed = {"torch.bfloat16": 2**-7 if device == "cpu" else 2**-8, "torch.float16": 2**-10, "torch.float32": 1e-5}
    for case in answers:
        assert case["quantized wrong"] == 0, case
        assert case["dtype"] == case["given"], case
        assert case["off"] <= allowed[case["given"]], case
        if case["name"] != "quantize":
            assert case["from int8"], case
            assert case["counts left"] == 0, case


def test_against_float64(run: Run) -> None:
    answers = run("reference", "cpu", TRITON_INTERPRET="1")
    check(answers, "cpu")
    ways = {"prologue", "two launches", "split", "tma", "tma split"}
    kinds = {"plain", "strided", "saturated", "no scale", "no weight scale", "no bias"}
    assert {case["name"] for case in answers} == {*ways, "quantize"}
    assert all(case["shape"][0] > 200 for case in answers if case["kind"] == "ties")
    for dtype in ("torch.bfloat16", "torch.float16", "torch.float32"):
        assert {(case["name"], case["kind"]) for case in answers if case["given"] == dtype} >= {
            (way, kind) for way in ways for kind in kinds
        }
    assert {case["shape"][0] for case in answers} >= {1, 2, 5, 21}


@pytest.mark.gpu
def test_against_float64_on_a_gpu(run: Run) -> None:
    has = "import torch; print(torch.cuda.is_available())"
    said = subprocess.run(
        [os.environ["PATCHSET_KERNELS_PYTHON"], "-c", has], capture_output=True, text=True, check=True
    )
    if said.stdout.strip() != "True":
        pytest.skip("no CUDA device here")
    check(run("reference", "cuda"), "cuda")


def test_what_they_compile_to(run: Run) -> None:
    answers = run("compile")
    assert {answer["capability"] for answer in answers} == set(SHARED)
    for answer in answers:
        assert answer["spilled"] == 0, answer
        assert answer["shared"] <= SHARED[answer["capability"]] * 1024, answer
        if answer["name"] != "quantize":
            assert answer["operations"], answer
            assert all(".s8" in operation for operation in answer["operations"]), answer
    hopper = {operation for answer in answers if answer["capability"] == 90 for operation in answer["operations"]}
    assert any(operation.startswith("wgmma") for operation in hopper)


# The series environment has what vLLM imports on the way; no GPU is there, so the operator itself is replaced by one
# that says what it was given: eager, and in a graph that torch.compile traced.
APPLIED = """
import torch
import vllm.model_executor.kernels.linear.scaled_mm.fused_int8 as fused
from vllm.model_executor.layers.quantization import modelopt

fake = fused._fused_int8_linear_fake(
    torch.empty(2, 0, 3, dtype=torch.int8, device="meta"), None, torch.empty(3, 5, device="meta"),
    None, None, None, None, torch.half, "auto")

class Layer(torch.nn.Module):
    logical_widths = [2]
    bias = None
def layer():
    made = Layer()
    for name, value in {"weight": torch.ones(2, 3, dtype=torch.int8), "weight_scale": torch.ones(2, 1),
                        "input_scale": torch.tensor(0.5), "pre_quant_scale": torch.tensor([1.0, 2.0, 3.0])}.items():
        setattr(made, name, torch.nn.Parameter(value, requires_grad=False))
    return made

kernel = object.__new__(fused.FusedInt8ScaledMMLinearKernel)
kernel.config = fused.Int8ScaledMMLinearLayerConfig(
    is_static_input_scheme=True, is_channelwise=True, input_symmetric=True)
kernel.layer_param_names = ["weight", "weight_scale", "input_scale", "input_zero_point", "azp_adj"]
kernel.choice = "triton"
ours, others = layer(), layer()
kernel.process_weights_after_loading(ours)
kept = ours.int8_split_counts
# The weights are loaded once more, as at a reload.
for name, value in layer().named_parameters():
    setattr(ours, name, value)
kernel.process_weights_after_loading(ours)
apply = lambda x: modelopt._SMOOTH_QUANT.apply(ours, x, None, lambda l, v, b: kernel.apply_weights(l, v, b))

given = []
def say(x, pre, weight, weight_scale, input_scale, bias, counts, out_dtype, choice):
    given.append([x.tolist(), str(x.dtype), None if pre is None else pre.tolist(), list(weight.shape),
                  str(out_dtype), choice, counts is kept])
    return x.new_zeros(*x.shape[:-1], weight.shape[1], dtype=out_dtype)
class Spy(torch.fx.Interpreter):
    def call_function(self, target, args, kwargs):
        if "fused_int8_linear" in str(target):
            return say(*args, **kwargs)
        return super().call_function(target, args, kwargs)
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return Spy(graph).run

# Every finite bfloat16: where it is not what the exact quotient rounds to, and how far from a tie that lies.
numbers = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
numbers = numbers[numbers.isfinite()]
off, from_tie = 0.0, 0.0
for step in (0.021, 1.0, 3.3e-4):
    scale = torch.tensor(step)
    exact = numbers.double() / scale.double()
    wrong = (fused.quantize_in_torch(numbers, None, scale).double() - exact.round().clamp(-128, 127)).abs()
    off = max(off, wrong.max().item())
    from_tie = max([from_tie, *(exact - exact.floor() - 0.5).abs()[wrong > 0].tolist()])

x = torch.tensor([[1.0, 0.25, -0.26], [1000.0, -1000.0, 0.0], [0.25, 0.375, 0.76]])
out = torch.compile(apply, backend=backend, fullgraph=True)(x)
compiled = given.pop()
class Operators:
    class vllm:
        fused_int8_linear = staticmethod(say)
real, torch.ops = torch.ops, Operators
fused.torch.ops = Operators
apply(x)
plain = modelopt._SMOOTH_QUANT.apply(others, x, None, lambda l, v, b: v)
torch.ops = real
answer({"eager": given, "compiled": compiled, "graphs": len(graphs), "out": [list(out.shape), str(out.dtype)],
        "plain": plain.tolist(), "fake": [list(fake.shape), str(fake.dtype)], "buffers": list(ours.state_dict()),
        "off": off, "from tie": from_tie})
"""


@pytest.fixture(scope="module")
def applied(trees: Callable[[str], Trees], ask: Ask) -> dict[str, Any]:
    said: dict[str, Any] = ask(trees("vllm@v0.30.0").patched, APPLIED).value
    return said


INPUT = [[1.0, 0.25, -0.26], [1000.0, -1000.0, 0.0], [0.25, 0.375, 0.76]]


def approximately(rows: list[list[float]]) -> Any:
    return [pytest.approx(row) for row in rows]


def test_the_scale_is_applied_once(applied: dict[str, Any]) -> None:
    ((x, dtype, pre, *rest),) = applied["eager"]
    assert (x, dtype, pre) == (approximately(INPUT), "torch.float32", [1.0, 2.0, 3.0])
    assert rest == [[3, 2], "torch.float32", "triton", True]
    assert applied["plain"] == approximately([[a, 2 * b, 3 * c] for a, b, c in INPUT])
    assert applied["fake"] == [[2, 0, 5], "torch.float16"]


def test_the_compiler_gets_the_quantization(applied: dict[str, Any]) -> None:
    x, dtype, pre, *rest = applied["compiled"]
    assert (dtype, pre, rest) == ("torch.int8", None, [[3, 2], "torch.float32", "triton", True])
    # x * pre / 0.5, ties to even.
    assert x == [[2, 1, -2], [127, -128, 0], [0, 2, 5]]
    assert applied["graphs"] == 1
    assert applied["off"] <= 1
    # Two roundings of fp32, of a number up to 128.
    assert applied["from tie"] <= 2**-16
    assert applied["out"] == [[3, 2], "torch.float32"]


def test_the_counters_are_no_part_of_a_checkpoint(applied: dict[str, Any]) -> None:
    assert sorted(applied["buffers"]) == ["input_scale", "pre_quant_scale", "weight", "weight_scale"]
