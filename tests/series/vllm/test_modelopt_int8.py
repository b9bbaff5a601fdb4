"""ModelOpt's checkpoints through vLLM's own engine, on the CPU, held against ModelOpt's fake quantization."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.series.vllm.conftest import Checkpoint, Serve

SERVING = Path(__file__).with_name("serving.py")
UNITS = Path(__file__).with_name("units.py")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

Checkpoints = Mapping[str, Checkpoint]
Answers = Mapping[str, Mapping[str, Any]]

BFLOAT16 = {"dtype": "bfloat16"}
# vLLM's CPU build has no FP8 quantization of its own; torch's takes its place.
FP8_ON_CPU = {**BFLOAT16, "compilation_config": {"custom_ops": ["all", "-quant_fp8"]}}

# name: (checkpoint, options of vllm.LLM, which files say how it is quantized)
SERVED: dict[str, tuple[str, dict[str, Any], str]] = {
    "qwen2.5-vl": ("qwen2.5-vl", {}, "both"),
    "qwen2.5-vl, kv": ("qwen2.5-vl, kv", {}, "hf_quant_config.json"),
    "qwen3-vl": ("qwen3-vl", {}, "both"),
    "qwen2": ("qwen2", {}, "config.json"),
    "llama, asked for": ("llama", {"quantization": "modelopt"}, "hf_quant_config.json"),
    "qwen3, weights": ("qwen3, weights", {}, "both"),
    "qwen3-moe, experts awake": ("qwen3-moe, experts awake", {}, "both"),
}
# name: (the checkpoint's tensor, what it is multiplied by, the message)
BAD: dict[str, tuple[str, float | None, str]] = {
    "no input_scale of k": ("layers.1.self_attn.k_proj.input_scale", None, "no valid input_scale in the checkpoint"),
    "no input_scale of down": ("layers.1.mlp.down_proj.input_scale", None, "down_proj: no valid input_scale in"),
    "no pre_quant_scale of up": ("layers.1.mlp.up_proj.pre_quant_scale", None, "gate_up_proj: no valid pre_quant"),
    "no weight_scale of v": ("layers.0.self_attn.v_proj.weight_scale", None, "qkv_proj: no valid weight_scale"),
    "no weight of v": ("layers.0.self_attn.v_proj.weight", None, "qkv_proj: no valid weight in the checkpoint for"),
    "input_scale of o is 0": ("layers.0.self_attn.o_proj.input_scale", 0.0, "o_proj: no valid input_scale"),
    "input_scale of up differs": ("layers.1.mlp.up_proj.input_scale", 1.5, "gate_up_proj: the input_scale of its shar"),
    "pre_quant_scale of q differs": ("layers.1.self_attn.q_proj.pre_quant_scale", 1.5, "qkv_proj: the pre_quant_scale"),
}
REFUSED: dict[str, tuple[str, list[str]]] = {
    "experts": ("qwen3-moe", ["layers.0.mlp.experts: ModelOpt W8A8_SQ_PER_CHANNEL", "exclude_modules"]),
    "not smoothed": ("qwen3, not smoothed", ["qkv_proj: no valid pre_quant_scale", "use INT8_SMOOTHQUANT_CFG"]),
}


def retold(checkpoint: Checkpoint, folder: Path, said_by: str = "both", algo: str | None = None) -> Path:
    """Copy a checkpoint whose quantization just one of the two files tells, or under another name."""
    shutil.copytree(checkpoint.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    other = json.loads((folder / "hf_quant_config.json").read_text())
    if algo is not None:
        config["quantization_config"]["quant_algo"] = other["quantization"]["quant_algo"] = algo
    if said_by == "hf_quant_config.json":
        del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "hf_quant_config.json").write_text(json.dumps(other))
    if said_by == "config.json":
        (folder / "hf_quant_config.json").unlink()
    return folder


def job(name: str, checkpoint: Checkpoint, folder: Path | None = None, **more: Any) -> dict[str, Any]:
    """Describe to serving.py what to serve."""
    return {"name": name, "folder": str(folder or checkpoint.folder), "words": checkpoint.words, **more}


def run(serve: Serve, which: str, jobs: list[dict[str, Any]], env: dict[str, str] | None = None) -> Answers:
    said = serve(which, SERVING, json.dumps(jobs), env=env)
    assert said.returncode == 0, said.output[-4000:]
    answers: Answers = said.value
    return answers


def difference(answer: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """Return the largest difference of two answers' log-probabilities."""
    pairs = zip(answer["logprobs"], reference["logprobs"], strict=True)
    return max(abs(got - expected) for got, expected in pairs)


