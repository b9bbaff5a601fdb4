"""ModelOpt's checkpoints through vLLM's own engine, on the CPU, held against ModelOpt's fake quantization."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from regression.effects.machine import hardware

from .bases import BASES
from .conftest import Checkpoint, Probe, Serve
from .loaded import BAD

SERVING = Path(__file__).with_name("serving.py")
INT8_CPU = Path(__file__).with_name("int8_cpu.py")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

# vLLM says so itself; it is no concern of the series.
fp8_cache = pytest.mark.skipif(
    "avx512f" not in hardware().features, reason="an FP8 KV cache on a CPU wants AVX-512, which this one lacks"
)

Checkpoints = Mapping[str, Checkpoint]
Answers = Mapping[str, Mapping[str, Any]]

MIXED = ("modelopt-int8-smoothquant", "modelopt-int8-weight-only")
BFLOAT16 = {"dtype": "bfloat16"}
# vLLM's CPU build has no FP8 quantization of its own; torch's takes its place.
FP8_ON_CPU = {**BFLOAT16, "compilation_config": {"custom_ops": ["all", "-quant_fp8"]}}


def marks(patches: Iterable[str], whole: bool) -> list[pytest.MarkDecorator]:
    """Return the marks that leave out the releases which a test is not for."""
    return [pytest.mark.patch(*patches), *([pytest.mark.whole] if whole else [])]


class Served(NamedTuple):
    """What is served: a checkpoint, with options of vllm.LLM, and which files say how it is quantized."""

    checkpoint: str
    options: dict[str, Any] = {}  # noqa: RUF012
    declared_in: str = "both"
    algo: str | None = None
    patch: str = "modelopt-int8-smoothquant"
    whole: bool = True
    fp8_cache: bool = False

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """The marks of its test."""
        return [*marks([self.patch], self.whole), *([fp8_cache] if self.fp8_cache else [])]


SERVED = {
    "qwen2.5-vl": Served("qwen2.5-vl", whole=False),
    "qwen2.5-vl, kv": Served("qwen2.5-vl, kv", declared_in="hf_quant_config.json", whole=False, fp8_cache=True),
    "qwen3-vl": Served("qwen3-vl"),
    "qwen2": Served("qwen2", declared_in="config.json"),
    "llama, by option": Served("llama", {"quantization": "modelopt"}, "hf_quant_config.json"),
    "qwen3, weights": Served("qwen3, weights", patch="modelopt-int8-weight-only", whole=False),
    "qwen3-moe, unquantized experts": Served("qwen3-moe, unquantized experts"),
    "INT8_SMOOTHQUANT": Served("qwen2", algo="INT8_SMOOTHQUANT"),
    "int8_sq": Served("qwen2", algo="int8_sq"),
}


def rewritten(checkpoint: Checkpoint, folder: Path, declared_in: str = "both", algo: str | None = None) -> Path:
    """Copy a checkpoint, with its quantization in one of the two files, or under another name."""
    shutil.copytree(checkpoint.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    other = json.loads((folder / "hf_quant_config.json").read_text())
    if algo is not None:
        config["quantization_config"]["quant_algo"] = other["quantization"]["quant_algo"] = algo
    if declared_in == "hf_quant_config.json":
        del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "hf_quant_config.json").write_text(json.dumps(other))
    if declared_in == "config.json":
        (folder / "hf_quant_config.json").unlink()
    return folder


def job(name: str, checkpoint: Checkpoint, folder: Path | None = None, **more: Any) -> dict[str, Any]:
    """Describe to serving.py what to serve."""
    return {"name": name, "folder": str(folder or checkpoint.folder), "prompts": checkpoint.prompts, **more}


def run(serve: Serve, which: str, jobs: list[dict[str, Any]], env: dict[str, str] | None = None) -> Answers:
    output = serve(which, SERVING, json.dumps(jobs), env=env)
    assert output.returncode == 0, output.output[-4000:]
    answers: Answers = output.value
    return answers


def difference(answer: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """Return the largest difference of two answers' log-probabilities."""
    pairs = zip(answer["logprobs"], reference["logprobs"], strict=True)
    return max(abs(got - expected) for got, expected in pairs)


