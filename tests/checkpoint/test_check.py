"""Good checkpoints pass; every damage is a breach of its own rule, with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoint.breach import Breach, CheckResult
from checkpoint.checks.check import check
from toolkit.errors import UsageError
from toolkit.progress import Quiet

from .samples import GROUPS, K, N, Sample, Tensor, bf16, checkpoint, f32

Q = "model.layers.0.self_attn.q_proj"
UP = "model.layers.1.mlp.up_proj"
VISION = "visual.blocks.0.attn"


def result_of(sample: Sample, folder: Path) -> CheckResult:
    return check(sample.write(folder), Quiet())


@pytest.mark.parametrize(
    "algo",
    ["W8A8_SQ_PER_CHANNEL", "W8A16", "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "NVFP4", "W4A16_NVFP4", "NVFP4_AWQ", "MXFP8"],
)
@pytest.mark.parametrize("vision", [True, False])
def test_good_checkpoints(tmp_path: Path, algo: str, vision: bool) -> None:
    result = result_of(checkpoint(algo, vision=vision), tmp_path)
    assert result.breaches == ()
    assert result.good
    assert (result.algo, result.cache, result.quantized) == (algo, "FP8", 14)
    assert result.left_alone == (4 if vision else 2)
    assert bool(result.notes) == (algo == "MXFP8")


def test_a_sharded_checkpoint(tmp_path: Path) -> None:
    sample = checkpoint()
    for name in sample.tensors:
        sample.files[name] = f"model-0000{1 + (name > 'model.layers.1')}-of-00002.safetensors"
    assert result_of(sample, tmp_path).good


def test_a_mixed_checkpoint(tmp_path: Path) -> None:
    sample, other = checkpoint("FP8"), checkpoint("W8A16")
    prefix = "model.layers.1.mlp."
    for name in [name for name in sample.tensors if name.startswith(prefix)]:
        del sample.tensors[name]
    sample.tensors |= {name: tensor for name, tensor in other.tensors.items() if name.startswith(prefix)}
    names = sorted({name.rpartition(".")[0] for name in sample.tensors if name.endswith("weight_scale")})
    layers = {name: {"quant_algo": "W8A16" if name.startswith(prefix) else "FP8"} for name in names}
    for config in (sample.quant, sample.config["quantization_config"]):
        config["quant_algo"] = "MIXED_PRECISION"
        config["quantized_layers"] = layers
    sample.config["quantization_config"]["config_groups"] = {}
    assert result_of(sample, tmp_path).breaches == ()
    del sample.tensors[f"{prefix}up_proj.weight_scale"]
    assert [breach.rule for breach in result_of(sample, tmp_path).breaches] == ["missing"]


def drop(name: str) -> Callable[[Sample], None]:
    return lambda sample: sample.tensors.__delitem__(name)


def put(name: str, tensor: Tensor) -> Callable[[Sample], None]:
    return lambda sample: sample.tensors.__setitem__(name, tensor)


def change(name: str, index: int, value: float | int) -> Callable[[Sample], None]:
    """Change one element; for bfloat16 and e4m3, `value` is its bits."""
    return lambda sample: sample.tensors[name].data.reshape(-1).__setitem__(index, value)


def configure(key: str, value: object, *, both: bool = True) -> Callable[[Sample], None]:
    """Change a key of both configurations, or of hf_quant_config.json alone."""
    keys = {"quant_algo": "quant_algo", "exclude_modules": "ignore", "kv_cache_quant_algo": "kv_cache_scheme"}

    def edit(sample: Sample) -> None:
        sample.quant[key] = value
        if both:
            sample.config["quantization_config"][keys[key]] = value

    return edit


def group(key: str, value: object) -> Callable[[Sample], None]:
    return lambda sample: sample.config["quantization_config"]["config_groups"]["group_0"].__setitem__(key, value)


NAN = float("nan")
DAMAGES: dict[str, tuple[Callable[[Sample], None], str, str, str]] = {
    # a change of a good INT8 checkpoint: the breach's rule, its place, and a part of its text
    "no weight_scale": (drop(f"{Q}.weight_scale"), "missing", f"{Q}.weight_scale", "is absent"),
    "no input_scale": (drop(f"{UP}.input_scale"), "missing", f"{UP}.input_scale", "W8A8_SQ_PER_CHANNEL has it"),
    "no pre_quant_scale": (drop(f"{Q}.pre_quant_scale"), "missing", f"{Q}.pre_quant_scale", "is absent"),
    "scale in bf16": (
        put(f"{Q}.weight_scale", bf16(np.full(N, 0.01))),
        "dtype",
        f"{Q}.weight_scale",
        "F32 is expected",
    ),
    "smoothing in fp32": (
        put(f"{Q}.pre_quant_scale", Tensor("F32", np.ones(K, np.float32))),
        "dtype",
        f"{Q}.pre_quant_scale",
        "BF16 is expected (the model's type)",
    ),
    "weight in fp8": (
        put(f"{Q}.weight", Tensor("F8_E4M3", np.zeros((N, K), np.uint8))),
        "dtype",
        f"{Q}.weight",
        "I8 [N, K]",
    ),
    "scale of one row too few": (
        put(f"{Q}.weight_scale", Tensor("F32", np.ones(N - 1, np.float32))),
        "shape",
        f"{Q}.weight_scale",
        f"the weight's [N] is [{N}]",
    ),
    "smoothing per row": (
        put(f"{Q}.pre_quant_scale", bf16(np.ones(N))),
        "shape",
        f"{Q}.pre_quant_scale",
        f"[K] is [{K}]",
    ),
    "input scale per channel": (
        put(f"{Q}.input_scale", Tensor("F32", np.full(K, 0.01, np.float32))),
        "shape",
        f"{Q}.input_scale",
        "scalar",
    ),
    "NaN in a scale": (change(f"{UP}.weight_scale", 3, NAN), "value", f"{UP}.weight_scale", "1 values that are NaN"),
    "infinite scale": (change(f"{UP}.weight_scale", 3, np.inf), "value", f"{UP}.weight_scale", "infinite"),
    "scale of zero": (change(f"{UP}.weight_scale", 3, 0), "value", f"{UP}.weight_scale", "zero or below"),
    "negative scale": (change(f"{UP}.input_scale", 0, -1), "value", f"{UP}.input_scale", "least -1"),
    "NaN in the smoothing": (change(f"{Q}.pre_quant_scale", 0, 0x7FC0), "value", f"{Q}.pre_quant_scale", "NaN"),
    "NaN in a norm": (change("model.norm.weight", 5, 0x7FC0), "value", "model.norm.weight", "1 values that are NaN"),
    "q/k/v disagree in range": (
        change(f"{Q}.input_scale", 0, 0.5),
        "fused",
        "model.layers.0.self_attn",
        "q_proj/k_proj/v_proj disagree in input_scale",
    ),
    "gate/up disagree in smoothing": (
        change(f"{UP}.pre_quant_scale", 0, 0x3F80),
        "fused",
        "model.layers.1.mlp",
        "gate_proj/up_proj disagree in pre_quant_scale",
    ),
    "phantom of an image": (
        put(f"{VISION}.k_proj.k_scale", f32(0.1)),
        "phantom",
        f"{VISION}.k_proj.k_scale",
        "the vision tower has no KV cache",
    ),
    "phantom layer": (
        put("model.layers.0.mlp.gate.weight_scale", f32(0.1)),
        "phantom",
        "model.layers.0.mlp.gate.weight_scale",
        "there is no",
    ),
    "phantom cache": (
        put("model.layers.0.mixer.k_proj.k_scale", f32(0.1)),
        "phantom",
        "model.layers.0.mixer.k_proj.k_scale",
        "there is no",
    ),
    "quantizer left behind": (
        put(f"{Q}.input_quantizer._amax", f32(3)),
        "phantom",
        f"{Q}.input_quantizer._amax",
        "a quantizer's own state",
    ),
    "tensor of another format": (
        put(f"{Q}.weight_scale_2", f32(1)),
        "phantom",
        f"{Q}.weight_scale_2",
        "none of W8A8_SQ_PER_CHANNEL's tensors",
    ),
    "no cache scale in one layer": (
        drop("model.layers.1.self_attn.v_proj.v_scale"),
        "cache",
        "model.layers.1.self_attn.v_proj.v_scale",
        "other scales",
    ),
    "cache scale in bf16": (
        put("model.layers.1.self_attn.v_proj.v_scale", bf16([0.1])),
        "dtype",
        "model.layers.1.self_attn.v_proj.v_scale",
        "F32 []",
    ),
    "cache scale of zero": (
        change("model.layers.1.self_attn.v_proj.v_scale", 0, 0),
        "value",
        "model.layers.1.self_attn.v_proj.v_scale",
        "zero",
    ),
    "cache that is not configured": (
        configure("kv_cache_quant_algo", None),
        "cache",
        "model.layers.0.self_attn.k_proj.k_scale, ",
        "the cache is not quantized",
    ),
    "quantized, but excluded": (
        configure("exclude_modules", ["lm_head", "model.embed_tokens", "visual*", "*up_proj"]),
        "config",
        UP,
        "'*up_proj' excludes it",
    ),
    "vision tower not excluded": (
        configure("exclude_modules", ["lm_head", "model.embed_tokens"]),
        "config",
        f"{VISION}.qkv",
        "nothing excludes it",
    ),
    "algorithms differ": (
        configure("quant_algo", "FP8", both=False),
        "config",
        "quant_algo",
        "config.json W8A8_SQ_PER_CHANNEL",
    ),
    "caches differ": (configure("kv_cache_quant_algo", "NVFP4", both=False), "config", "KV cache", "config.json FP8"),
    "exclusions differ": (
        configure("exclude_modules", ["lm_head", "visual*", "model.embed_tokens", "*.mlp.gate"], both=False),
        "config",
        "hf_quant_config.json",
        "excludes *.mlp.gate, which config.json does not",
    ),
    "unknown algorithm": (
        configure("quant_algo", "W3A5"),
        "config",
        "hf_quant_config.json",
        "W3A5, which ModelOpt does not have",
    ),
    "no algorithm": (configure("quant_algo", None), "config", "hf_quant_config.json", "names no quant_algo"),
    "no config group": (
        lambda sample: sample.config["quantization_config"].__delitem__("config_groups"),
        "config",
        "config.json",
        "no config group",
    ),
    "config group of floats": (
        group("weights", {"type": "float", "num_bits": 8}),
        "config",
        "config.json group_0.weights",
        "is float8, where W8A8_SQ_PER_CHANNEL has int8",
    ),
    "config group without activations": (
        group("input_activations", None),
        "config",
        "config.json group_0.input_activations",
        "is none, where W8A8_SQ_PER_CHANNEL has int8",
    ),
    "another method": (
        lambda sample: sample.config["quantization_config"].__setitem__("quant_method", "awq"),
        "config",
        "config.json",
        "'awq'",
    ),
    "no quantization in config.json": (
        lambda sample: sample.config.__delitem__("quantization_config"),
        "config",
        "config.json",
        "has no quantization_config",
    ),
    "no head": (drop("lm_head.weight"), "layers", "lm_head.weight", "not tied"),
    "a layer is missing": (
        lambda sample: sample.config["text_config"].__setitem__("num_hidden_layers", 4),
        "layers",
        "2, 3",
        "of 4 layers",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_checkpoint(tmp_path: Path, case: str) -> None:
    damage, rule, where, text = DAMAGES[case]
    sample = checkpoint()
    damage(sample)
    result = result_of(sample, tmp_path)
    assert not result.good
    matching = [breach for breach in result.breaches if breach.rule == rule and breach.where.startswith(where)]
    assert matching, result.breaches
    assert text in matching[0].text


def test_a_single_fault_is_one_breach(tmp_path: Path) -> None:
    """One fault is one breach, or two at most."""
    for number, case in enumerate(DAMAGES):
        sample = checkpoint()
        DAMAGES[case][0](sample)
        result = result_of(sample, tmp_path / str(number))
        rules = [breach.rule for breach in result.breaches]
        assert len(rules) <= 2 or case in ("algorithms differ", "unknown algorithm", "no algorithm"), (
            case,
            result.breaches,
        )


def test_one_of_q_k_v_that_is_not_quantized(tmp_path: Path) -> None:
    sample = checkpoint()
    for part in ("weight_scale", "input_scale", "pre_quant_scale"):
        del sample.tensors[f"{Q}.{part}"]
    sample.tensors[f"{Q}.weight"] = bf16(np.ones((N, K)))
    breaches = result_of(sample, tmp_path).breaches
    assert (
        Breach("fused", "model.layers.0.self_attn", "q_proj of q_proj/k_proj/v_proj is not quantized, the others are")
        in breaches
    )
    sample.tensors[f"{Q}.weight_scale"] = f32(1)
    assert "weight is not quantized" not in str(breaches)


def test_scales_of_a_weight_that_is_not_quantized(tmp_path: Path) -> None:
    sample = checkpoint()
    sample.tensors["lm_head.input_scale"] = f32(1)
    (breach,) = result_of(sample, tmp_path).breaches
    assert (breach.rule, breach.where) == ("missing", "lm_head")
    assert "its weight is not quantized" in breach.text


def test_fp8_weights_with_nan(tmp_path: Path) -> None:
    sample = checkpoint("FP8")
    sample.tensors[f"{Q}.weight"].data[0, :2] = (0x7F, 0xFF)
    (breach,) = result_of(sample, tmp_path).breaches
    assert (breach.rule, breach.where) == ("value", f"{Q}.weight")
    assert "2 values" in breach.text


def test_blocks_of_zeros_are_no_breach(tmp_path: Path) -> None:
    sample = checkpoint("NVFP4")
    sample.tensors[f"{Q}.weight_scale"].data[0, 0] = 0
    assert result_of(sample, tmp_path).good
    sample.tensors[f"{Q}.weight_scale"].data[0, 0] = 0x81
    assert [breach.rule for breach in result_of(sample, tmp_path).breaches] == ["value"]


def test_a_dead_channel_is_a_note(tmp_path: Path) -> None:
    sample = checkpoint()
    for part in ("q", "k", "v"):
        sample.tensors[f"model.layers.0.self_attn.{part}_proj.pre_quant_scale"] = bf16([9984] + [1] * (K - 1))
    result = result_of(sample, tmp_path)
    assert result.good
    assert "was zero throughout calibration" in result.notes[0]


def test_names_of_older_transformers_are_excluded_too(tmp_path: Path) -> None:
    """0.40.0 writes `model.visual*`, and a newer transformers `visual.` in front of the tensors."""
    sample = checkpoint()
    for config, key in ((sample.quant, "exclude_modules"), (sample.config["quantization_config"], "ignore")):
        config[key] = ["lm_head", "model.visual*"]
    assert result_of(sample, tmp_path).good


@pytest.mark.parametrize("algo", GROUPS)
def test_only_int8_needs_a_config_group(tmp_path: Path, algo: str) -> None:
    sample = checkpoint(algo)
    sample.config["quantization_config"]["config_groups"] = {}
    assert result_of(sample, tmp_path).good == (not algo.startswith("W8"))


def test_no_folder_and_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        check(tmp_path / "nowhere", Quiet())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="no quantized checkpoint"):
        check(tmp_path, Quiet())