@pytest.fixture(scope="module")
def patched(serve: Serve, checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What the patched vLLM says, all in one process."""
    folder = tmp_path_factory.mktemp("retold")
    jobs = [
        job(name, checkpoints[which], retold(checkpoints[which], folder / name, said_by), options=options)
        for name, (which, options, said_by) in SERVED.items()
    ]
    for algo in ("INT8_SMOOTHQUANT", "int8_sq"):
        jobs.append(job(algo, checkpoints["qwen2"], retold(checkpoints["qwen2"], folder / algo, algo=algo)))
    jobs += [
        job(name, checkpoints["qwen2"], changes={tensor: factor}, words={}) for name, (tensor, factor, _) in BAD.items()
    ]
    jobs += [job(name, checkpoints[which]) for name, (which, _) in REFUSED.items()]
    mixed = checkpoints["qwen3, mixed"]
    jobs.append(job("mixed", mixed, options=BFLOAT16, words={"text": [1, 2, 3]}))
    unknown = folder / "mixed, unknown"
    shutil.copytree(mixed.folder, unknown)
    for file in (unknown / "config.json", unknown / "hf_quant_config.json"):
        file.write_text(file.read_text().replace('"W8A16"', '"W4A8_AWQ"'))
    jobs.append(job("mixed, unknown", mixed, unknown, options=BFLOAT16))
    jobs.append(job("fp8", checkpoints["qwen2.5-vl, fp8"], options=FP8_ON_CPU))
    return run(serve, "patched", jobs)


@pytest.fixture(scope="module")
def published(serve: Serve, checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What vLLM says as it is published."""
    folder = tmp_path_factory.mktemp("retold")
    jobs = [
        job(said_by, checkpoints["qwen2.5-vl"], retold(checkpoints["qwen2.5-vl"], folder / said_by, said_by))
        for said_by in ("both", "config.json", "hf_quant_config.json")
    ]
    jobs.append(job("weights", checkpoints["qwen3, weights"]))
    jobs.append(job("mixed", checkpoints["qwen3, mixed"], options=BFLOAT16))
    jobs.append(job("fp8", checkpoints["qwen2.5-vl, fp8"], options=FP8_ON_CPU))
    return run(serve, "base", jobs)


@pytest.mark.parametrize("name", [*SERVED, "INT8_SMOOTHQUANT", "int8_sq"])
def test_logits_equal_fake_quantization(patched: Answers, checkpoints: Checkpoints, name: str) -> None:
    answer = patched[name]
    assert "error" not in answer, answer["error"]
    assert answer["quantization"] == "modelopt"
    checkpoint = checkpoints[SERVED[name][0] if name in SERVED else "qwen2"]
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
    assert set(patched["qwen3, weights"]["kernels"].values()) == {"CPUDequantW8A16LinearKernel"}


def test_scales_of_the_kv_cache_reach_attention(patched: Answers, checkpoints: Checkpoints) -> None:
    assert all(scales == [1.0, 1.0] for scales in patched["qwen2.5-vl"]["kv_scales"].values())
    scales = patched["qwen2.5-vl, kv"]["kv_scales"]
    language = [value for name, value in scales.items() if "visual" not in name]
    assert len(language) == 2
    assert all(0 < scale < 0.1 for pair in language for scale in pair), scales


def test_the_published_wheel_refuses_it(published: Answers) -> None:
    for said_by in ("both", "config.json"):
        assert "ModelOpt currently only supports" in published[said_by]["error"]
    assert "Unknown ModelOpt quant algo: W8A8_SQ_PER_CHANNEL" in published["hf_quant_config.json"]["error"]
    assert "ModelOpt currently only supports" in published["weights"]["error"]


def test_fp8_is_served_as_before(patched: Answers, published: Answers, checkpoints: Checkpoints) -> None:
    for kind, reference in checkpoints["qwen2.5-vl, fp8"].reference.items():
        assert "error" not in published["fp8"], published["fp8"]["error"]
        assert patched["fp8"] == published["fp8"]
        # bfloat16, where the reference is float32.
        assert difference(patched["fp8"][kind], reference) < 0.5
        assert patched["fp8"][kind]["tokens"][0] == reference["tokens"][0]


def test_layers_of_mixed_precision_are_served(patched: Answers) -> None:
    assert "error" not in patched["mixed"], patched["mixed"]["error"]
    assert patched["mixed"]["quantization"] == "modelopt_mixed"
    kernels = {name.rpartition(".")[2]: kernel for name, kernel in patched["mixed"]["kernels"].items()}
    assert kernels["qkv_proj"] == "CPUInt8ScaledMMLinearKernel"
    assert kernels["down_proj"] == "CPUDequantW8A16LinearKernel"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_checkpoint_is_named(patched: Answers, name: str) -> None:
    assert BAD[name][2] in patched[name]["error"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_named(patched: Answers, name: str) -> None:
    for part in REFUSED[name][1]:
        assert part in patched[name]["error"]


def test_an_unknown_part_of_mixed_precision_is_named(patched: Answers, published: Answers) -> None:
    error = patched["mixed, unknown"]["error"]
    assert "mlp.gate_up_proj: ModelOpt W4A8_AWQ is not supported as part of MIXED_PRECISION" in error
    assert "error" in published["mixed"]
    assert "MIXED_PRECISION" not in published["mixed"]["error"]


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


@pytest.fixture(scope="module")
def units(serve: Serve) -> Mapping[str, Any]:
    said = serve("patched", UNITS)
    assert said.returncode == 0, said.output[-4000:]
    value: Mapping[str, Any] = said.value
    return value


def test_amx_uses_the_static_scale(units: Mapping[str, Any], serve: Serve) -> None:
    assert units["static on AMX"] == "_apply_weights_onednn"
    assert units["dynamic on AMX"] == "_apply_weights_sgl"


def test_pre_quant_scale_is_split_as_the_input_is(units: Mapping[str, Any]) -> None:
    assert units["row parallel"] == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]
    assert units["column parallel"] == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]] * 2
    assert units["fused qkv"] == [[[1.0] * 8, [2.0] * 8, [3.0] * 8]] * 2
    assert units["wrong size"].startswith("AssertionError")