@pytest.fixture(scope="module")
def patched(base: str, serve: Serve, checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The answers of the patched vLLM, all in one process."""
    folder, has = tmp_path_factory.mktemp("rewritten"), BASES[base]
    jobs = []
    for name, it in SERVED.items():
        if has.holds([it.patch], whole=it.whole):
            copy = rewritten(checkpoints[it.checkpoint], folder / name, it.declared_in, it.algo)
            jobs.append(job(name, checkpoints[it.checkpoint], copy, options=it.options))
    for name, load in BAD.items():
        if load.served and has.holds(load.patches, whole=True):
            copy = rewritten(checkpoints[load.checkpoint], folder / name)
            for file in (copy / "config.json", copy / "hf_quant_config.json"):
                for old, new in load.renamed.items():
                    file.write_text(file.read_text().replace(f'"{old}"', f'"{new}"'))
            changes = {"changes": dict(load.changes)} if load.changes else {}
            jobs.append(job(name, checkpoints[load.checkpoint], copy, prompts={}, options=BFLOAT16, **changes))
    if has.holds(MIXED, whole=False):
        jobs.append(job("mixed", checkpoints["qwen3, mixed"], options=BFLOAT16, prompts={"text": [1, 2, 3]}))
    jobs.append(job("fp8", checkpoints["qwen2.5-vl, fp8"], options=FP8_ON_CPU))
    return run(serve, "patched", jobs)


@pytest.fixture(scope="module")
def published(base: str, serve: Serve, checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The answers of vLLM as it is published."""
    folder = tmp_path_factory.mktemp("rewritten")
    jobs = [
        job(where, checkpoints["qwen2.5-vl"], rewritten(checkpoints["qwen2.5-vl"], folder / where, where))
        for where in ("both", "config.json", "hf_quant_config.json")
    ]
    jobs.append(job("weights", checkpoints["qwen3, weights"]))
    jobs.append(job("fp8", checkpoints["qwen2.5-vl, fp8"], options=FP8_ON_CPU))
    return run(serve, "base", jobs)


@pytest.mark.parametrize("name", [pytest.param(name, marks=it.marks) for name, it in SERVED.items()])
def test_logits_equal_fake_quantization(patched: Answers, checkpoints: Checkpoints, name: str) -> None:
    answer = patched[name]
    assert "error" not in answer, answer["error"]
    assert answer["quantization"] == "modelopt"
    checkpoint = checkpoints[SERVED[name].checkpoint]
    assert checkpoint.reference
    for kind, reference in checkpoint.reference.items():
        assert difference(answer[kind], reference) < 1e-5, kind
        assert answer[kind]["tokens"] == reference["tokens"], kind
        spread = max(reference["logprobs"]) - min(reference["logprobs"])
        assert spread > 1, "logits this flat would hide an error"


def test_every_int8_layer_has_an_int8_kernel(patched: Answers) -> None:
    kernels = patched["qwen2.5-vl"]["kernels"]
    assert set(kernels.values()) == {"CPUInt8ScaledMMLinearKernel"}
    assert {name.rpartition(".")[2] for name in kernels} == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    assert not any("visual" in name for name in kernels), "the vision tower is not quantized"


@pytest.mark.patch("modelopt-int8-weight-only")
def test_weight_only_layers_are_dequantized(patched: Answers) -> None:
    assert set(patched["qwen3, weights"]["kernels"].values()) == {"CPUDequantW8A16LinearKernel"}


@fp8_cache
def test_scales_of_the_kv_cache_reach_attention(patched: Answers, checkpoints: Checkpoints) -> None:
    assert all(scales == [1.0, 1.0] for scales in patched["qwen2.5-vl"]["kv_scales"].values())
    scales = patched["qwen2.5-vl, kv"]["kv_scales"]
    language = [value for name, value in scales.items() if "visual" not in name]
    assert len(language) == 2
    assert all(0 < scale < 0.1 for pair in language for scale in pair), scales


@pytest.mark.whole
def test_the_published_wheel_refuses_it(published: Answers) -> None:
    for declared_in in ("both", "config.json"):
        assert "ModelOpt currently only supports" in published[declared_in]["error"]
    assert "Unknown ModelOpt quant algo: W8A8_SQ_PER_CHANNEL" in published["hf_quant_config.json"]["error"]
    assert "ModelOpt currently only supports" in published["weights"]["error"]


@fp8_cache
def test_fp8_is_served(patched: Answers, checkpoints: Checkpoints) -> None:
    assert "error" not in patched["fp8"], patched["fp8"]["error"]
    for kind, reference in checkpoints["qwen2.5-vl, fp8"].reference.items():
        # bfloat16, where the reference is float32.
        assert difference(patched["fp8"][kind], reference) < 0.5
        assert patched["fp8"][kind]["tokens"][0] == reference["tokens"][0]


@fp8_cache
@pytest.mark.whole
def test_fp8_is_served_as_before(patched: Answers, published: Answers) -> None:
    assert "error" not in published["fp8"], published["fp8"]["error"]
    assert patched["fp8"] == published["fp8"]


@pytest.mark.patch(*MIXED)
def test_layers_of_mixed_precision_are_served(patched: Answers) -> None:
    assert "error" not in patched["mixed"], patched["mixed"]["error"]
    assert patched["mixed"]["quantization"] == "modelopt_mixed"
    kernels = {name.rpartition(".")[2]: kernel for name, kernel in patched["mixed"]["kernels"].items()}
    assert kernels["qkv_proj"] == "CPUInt8ScaledMMLinearKernel"
    assert kernels["down_proj"] == "CPUDequantW8A16LinearKernel"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=marks(load.patches, True)) for name, load in BAD.items() if load.served]
)
def test_a_bad_checkpoint_is_named(patched: Answers, name: str) -> None:
    for part in BAD[name].says:
        assert part in patched[name]["error"]


