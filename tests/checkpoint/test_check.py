"""Good checkpoints pass, and every way to spoil one is found, named and told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoint.checks.check import check
from checkpoint.checks.finding import Breach, Verdict
from toolkit.errors import UsageError
from toolkit.progress import Quiet

from .made import GROUPS, K, Made, N, Tensor, bf16, checkpoint, f32

Q = "model.layers.0.self_attn.q_proj"
UP = "model.layers.1.mlp.up_proj"
VISION = "visual.blocks.0.attn"


def verdict(made: Made, folder: Path) -> Verdict:
    return check(made.write(folder), Quiet())


@pytest.mark.parametrize(
    "algo",
    ["W8A8_SQ_PER_CHANNEL", "W8A16", "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "NVFP4", "W4A16_NVFP4", "NVFP4_AWQ", "MXFP8"],
)
@pytest.mark.parametrize("vision", [True, False])
def test_good_checkpoints(tmp_path: Path, algo: str, vision: bool) -> None:
    found = verdict(checkpoint(algo, vision=vision), tmp_path)
    assert found.breaches == ()
    assert found.good
    assert (found.algo, found.cache, found.quantized) == (algo, "FP8", 14)
    assert found.left_alone == (4 if vision else 2)
    assert bool(found.notes) == (algo == "MXFP8")


def test_a_sharded_checkpoint(tmp_path: Path) -> None:
    made = checkpoint()
    for name in made.tensors:
        made.files[name] = f"model-0000{1 + (name > 'model.layers.1')}-of-00002.safetensors"
    assert verdict(made, tmp_path).good


def test_a_mixed_checkpoint(tmp_path: Path) -> None:
    made, other = checkpoint("FP8"), checkpoint("W8A16")
    prefix = "model.layers.1.mlp."
    for name in [name for name in made.tensors if name.startswith(prefix)]:
        del made.tensors[name]
    made.tensors |= {name: tensor for name, tensor in other.tensors.items() if name.startswith(prefix)}
    names = sorted({name.rpartition(".")[0] for name in made.tensors if name.endswith("weight_scale")})
    layers = {name: {"quant_algo": "W8A16" if name.startswith(prefix) else "FP8"} for name in names}
    for said in (made.quant, made.config["quantization_config"]):
        said["quant_algo"] = "MIXED_PRECISION"
        said["quantized_layers"] = layers
    made.config["quantization_config"]["config_groups"] = {}
    assert verdict(made, tmp_path).breaches == ()
    del made.tensors[f"{prefix}up_proj.weight_scale"]
    assert [breach.rule for breach in verdict(made, tmp_path).breaches] == ["missing"]


def drop(name: str) -> Callable[[Made], None]:
    return lambda made: made.tensors.__delitem__(name)


def put(name: str, tensor: Tensor) -> Callable[[Made], None]:
    return lambda made: made.tensors.__setitem__(name, tensor)


def spoil(name: str, index: int, value: float | int) -> Callable[[Made], None]:
    """Change one element; for bfloat16 and e4m3, `value` is its bits."""
    return lambda made: made.tensors[name].data.reshape(-1).__setitem__(index, value)


def say(key: str, value: object, *, both: bool = True) -> Callable[[Made], None]:
    """Change what the configurations say; or hf_quant_config.json's alone."""
    words = {"quant_algo": "quant_algo", "exclude_modules": "ignore", "kv_cache_quant_algo": "kv_cache_scheme"}

    def change(made: Made) -> None:
        made.quant[key] = value
        if both:
            made.config["quantization_config"][words[key]] = value

    return change


def group(key: str, value: object) -> Callable[[Made], None]:
    return lambda made: made.config["quantization_config"]["config_groups"]["group_0"].__setitem__(key, value)


