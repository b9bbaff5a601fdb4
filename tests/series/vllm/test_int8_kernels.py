"""The int8 kernels against float64, what they compile to on every architecture, and who applies pre_quant_scale."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Trees, interpreter
from .conftest import Probe

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("int8_kernels.py")
SCALED_MM = "vllm/model_executor/kernels/linear/scaled_mm"
# Shared memory that a block can have, in KiB.
SHARED = {80: 163, 89: 99, 90: 227, 100: 227, 120: 99}

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def remembered() -> dict[tuple[object, ...], list[dict[str, Any]]]:
    """Return the script's earlier answers: releases whose kernels are the same bytes share them."""
    return {}


@pytest.fixture(scope="module")
def run(
    base: str,
    trees: Callable[[str], Trees],
    tmp_path_factory: pytest.TempPathFactory,
    remembered: dict[tuple[object, ...], list[dict[str, Any]]],
) -> Run:
    """Return a function that runs the script with the patched tree's kernels, and without the rest of vLLM."""
    python = interpreter("kernels")
    folder = tmp_path_factory.mktemp("kernels")
    for package in ("int8", "vllm"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    scaled_mm = trees(f"vllm@{base}").patched / SCALED_MM
    modules = {name: (scaled_mm / name).read_bytes() for name in ("fused_int8_config.py", "fused_int8_triton.py")}
    for name, content in modules.items():
        (folder / "int8" / name).write_bytes(content)
    (folder / "vllm/triton_utils.py").write_text(
        "import triton\nimport triton.language as tl\nimport triton.tools.tensor_descriptor\n"
    )

    def call(*arguments: str, **environment: str) -> list[dict[str, Any]]:
        key = (*modules.values(), *arguments)
        if key in remembered:
            return remembered[key]
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
        remembered[key] = json.loads(answer.read_text())
        return remembered[key]

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


@pytest.mark.patch("int8-fused-linear")
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


@pytest.mark.patch("int8-one-row")
def test_one_row(run: Run) -> None:
    answers = run("one-row", "cpu", TRITON_INTERPRET="1")
    check(answers, "cpu")
    assert {case["name"] for case in answers} == {"one row", "one row, prologue"}
    assert {case["shape"][0] for case in answers} >= {1, 2, 5}
    # The tables have it for every GPU.
    assert {answer["capability"] for answer in run("compile") if answer["matvec"]} == set(SHARED)


@pytest.mark.patch("int8-fused-linear", "int8-one-row")
@pytest.mark.gpu
def test_against_float64_on_a_gpu(run: Run) -> None:
    has = "import torch; print(torch.cuda.is_available())"
    answer = subprocess.run([interpreter("kernels"), "-c", has], capture_output=True, text=True, check=True)
    if answer.stdout.strip() != "True":
        pytest.skip("no CUDA device here")
    check(run("reference", "cuda") + run("one-row", "cuda"), "cuda")


@pytest.mark.patch("int8-fused-linear")
def test_no_request_waits_for_a_compiler(run: Run) -> None:
    assert run("warm-up") == []


@pytest.mark.patch("int8-fused-linear", "int8-compiled-quantization")
def test_every_kernel_of_a_layer_is_run_when_it_is_loaded(probe: Probe) -> None:
    warm = probe("patched")["scale"]["warm"]
    assert warm["rows"] == [[rows, "torch.int8"] for rows in warm["needed"]]
    assert {1, 2} <= set(warm["needed"])


@pytest.mark.patch("int8-fused-linear")
def test_what_they_compile_to(run: Run) -> None:
    answers = run("compile")
    assert {answer["capability"] for answer in answers} == set(SHARED)
    for answer in answers:
        assert answer["spilled"] == 0, answer
        assert answer["shared"] <= SHARED[answer["capability"]] * 1024, answer
        if answer["matvec"]:
            assert not answer["operations"], answer
        elif answer["name"] != "quantize":
            assert answer["operations"], answer
            assert all(".s8" in operation for operation in answer["operations"]), answer
    hopper = {operation for answer in answers if answer["capability"] == 90 for operation in answer["operations"]}
    assert any(operation.startswith("wgmma") for operation in hopper)


INPUT = [[1.0, 0.25, -0.26], [1000.0, -1000.0, 0.0], [0.25, 0.375, 0.76]]


def approximately(rows: list[list[float]]) -> Any:
    return [pytest.approx(row) for row in rows]


@pytest.mark.patch("modelopt-int8-fused-scale", "int8-compiled-quantization")
def test_the_scale_is_applied_once(probe: Probe) -> None:
    scale = probe("patched")["scale"]
    ((x, dtype, pre, *rest),) = scale["eager"]
    assert (x, dtype, pre) == (approximately(INPUT), "torch.float32", [1.0, 2.0, 3.0])
    assert rest == [[3, 2], "torch.float32", "triton", True]
    assert scale["plain"] == approximately([[a, 2 * b, 3 * c] for a, b, c in INPUT])
    assert scale["fake"] == [[2, 0, 5], "torch.float16"]


@pytest.mark.patch("int8-compiled-quantization")
def test_the_compiler_gets_the_quantization(probe: Probe) -> None:
    scale = probe("patched")["scale"]
    x, dtype, pre, *rest = scale["compiled"]
    assert (dtype, pre, rest) == ("torch.int8", None, [[3, 2], "torch.float32", "triton", True])
    # x * pre / 0.5, ties to even.
    assert x == [[2, 1, -2], [127, -128, 0], [0, 2, 5]]
    assert scale["graphs"] == 1
    assert scale["off"] <= 1
    # Two roundings of fp32, of a number up to 128.
    assert scale["from tie"] <= 2**-16
    assert scale["out"] == [[3, 2], "torch.float32"]


@pytest.mark.patch("int8-compiled-quantization")
def test_the_counters_are_no_part_of_a_checkpoint(probe: Probe) -> None:
    assert probe("patched")["scale"]["buffers"] == ["input_scale", "pre_quant_scale", "weight", "weight_scale"]