@pytest.mark.patch(*MIXED, "modelopt-mixed-unknown-algo")
def test_an_unknown_part_of_mixed_precision_is_named(probe: Probe) -> None:
    error = probe("patched")["loading"]["mixed, unknown"]["error"]
    assert "mlp.gate_up_proj: ModelOpt W4A8_AWQ is not supported as part of MIXED_PRECISION" in error
    assert "MIXED_PRECISION" not in probe("base")["loading"]["mixed"]["error"]


@pytest.mark.whole
def test_tensor_parallel(serve: Serve, checkpoints: Checkpoints) -> None:
    checkpoint = checkpoints["qwen2"]
    two = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    # One core each: vLLM would share the machine's NUMA nodes out, and there may be one.
    answer = run(serve, "patched", [job("two", checkpoint, options=two)], env={"VLLM_CPU_OMP_THREADS_BIND": "0|1"})[
        "two"
    ]
    assert "error" not in answer, answer["error"]
    for kind, reference in checkpoint.reference.items():
        assert difference(answer[kind], reference) < 1e-5, kind
        assert answer[kind]["tokens"] == reference["tokens"], kind


@pytest.mark.patch("cpu-int8-static-scale")
def test_amx_uses_the_static_scale(probe: Probe) -> None:
    parts = probe("patched")["parts"]
    assert parts["static on AMX"] == "_apply_weights_onednn"
    assert parts["dynamic on AMX"] == "_apply_weights_sgl"


@pytest.mark.patch("cpu-int8-without-vnni")
def test_products_are_exact_without_vnni(serve: Serve) -> None:
    # Newer CPUs have VNNI: this variable has oneDNN do without.
    outputs = {which: serve(which, INT8_CPU, env={"ONEDNN_MAX_CPU_ISA": "AVX2"}) for which in ("base", "patched")}
    for one in outputs.values():
        assert one.returncode == 0, one.output[-4000:]
    allowed = {"torch.float32": 1e-6, "torch.bfloat16": 2**-8}
    assert {case["dtype"] for case in outputs["patched"].value} == set(allowed)
    for case in outputs["patched"].value:
        assert case["off"] < allowed[case["dtype"]], case
    if platform.machine() == "x86_64":
        assert max(case["off"] for case in outputs["base"].value) > 0.1


@pytest.mark.patch("modelopt-int8-smoothquant")
def test_pre_quant_scale_is_split_as_the_input_is(probe: Probe) -> None:
    parts = probe("patched")["parts"]
    assert parts["row parallel"] == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]
    assert parts["column parallel"] == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]] * 2
    assert parts["fused qkv"] == [[[1.0] * 8, [2.0] * 8, [3.0] * 8]] * 2
    assert parts["wrong size"].startswith("AssertionError")
