"""`checkpoint convert` on checkpoints of a few numbers: the arithmetic stays the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from checkpoint.cli.main import main
from checkpoint.convert.fold import AttentionShape, fold
from checkpoint.convert.tensors import Tensor, Values, encode, map_tensors, write_file
from checkpoint.reading.header import read_header

HIDDEN, HEADS, KV, SIZE, INNER = 8, 4, 2, 2, 6
SHAPE = AttentionShape(head_size=SIZE, kv_heads=KV)
LAYER = "model.layers.0"
INPUTS = {"q_proj": HIDDEN, "k_proj": HIDDEN, "v_proj": HIDDEN, "o_proj": HEADS * SIZE}
INPUTS |= {"gate_proj": HIDDEN, "up_proj": HIDDEN, "down_proj": INNER}
OUTPUTS = {"q_proj": HEADS * SIZE, "k_proj": KV * SIZE, "v_proj": KV * SIZE, "o_proj": HIDDEN}
OUTPUTS |= {"gate_proj": INNER, "up_proj": INNER, "down_proj": HIDDEN}


def layer(kind: str) -> str:
    return f"{LAYER}.{'self_attn' if kind in ('q_proj', 'k_proj', 'v_proj', 'o_proj') else 'mlp'}.{kind}"


def checkpoint(dtype: str = "F32", scale: Callable[[int], Values] | None = None) -> dict[str, Tensor]:
    """Return a decoder layer as ModelOpt writes it; `scale` returns the factors of a number of channels."""
    random = numpy.random.default_rng(3)
    tensors: dict[str, Tensor] = {"lm_head.weight": encode(random.normal(size=(10, HIDDEN)), dtype)}
    for norm in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"{LAYER}.{norm}.weight"] = encode(random.normal(size=HIDDEN), dtype)
    factors: dict[int, Values] = {}
    for kind, size in INPUTS.items():
        if kind in ("q_proj", "o_proj", "gate_proj", "down_proj"):
            # Shared in a group of query heads, and within q/k/v and gate/up.
            count = KV * SIZE if kind == "o_proj" else size
            one = scale(count) if scale else 2.0 ** random.integers(-6, 6, count)
            factors[size] = numpy.repeat(one.reshape(KV, SIZE), HEADS // KV, 0).ravel() if kind == "o_proj" else one
        weight = random.integers(-127, 128, (OUTPUTS[kind], size)).astype("i1")
        tensors[f"{layer(kind)}.weight"] = Tensor("I8", weight.shape, weight.tobytes())
        tensors[f"{layer(kind)}.weight_scale"] = encode(random.uniform(0.01, 0.1, OUTPUTS[kind]), "F32")
        tensors[f"{layer(kind)}.input_scale"] = Tensor("F32", (), numpy.float32(0.02).tobytes())
        tensors[f"{layer(kind)}.pre_quant_scale"] = encode(factors[size], dtype)
        if kind in ("v_proj", "up_proj"):
            tensors[f"{layer(kind)}.bias"] = encode(random.normal(size=OUTPUTS[kind]), dtype)
    return tensors


def run(tensors: dict[str, Tensor], smooth: bool) -> dict[str, Values]:
    """Return the input of each linear layer after its smoothing, in fp32, from a fixed hidden state."""
    value = {name: tensor.values().astype(numpy.float32) for name, tensor in tensors.items()}

    def project(kind: str, x: Values) -> Values:
        name = layer(kind)
        x = x * value[f"{name}.pre_quant_scale"] if smooth else x
        inputs[kind] = x
        quantized = (x / value[f"{name}.input_scale"]).round().clip(-128, 127)
        accumulated = quantized.astype(numpy.float64) @ value[f"{name}.weight"].T.astype(numpy.float64)
        scales = value[f"{name}.input_scale"] * value[f"{name}.weight_scale"]
        bias = value.get(f"{name}.bias", numpy.float32(0))
        return (accumulated.astype(numpy.float32) * scales).astype(numpy.float32) + bias

    inputs: dict[str, Values] = {}
    hidden = numpy.random.default_rng(5).normal(size=HIDDEN).astype(numpy.float32)
    normal = hidden * value[f"{LAYER}.input_layernorm.weight"]
    project("q_proj", normal), project("k_proj", normal)
    heads = project("v_proj", normal).reshape(KV, SIZE)
    inputs["out"] = project("o_proj", numpy.repeat(heads, HEADS // KV, 0).ravel())
    normal = hidden * value[f"{LAYER}.post_attention_layernorm.weight"]
    inputs["end"] = project("down_proj", numpy.tanh(project("gate_proj", normal)) * project("up_proj", normal))
    return inputs


def test_powers_of_two_fold_without_changing_a_bit() -> None:
    tensors = checkpoint()
    changed, refused, exact = fold(tensors, SHAPE, kv_quantized=False)
    assert (refused, exact) == ({}, True)
    before, after = run(tensors, smooth=True), run({**tensors, **changed}, smooth=False)
    assert all(numpy.array_equal(before[name], after[name]) for name in before), (before, after)


def test_other_factors_fold_in_float32_up_to_its_rounding() -> None:
    tensors = checkpoint(scale=lambda count: numpy.random.default_rng(1).uniform(0.1, 9, count))
    changed, refused, exact = fold(tensors, SHAPE, kv_quantized=False)
    assert (refused, exact) == ({}, False)
    before, after = run(tensors, smooth=True), run({**tensors, **changed}, smooth=False)
    for name in ("q_proj", "gate_proj"):
        numpy.testing.assert_allclose(after[name], before[name], rtol=2.0**-22)


def test_other_factors_are_refused_in_bfloat16() -> None:
    tensors = checkpoint("BF16", scale=lambda count: numpy.full(count, 1.375))
    changed, refused, _ = fold(tensors, SHAPE, kv_quantized=False)
    assert {name.rpartition(".")[2] for name in refused} == set(INPUTS)
    assert all("no power of two" in why and "BF16" in why for why in refused.values())
    assert not changed


def test_powers_of_two_fold_in_bfloat16() -> None:
    _, refused, exact = fold(checkpoint("BF16"), SHAPE, kv_quantized=False)
    assert (refused, exact) == ({}, True)


def test_a_product_beyond_the_type_is_refused() -> None:
    tensors = checkpoint("F16", scale=numpy.ones)
    large = {name: encode(tensor.values() * 2.0**20, "F32") for name, tensor in tensors.items() if "pre_quant" in name}
    _, refused, _ = fold({**tensors, **large}, SHAPE, kv_quantized=False)
    assert any("cannot be stored in F16" in why for why in refused.values())


def changed_tensor(kind: str, values: Values) -> dict[str, Tensor]:
    return {f"{layer(kind)}.pre_quant_scale": encode(values, "F32")}


@pytest.mark.parametrize(
    ("change", "where", "why"),
    [
        (changed_tensor("o_proj", 2.0 ** numpy.arange(8)), "o_proj", "2 query heads share each value head"),
        (changed_tensor("k_proj", numpy.ones(HIDDEN)), "q_proj", "k_proj reads the same norm with another"),
        (changed_tensor("down_proj", numpy.zeros(INNER)), "down_proj", "not above 0"),
        (changed_tensor("down_proj", numpy.full(INNER, numpy.nan)), "down_proj", "not finite"),
        ({"model.layers.0.mlp.odd_proj.pre_quant_scale": encode(numpy.ones(2), "F32")}, "odd_proj", "nothing is known"),
        ({"model.layers.1.mlp.down_proj.pre_quant_scale": encode(numpy.ones(2), "F32")}, "1.mlp.down", "no up_proj"),
    ],
)
def test_each_refusal_is_named(change: dict[str, Tensor], where: str, why: str) -> None:
    _, refused, _ = fold({**checkpoint(), **change}, SHAPE, kv_quantized=False)
    assert any(where in name and why in reason for name, reason in refused.items()), refused


def test_a_reader_of_the_norm_without_smoothing_is_refused() -> None:
    tensors = checkpoint()
    del tensors[f"{layer('gate_proj')}.pre_quant_scale"]
    _, refused, _ = fold(tensors, SHAPE, kv_quantized=False)
    assert [*refused.values()] == ["gate_proj reads the same norm and has no pre_quant_scale"]


def test_values_of_a_quantized_cache_stay_as_they_are() -> None:
    _, refused, _ = fold(checkpoint(), SHAPE, kv_quantized=True)
    assert [*refused] == [layer("o_proj")]
    assert "KV cache" in refused[layer("o_proj")]


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    # 1 + 2**-8 lies between 1 and 1 + 2**-7: to the even one; a little more goes up.
    values = numpy.array([1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-12, 1 + 3 * 2.0**-8, -3.5])
    assert encode(values, "BF16").values().tolist() == [1.0, 1 + 2.0**-7, 1 + 2.0**-6, -3.5]


CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
    "head_dim": SIZE,
    "hidden_size": HIDDEN,
    "quantization_config": {"quant_method": "modelopt", "quant_algo": "W8A8_SQ_PER_CHANNEL"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "checkpoint"
    source.mkdir()
    write_file(source / "model.safetensors", checkpoint())
    (source / "config.json").write_text(json.dumps(CONFIG))
    exported = {"quantization": {"quant_algo": "W8A8_SQ_PER_CHANNEL", "kv_cache_quant_algo": None}}
    (source / "hf_quant_config.json").write_text(json.dumps(exported))
    (source / "tokenizer.json").write_text("{}")
    return source


def test_the_folder_that_is_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out"
    assert main(["convert", str(folder), str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"layers": 7, "left": 1, "exact": True}
    assert sorted(file.name for file in target.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    config = json.loads((target / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["ignore"]) == ("compressed-tensors", ["lm_head"])
    tensors = map_tensors(read_header(target / "model.safetensors"))
    assert not [name for name in tensors if "pre_quant" in name]
    assert tensors[f"{layer('q_proj')}.weight_scale"].shape == (HEADS * SIZE, 1)
    assert tensors[f"{layer('q_proj')}.input_scale"].shape == (1,)
    assert bytes(tensors[f"{layer('q_proj')}.weight"].data) == bytes(checkpoint()[f"{layer('q_proj')}.weight"].data)


def test_a_refusal_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_file(folder / "model.safetensors", checkpoint() | changed_tensor("o_proj", 2.0 ** numpy.arange(8)))
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 3
    assert layer("o_proj") in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"model_type": "gemma2"}, 2, "gemma2 is not known to be foldable"),
        ({"quantization_config": {"quant_algo": "FP8"}}, 2, "is quantized as FP8"),
        ({"quantization_config": None}, 2, "holds no quantized checkpoint"),
    ],
)
def test_other_checkpoints_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], code: int, message: str
) -> None:
    (folder / "hf_quant_config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **change}))
    assert main(["convert", str(folder), str(tmp_path / "out")]) == code
    assert message in " ".join(capsys.readouterr().err.split())


INDEX = "model.safetensors.index.json"


def shard(folder: Path) -> dict[str, str]:
    """Split the checkpoint's file in two, with an index; return the index's weight_map."""
    tensors = checkpoint()
    names = {name: f"model-0000{1 + ('mlp' in name)}-of-00002.safetensors" for name in tensors}
    for file in {*names.values()}:
        write_file(folder / file, {name: tensor for name, tensor in tensors.items() if names[name] == file})
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    return names


def test_a_sharded_checkpoint_keeps_its_files_and_index(folder: Path, tmp_path: Path) -> None:
    names = shard(folder)
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 0
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["metadata"] == {"total_size": 1}
    assert index["weight_map"] == {name: file for name, file in names.items() if "pre_quant" not in name}
    for file in {*names.values()}:
        written = {header.name for header in read_header(tmp_path / "out" / file)}
        assert written == {name for name in index["weight_map"] if names[name] == file}


def test_an_index_against_its_files_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = shard(folder)
    (folder / names["lm_head.weight"]).unlink()
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 5
    assert names["lm_head.weight"] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_is_a_wrong_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 2


def test_a_cache_that_is_not_fp8_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "hf_quant_config.json").unlink()
    quantization = {**CONFIG["quantization_config"], "kv_cache_scheme": {"type": "int", "num_bits": 8}}
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": quantization}))
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 2
    assert "the KV cache is quantized as int8" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, 5, 100, 2000])
def test_a_damaged_file_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 5
    assert "model.safetensors" in capsys.readouterr().err


def test_a_target_that_exists_is_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 6
