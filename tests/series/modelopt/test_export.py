"""What ModelOpt exports, through its library: tensors and configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoint.checks.check import check
from toolkit.progress import Quiet

pytestmark = pytest.mark.slow


def names(folder: str) -> list[str]:
    """Return the tensors of a checkpoint, read from the header of its one file."""
    data = Path(folder, "model.safetensors").read_bytes()
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return [name for name in header if name != "__metadata__"]


def phantoms(folder: str) -> list[str]:
    return [name for name in names(folder) if "visual" in name and name.endswith("_scale")]


def test_images_leave_no_scale_of_a_cache_in_the_vision_tower(base: dict[str, Any], patched: dict[str, Any]) -> None:
    assert "visual.blocks.0.attn.k_proj.k_scale" in phantoms(base["exports"]["int8_qwen2_5_vl"])
    for job in ("int8_qwen2_5_vl", "int8_qwen3_vl", "fp8"):
        folder = patched["exports"][job]
        assert phantoms(folder) == [], job
        assert sum(name.endswith((".k_scale", ".v_scale")) for name in names(folder)) == 4, job


@pytest.mark.parametrize("job", ["int8_qwen2_5_vl", "weight_only"])
def test_both_configurations_say_int8(base: dict[str, Any], patched: dict[str, Any], job: str) -> None:
    algo = "W8A16" if job == "weight_only" else "W8A8_SQ_PER_CHANNEL"
    for tree in (base, patched):
        folder = Path(tree["exports"][job])
        written = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
        config = json.loads((folder / "config.json").read_text())["quantization_config"]
        assert (written["quant_algo"], config["quant_algo"]) == (algo, algo)
        assert config["ignore"] == written["exclude_modules"]
        if tree is base:
            assert "config_groups" not in config
            continue
        group = config["config_groups"]["group_0"]
        assert group["targets"] == ["Linear"]
        assert (group["weights"]["type"], group["weights"]["num_bits"]) == ("int", 8)
        if job == "weight_only":
            assert "input_activations" not in group
        else:
            assert group["weights"]["strategy"] == "channel"
            assert (group["input_activations"]["type"], group["input_activations"]["num_bits"]) == ("int", 8)


def test_every_export_keeps_to_its_format(base: dict[str, Any], patched: dict[str, Any]) -> None:
    for job, folder in patched["exports"].items():
        result = check(Path(folder), Quiet())
        assert result.breaches == (), job
        assert (result.quantized, result.cache) == (14, "FP8"), job
    rules = {breach.rule for breach in check(Path(base["exports"]["int8_qwen2_5_vl"]), Quiet()).breaches}
    assert rules == {"config", "phantom"}
