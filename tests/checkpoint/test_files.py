"""Files that are cut off, doubled, missing or no safetensors at all; and the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from checkpoint.breach import Breach
from checkpoint.checks.check import check
from checkpoint.cli.main import main
from checkpoint.reading import values
from checkpoint.reading.header import FileFormatError, read_header
from regression.cli.main import main as regression
from toolkit.progress import Quiet

from .samples import Sample, Tensor, checkpoint, f32, safetensors

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def breaches(folder: Path) -> list[Breach]:
    return list(check(folder, Quiet()).breaches)


def sharded(folder: Path) -> Path:
    sample = checkpoint(layers=2)
    sample.files = {name: FIRST if name < "model.layers.1" else SECOND for name in sample.tensors}
    return sample.write(folder)


def header(text: str, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no safetensors file"),
        (b"\xff" * 64, "cut off"),
        (header("not json"), "not JSON"),
        (header("[]"), "not a JSON object"),
        (header('{"a": {"dtype": "F32"}}'), "describes a"),
        (header('{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}'), "describes a"),
        (header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]}}', b"1234"), "describes a"),
        (header('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', b"1234"), "gives a 4 bytes"),
        (header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', b"12345678"), "a hole"),
        (safetensors({"a": f32(1)})[:-1], "is cut off"),
        (safetensors({"a": f32(1)}) + b"more", "is cut off"),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(data)
    with pytest.raises(FileFormatError, match=message):
        read_header(file)


def test_a_damaged_file_is_a_breach(tmp_path: Path) -> None:
    folder = checkpoint().write(tmp_path)
    (folder / "model.safetensors").write_bytes(b"<html>not here!</html>")
    assert Breach("file", "model.safetensors", "is no safetensors file, or cut off: 22 bytes, a header of " + str(
        int.from_bytes(b"<html>no", "little"))) in breaches(tmp_path)  # fmt: skip


def test_no_weights_at_all(tmp_path: Path) -> None:
    checkpoint().write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert any("holds no *.safetensors" in breach.text for breach in breaches(tmp_path))


def test_damaged_json(tmp_path: Path) -> None:
    checkpoint().write(tmp_path)
    (tmp_path / "hf_quant_config.json").write_text("{")
    damaged = breaches(tmp_path)
    assert any(breach.where == "hf_quant_config.json" and "is not JSON" in breach.text for breach in damaged)
    (tmp_path / "config.json").write_text("[]")
    assert any("does not hold a JSON object" in breach.text for breach in breaches(tmp_path))
    (tmp_path / "config.json").unlink()
    assert Breach("file", "config.json", "is absent") in breaches(tmp_path)


@pytest.mark.parametrize(
    ("algo", "key", "value", "text"),
    [
        ("MIXED_PRECISION", "quantized_layers", ["a"], "is no JSON object"),
        ("MIXED_PRECISION", "quantized_layers", {"a": {"quant_algo": ["FP8"]}}, "names no quant_algo of a"),
        ("MIXED_PRECISION", "quantized_layers", {"a": "FP8"}, "names no quant_algo of a"),
        ("NVFP4", "group_size", "sixteen", "is 'sixteen', not a whole number above 0"),
        ("NVFP4", "group_size", -16, "is -16, not a whole number above 0"),
        ("NVFP4", "config_groups", ["a"], "is no JSON object"),
    ],
)
def test_a_configuration_with_a_value_of_another_type(
    tmp_path: Path, algo: str, key: str, value: object, text: str
) -> None:
    sample = checkpoint("NVFP4")
    for file in (sample.quant, sample.config["quantization_config"]):
        file |= {"quant_algo": algo, key: value}
    assert main(["check", str(sample.write(tmp_path))]) == 12
    assert text in [breach.text for breach in breaches(tmp_path) if breach.where.endswith(f" {key}")]


@pytest.mark.parametrize("value", ["modelopt", ["modelopt"]])
def test_a_quantization_that_is_no_table(tmp_path: Path, value: object) -> None:
    sample = checkpoint()
    sample.config["quantization_config"] = value
    assert Breach("config", "config.json quantization_config", "is no JSON object") in breaches(sample.write(tmp_path))


def test_a_shard_is_missing(tmp_path: Path) -> None:
    (sharded(tmp_path) / SECOND).unlink()
    assert any(breach.where == INDEX and SECOND in breach.text for breach in breaches(tmp_path))


def test_shards_without_an_index(tmp_path: Path) -> None:
    (sharded(tmp_path) / INDEX).unlink()
    assert [breach.where for breach in breaches(tmp_path)] == [INDEX]


def test_a_wrong_index(tmp_path: Path) -> None:
    index = sharded(tmp_path) / INDEX
    weight_map = json.loads(index.read_text())["weight_map"]
    weight_map["model.norm.weight"] = FIRST
    weight_map["model.extra.weight"] = SECOND
    del weight_map["lm_head.weight"]
    index.write_text(json.dumps({"weight_map": weight_map}))
    texts = {breach.where: breach.text for breach in breaches(tmp_path)}
    assert "by the index in " + FIRST in texts["model.norm.weight"]
    assert "is not" in texts["model.extra.weight"]
    assert "does not name lm_head.weight" in texts[INDEX]


def test_a_tensor_that_is_there_twice(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "more.safetensors").write_bytes(safetensors({"model.norm.weight": f32(1)}))
    assert any(f"is in {SECOND} and more.safetensors" in breach.text for breach in breaches(tmp_path))


def test_pieces_give_the_same_breaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = checkpoint("FP8")
    sample.tensors["model.layers.0.mlp.up_proj.weight"].data[-1, -1] = 0x7F
    whole = breaches(sample.write(tmp_path))
    monkeypatch.setattr(values, "PIECE", 100)
    assert breaches(tmp_path) == whole
    assert len(whole) == 1


@pytest.mark.parametrize(
    ("dtype", "bits", "numbers"),
    [
        ("F8_E4M3", [0x38, 0x01, 0x7E, 0xFE, 0x7F, 0x80], [1, 2**-9, 448, -448, math.nan, 0]),
        ("F8_E5M2", [0x3C, 0x01, 0x7B, 0xFC, 0x7F, 0x80], [1, 2**-16, 57344, -math.inf, math.nan, 0]),
        ("F8_E8M0", [127, 0, 254, 255], [1, 2**-127, 2.0**127, math.nan]),
        ("BF16", [0x3F80, 0x0001, 0xFF80, 0x7FC0], [1, 2**-133, -math.inf, math.nan]),
        ("F16", [0x3C00, 0x0001, 0x7C00], [1, 2**-24, math.inf]),
        ("F64", [0x3FF << 52, 0x7FF << 52, 1], [1, math.inf, 5e-324]),
        ("I8", [0x80, 0x7F, 0xFF], [-128, 127, -1]),
    ],
)
def test_values_of_every_type(tmp_path: Path, dtype: str, bits: list[int], numbers: list[float]) -> None:
    piece = np.array(bits, f"<u{values.SIZES[dtype]}")
    np.testing.assert_array_equal(values.decode(piece, dtype).astype(np.float64), numbers)
    (tmp_path / "one.safetensors").write_bytes(safetensors({"a": Tensor(dtype, piece)}))
    (header,) = read_header(tmp_path / "one.safetensors")
    assert values.count_not_finite(header) == sum(not math.isfinite(number) for number in numbers)


def damaged() -> Sample:
    sample = checkpoint()
    for name in [name for name in sample.tensors if name.endswith("pre_quant_scale")]:
        del sample.tensors[name]
    return sample


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = checkpoint().write(tmp_path / "good"), damaged().write(tmp_path / "bad")
    assert main(["check", str(good)]) == 0
    assert "good (W8A8_SQ_PER_CHANNEL, FP8 KV cache)" in capsys.readouterr().out
    assert main(["check", str(good), str(bad)]) == 12
    output = capsys.readouterr().out
    assert "14 breaches" in output
    assert "and 9 more" in output
    assert output.count("is absent; W8A8_SQ_PER_CHANNEL has it") == 5


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(damaged().write(tmp_path))]) == 12
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["good"], result["algo"], len(result["breaches"])) == (False, "W8A8_SQ_PER_CHANNEL", 14)
    assert result["breaches"][0]["rule"] == "missing"


def test_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new"), [("check-checkpoint", "check"), ("quantize", "quantize"), ("convert", "convert")]
)
def test_the_names_that_the_commands_had(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert regression([old, "--help"]) == 0
    shown = capsys.readouterr()
    assert f"`regression {old}` is now `checkpoint {new}`" in shown.err
    assert f"checkpoint {new}" in shown.out.partition("Examples")[2]
