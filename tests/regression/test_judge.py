"""The export contract on checkpoints of a few numbers, and figures and checks from what the steps leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from regression.convert.tensors import Tensor, encode, write_file
from regression.figures.verdict import Check, Verdict
from regression.model.scenario import Distance, Scenario, Side
from regression.stages.contract import LINEARS, export_contract
from regression.stages.judge import Evidence, judge
from regression.stages.kit import Kit
from regression.stages.serve import Served

SCENARIO = Scenario(
    file=Path("one.toml"), name="one", title="", device="cpu", needs=(), format="int8_sq", kv="auto", dtype="float32",
    modelopt="modelopt", vllm="vllm", without_modelopt=None, quantize_refused=None, foldable=False, items=0, timeout=9,
    timings=False, task_loss=None, sides=(), distances=(),
)  # fmt: skip
ONE = encode(numpy.ones(4), "F32")


def export(folder: Path, change: dict[str, Tensor | None], **said: object) -> dict[str, Verdict]:
    """Write a checkpoint with some tensors changed or dropped, and return the verdict of each check."""
    tensors: dict[str, Tensor] = {"visual.blocks.0.attn.qkv.weight": ONE, "lm_head.weight": ONE}
    for kind in LINEARS:
        tensors[f"model.layers.0.self_attn.{kind}.weight"] = Tensor("I8", (4,), b"\x01" * 4)
        for scale in ("weight_scale", "input_scale", "pre_quant_scale"):
            tensors[f"model.layers.0.self_attn.{kind}.{scale}"] = ONE
    made = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    write_file(folder / "model.safetensors", made)
    quantization = {"quant_algo": "W8A8_SQ_PER_CHANNEL", "kv_cache_quant_algo": None, **said}
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": quantization}))
    _, checks = export_contract(folder, SCENARIO)
    return {check.name.removeprefix("export: "): check.verdict for check in checks}


def test_a_good_export(tmp_path: Path) -> None:
    assert set(export(tmp_path, {}).values()) == {Verdict.PASS}


Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"visual.blocks.0.attn.qkv.weight_scale": ONE}, "the vision tower is left alone"),
        ({"visual.blocks.0.attn.k_proj.k_scale": ONE}, "the vision tower is left alone"),
        ({f"{Q}.pre_quant_scale": None}, "no scale missing"),
        ({f"{Q}.weight": ONE}, "every decoder layer"),
        ({f"{Q}.input_scale": encode(numpy.array([numpy.nan]), "F32")}, "scales finite, above 0"),
        ({f"{Q}.weight_scale": encode(numpy.zeros(4), "F32")}, "scales finite, above 0"),
        ({f"{Q}.k_scale": ONE}, "KV scales"),
    ],
)
def test_a_bad_export_is_seen(tmp_path: Path, change: dict[str, Tensor | None], check: str) -> None:
    assert export(tmp_path, change)[check] is Verdict.REGRESSION


def test_another_algorithm_is_seen(tmp_path: Path) -> None:
    assert export(tmp_path, {}, quant_algo="FP8")["algorithm"] is Verdict.REGRESSION
    assert export(tmp_path, {}, kv_cache_quant_algo="FP8")["algorithm"] is Verdict.REGRESSION


def side(name: str, *, http: bool = False, repeat: bool = False) -> Side:
    return Side(name, "patched", "served", "", None, False, http, repeat)


def served(folder: Path, logits: list[list[float]], texts: list[str]) -> Served:
    folder.mkdir()
    with numpy.errstate(invalid="ignore"):
        rows = numpy.array(logits) - numpy.logaddexp.reduce(logits, axis=1, keepdims=True)
    numpy.save(folder / "logprobs.npy", rows.astype(numpy.float32))
    return Served(folder, {"answers": [{"text": text, "tokens": [len(text)]} for text in texts]})


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    items = [{"prompt": "p", "ask": "what?", "picture": None, "answer": answer} for answer in ("yes", "no", "no")]
    (tmp_path / "items.json").write_text(json.dumps(items))
    return Kit(tmp_path, tmp_path, tmp_path / "items.json", None, {"right": {}})


def verdicts(checks: list[Check]) -> dict[str, Verdict]:
    return {check.name.rpartition(": ")[2]: check.verdict for check in checks}


def test_distances_tasks_and_noise(tmp_path: Path, kit: Kit) -> None:
    good = [[5.0, 0.0], [0.0, 5.0]]
    near = [[5.001, 0.0], [0.0, 5.0]]
    evidence = Evidence(
        served={
            "patched": served(tmp_path / "a", near, ["yes", "no", "yes"]),
            "patched, again": served(tmp_path / "b", good, ["yes", "no", "yes"]),
        },
        quantized=None,
        unquantized=served(tmp_path / "c", good, ["yes", "no", "no"]),
    )
    distance = Distance("patched", "unquantized", float("inf"), 1e-12, 1e-2, 1.0)
    scenario = replace(SCENARIO, task_loss=0.0, sides=(side("patched", repeat=True),), distances=(distance,))
    measured, (task,), checks = judge(scenario, kit, evidence)
    assert [(one.side, one.reference) for one in measured] == [
        ("patched", "patched, again"),
        ("patched", "unquantized"),
    ]
    assert (measured[1].diverged, measured[1].n, measured[1].first_divergence) == (1, 3, 0)
    assert (task.right, task.n, task.reference_right) == (2, 3, 3)
    assert [item.said for item in task.lost] == ["yes"]
    found = verdicts(checks)
    assert found["KL max"] is Verdict.INCONCLUSIVE, "as large as the noise floor"
    assert found["top-1 differing"] is Verdict.PASS
    assert found["answers against the unquantized model's"] is Verdict.INCONCLUSIVE, "one answer can be chance"
    assert "KL mean" not in found, "no limit, no check"


def test_a_distance_without_figures_is_a_regression(kit: Kit) -> None:
    distance = Distance("patched", "fake-quant", 1e-3, 1e-3, 1e-3, 1.0)
    scenario = replace(SCENARIO, sides=(side("patched"),), distances=(distance,))
    _, _, (check,) = judge(scenario, kit, Evidence({}, None, None))
    assert check.verdict is Verdict.REGRESSION


def test_nan_is_a_regression(tmp_path: Path, kit: Kit) -> None:
    one = served(tmp_path / "a", [[float("nan"), 0.0]], ["x"])
    two = served(tmp_path / "b", [[1.0, 0.0]], ["x"])
    distance = Distance("patched", "released", 1e9, 1e9, float("inf"), 0.0)
    scenario = replace(SCENARIO, sides=(side("patched"), side("released")), distances=(distance,))
    _, _, checks = judge(scenario, kit, Evidence({"patched": one, "released": two}, None, None))
    assert set(verdicts(checks).values()) == {Verdict.REGRESSION}


HTTP: dict[str, Any] = {
    "text": "a b", "picture": "c", "streamed text": {"pieces": ["a", " b"]}, "streamed picture": {"pieces": ["c"]},
    "one by one": ["a b", "c"], "at once": ["a b", "c"], "right": ["a b", "c"], "unknown model": "404",
    "after the error": "a b", "port closed": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "bad"),
    [
        ({}, 0),
        ({"streamed text": {"pieces": ["a b"]}}, 1),
        ({"at once": ["a b", "d"]}, 1),
        ({"right": ["x", "y"]}, 1),
        ({"unknown model": "answered"}, 1),
        ({"port closed": False, "after the error": ""}, 2),
    ],
)
def test_what_the_server_says(tmp_path: Path, kit: Kit, change: dict[str, Any], bad: int) -> None:
    scenario = replace(SCENARIO, sides=(side("server", http=True),))
    _, _, checks = judge(scenario, kit, Evidence({"server": Served(tmp_path, {**HTTP, **change})}, None, None))
    assert len(checks) == 7
    assert sum(check.verdict is Verdict.REGRESSION for check in checks) == bad