NAN = float("nan")
SPOILT: dict[str, tuple[Callable[[Made], None], str, str, str]] = {
    # what is done to a good INT8 checkpoint: rule, where, and words of the text
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
    "NaN in a scale": (spoil(f"{UP}.weight_scale", 3, NAN), "value", f"{UP}.weight_scale", "1 values that are NaN"),
    "infinite scale": (spoil(f"{UP}.weight_scale", 3, np.inf), "value", f"{UP}.weight_scale", "infinite"),
    "scale of zero": (spoil(f"{UP}.weight_scale", 3, 0), "value", f"{UP}.weight_scale", "zero or below"),
    "negative scale": (spoil(f"{UP}.input_scale", 0, -1), "value", f"{UP}.input_scale", "least -1"),
    "NaN in the smoothing": (spoil(f"{Q}.pre_quant_scale", 0, 0x7FC0), "value", f"{Q}.pre_quant_scale", "NaN"),
    "NaN in a norm": (spoil("model.norm.weight", 5, 0x7FC0), "value", "model.norm.weight", "1 values that are NaN"),
    "q/k/v disagree in range": (
        spoil(f"{Q}.input_scale", 0, 0.5),
        "fused",
        "model.layers.0.self_attn",
        "q_proj/k_proj/v_proj disagree in input_scale",
    ),
    "gate/up disagree in smoothing": (
        spoil(f"{UP}.pre_quant_scale", 0, 0x3F80),
        "fused",
        "model.layers.1.mlp",
        "gate_proj/up_proj disagree in pre_quant_scale",
    ),
    "phantom of a picture": (
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
        spoil("model.layers.1.self_attn.v_proj.v_scale", 0, 0),
        "value",
        "model.layers.1.self_attn.v_proj.v_scale",
        "zero",
    ),
    "cache of which nothing is said": (
        say("kv_cache_quant_algo", None),
        "cache",
        "model.layers.0.self_attn.k_proj.k_scale, ",
        "the cache is not quantized",
    ),
    "quantized, but excluded": (
        say("exclude_modules", ["lm_head", "model.embed_tokens", "visual*", "*up_proj"]),
        "config",
        UP,
        "'*up_proj' excludes it",
    ),
    "vision tower not excluded": (
        say("exclude_modules", ["lm_head", "model.embed_tokens"]),
        "config",
        f"{VISION}.qkv",
        "nothing excludes it",
    ),
    "algorithms differ": (
        say("quant_algo", "FP8", both=False),
        "config",
        "quant_algo",
        "config.json W8A8_SQ_PER_CHANNEL",
    ),
    "caches differ": (say("kv_cache_quant_algo", "NVFP4", both=False), "config", "KV cache", "config.json FP8"),
    "exclusions differ": (
        say("exclude_modules", ["lm_head", "visual*", "model.embed_tokens", "*.mlp.gate"], both=False),
        "config",
        "hf_quant_config.json",
        "excludes *.mlp.gate, which config.json does not",
    ),
    "unknown algorithm": (
        say("quant_algo", "W3A5"),
        "config",
        "hf_quant_config.json",
        "W3A5, which ModelOpt does not have",
    ),
    "no algorithm": (say("quant_algo", None), "config", "hf_quant_config.json", "names no quant_algo"),
    "no config group": (
        lambda made: made.config["quantization_config"].__delitem__("config_groups"),
        "config",
        "config.json",
        "no config group",
    ),
    "config group of floats": (
        group("weights", {"type": "float", "num_bits": 8}),
        "config",
        "config.json group_0.weights",
        "says float8",
    ),
    "config group without activations": (
        group("input_activations", None),
        "config",
        "config.json group_0.input_activations",
        "says nothing",
    ),
    "another method": (
        lambda made: made.config["quantization_config"].__setitem__("quant_method", "awq"),
        "config",
        "config.json",
        "'awq'",
    ),
    "no quantization in config.json": (
        lambda made: made.config.__delitem__("quantization_config"),
        "config",
        "config.json",
        "has no quantization_config",
    ),
    "no head": (drop("lm_head.weight"), "layers", "lm_head.weight", "not tied"),
    "a layer is missing": (
        lambda made: made.config["text_config"].__setitem__("num_hidden_layers", 4),
        "layers",
        "2, 3",
        "of 4 layers",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_checkpoint(tmp_path: Path, case: str) -> None:
    spoil_it, rule, where, words = SPOILT[case]
    made = checkpoint()
    spoil_it(made)
    found = verdict(made, tmp_path)
    assert not found.good
    matching = [breach for breach in found.breaches if breach.rule == rule and breach.where.startswith(where)]
    assert matching, found.breaches
    assert words in matching[0].text


def test_a_single_fault_is_one_breach(tmp_path: Path) -> None:
    """No avalanche: what is wrong once is told once."""
    for number, case in enumerate(SPOILT):
        made = checkpoint()
        SPOILT[case][0](made)
        found = verdict(made, tmp_path / str(number))
        rules = [breach.rule for breach in found.breaches]
        assert len(rules) <= 2 or case in ("algorithms differ", "unknown algorithm", "no algorithm"), (
            case,
            found.breaches,
        )


def test_one_of_q_k_v_that_is_not_quantized(tmp_path: Path) -> None:
    made = checkpoint()
    for part in ("weight_scale", "input_scale", "pre_quant_scale"):
        del made.tensors[f"{Q}.{part}"]
    made.tensors[f"{Q}.weight"] = bf16(np.ones((N, K)))
    found = verdict(made, tmp_path).breaches
    assert (
        Breach("fused", "model.layers.0.self_attn", "q_proj of q_proj/k_proj/v_proj is not quantized, the others are")
        in found
    )
    made.tensors[f"{Q}.weight_scale"] = f32(1)
    assert "weight is not quantized" not in str(found)


def test_scales_of_a_weight_that_is_not_quantized(tmp_path: Path) -> None:
    made = checkpoint()
    made.tensors["lm_head.input_scale"] = f32(1)
    (found,) = verdict(made, tmp_path).breaches
    assert (found.rule, found.where) == ("missing", "lm_head")
    assert "its weight is not quantized" in found.text


def test_fp8_weights_with_nan(tmp_path: Path) -> None:
    made = checkpoint("FP8")
    made.tensors[f"{Q}.weight"].data[0, :2] = (0x7F, 0xFF)
    (found,) = verdict(made, tmp_path).breaches
    assert (found.rule, found.where) == ("value", f"{Q}.weight")
    assert "2 values" in found.text


def test_blocks_of_zeros_are_no_breach(tmp_path: Path) -> None:
    made = checkpoint("NVFP4")
    made.tensors[f"{Q}.weight_scale"].data[0, 0] = 0
    assert verdict(made, tmp_path).good
    made.tensors[f"{Q}.weight_scale"].data[0, 0] = 0x81
    assert [breach.rule for breach in verdict(made, tmp_path).breaches] == ["value"]


def test_a_channel_that_slept_is_a_note(tmp_path: Path) -> None:
    made = checkpoint()
    for part in ("q", "k", "v"):
        made.tensors[f"model.layers.0.self_attn.{part}_proj.pre_quant_scale"] = bf16([9984] + [1] * (K - 1))
    found = verdict(made, tmp_path)
    assert found.good
    assert "was zero throughout calibration" in found.notes[0]


def test_names_of_older_transformers_are_excluded_too(tmp_path: Path) -> None:
    """0.40.0 writes `model.visual*`, and a newer transformers `visual.` in front of the tensors."""
    made = checkpoint()
    for said, key in ((made.quant, "exclude_modules"), (made.config["quantization_config"], "ignore")):
        said[key] = ["lm_head", "model.visual*"]
    assert verdict(made, tmp_path).good


@pytest.mark.parametrize("algo", GROUPS)
def test_only_int8_needs_a_config_group(tmp_path: Path, algo: str) -> None:
    made = checkpoint(algo)
    made.config["quantization_config"]["config_groups"] = {}
    assert verdict(made, tmp_path).good == (not algo.startswith("W8"))


def test_no_folder_and_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        check(tmp_path / "nowhere", Quiet())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="no quantized checkpoint"):
        check(tmp_path, Quiet())
