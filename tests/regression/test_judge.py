"""The checks of an export on checkpoints of a few numbers, and figures and checks from the outputs of steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from regression.figures.verdict import ScenarioCheck, Verdict
from regression.session.bench import StepOutput
from regression.session.fixture import Fixture
from regression.session.judge import Evidence, judge
from regression.session.quantize import check_export
from regression.values.scenario import Distance, Scenario, Side
from tests.checkpoint.samples import Sample, Tensor, bf16, checkpoint, f32
from toolkit.progress import Quiet

from .recorder import Recorder

SCENARIO = Scenario(
    file=Path("one.toml"), name="one", title="", device="cpu", needs=(), format="int8_sq", kv="auto", dtype="float32",
    modelopt="modelopt", vllm="vllm", without_modelopt=None, quantize_refused=None, export_refused=None,
    whole=False, dead_channel=False, foldable=False, items=0, timeout=9, timings=False, compiled=False, task_loss=None,
    sides=(), distances=(),
)  # fmt: skip


def export(
    folder: Path, change: Callable[[Sample], object] = lambda files: None, **scenario: Any
) -> dict[str, ScenarioCheck]:
    """Write a checkpoint, changed, and return the checks of it by name."""
    files = checkpoint()
    change(files)
    _, checks = check_export(files.write(folder), replace(SCENARIO, kv="fp8", **scenario), Quiet())
    return {check.name.removeprefix("export: "): check for check in checks}


def test_a_good_export(tmp_path: Path) -> None:
    assert {check.verdict for check in export(tmp_path).values()} == {Verdict.PASS}


Q = "model.layers.0.self_attn.q_proj"


def kill_channel(files: Sample) -> None:
    files.tensors[f"{Q}.pre_quant_scale"].data[0] = 0x461C  # 9984 in bfloat16


def put(name: str, tensor: Tensor) -> Callable[[Sample], object]:
    return lambda files: files.tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (put("visual.blocks.0.attn.qkv.weight_scale", f32(1.0)), "the vision tower is left alone", "qkv.weight_scale"),
        (put("visual.blocks.0.attn.k_proj.k_scale", f32(1.0)), "keeps to its format", "tower has no KV cache"),
        (lambda files: files.tensors.pop(f"{Q}.pre_quant_scale"), "keeps to its format", "q_proj.pre_quant_scale"),
        (put(f"{Q}.input_scale", f32(numpy.nan)), "keeps to its format", "NaN or infinite"),
        (lambda files: files.quant.update({"quant_algo": "FP8"}), "algorithm", "FP8, KV cache FP8"),
        (lambda files: files.quant.update({"kv_cache_quant_algo": None}), "algorithm", "KV cache None"),
        (kill_channel, "no dead channel", "zero throughout calibration"),
    ],
)
def test_a_bad_export_is_seen(tmp_path: Path, change: Callable[[Sample], object], check: str, words: str) -> None:
    result = export(tmp_path, change)[check]
    assert result.verdict is Verdict.REGRESSION
    assert words in result.actual


def test_a_layer_left_out_is_seen(tmp_path: Path) -> None:
    def leave_out(files: Sample) -> None:
        for part in ("weight_scale", "input_scale", "pre_quant_scale"):
            del files.tensors[f"{Q}.{part}"]
        files.tensors[f"{Q}.weight"] = bf16(numpy.ones(files.tensors[f"{Q}.weight"].data.shape))
        for names in (files.quant["exclude_modules"], files.config["quantization_config"]["ignore"]):
            names.append(Q)

    assert export(tmp_path, leave_out)["every decoder layer"].verdict is Verdict.REGRESSION


def test_an_export_that_is_to_be_refused(tmp_path: Path) -> None:
    (good,) = export(tmp_path / "a", export_refused="saturates").values()
    assert (good.name, good.verdict) == ("export: refused", Verdict.REGRESSION)
    (bad,) = export(tmp_path / "b", kill_channel, export_refused="saturates").values()
    assert bad.verdict is Verdict.PASS


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    contract, (check,) = check_export(tmp_path, SCENARIO, Quiet())
    assert (contract, check.verdict) == ({}, Verdict.REGRESSION)


def side(name: str, *, http: bool = False, repeat: bool = False) -> Side:
    return Side(name, "patched", "served", "", None, None, False, http, repeat)


def served(folder: Path, logits: list[list[float]], texts: list[str]) -> StepOutput:
    folder.mkdir()
    with numpy.errstate(invalid="ignore"):
        rows = numpy.array(logits) - numpy.logaddexp.reduce(logits, axis=1, keepdims=True)
    numpy.save(folder / "logprobs.npy", rows.astype(numpy.float32))
    return StepOutput(folder, {"answers": [{"text": text, "tokens": [len(text)]} for text in texts]})


@pytest.fixture
def fixture(tmp_path: Path) -> Fixture:
    items = [{"prompt": "p", "question": "what?", "image": None, "answer": answer} for answer in ("yes", "no", "no")]
    (tmp_path / "items.json").write_text(json.dumps(items))
    return Fixture(tmp_path, tmp_path, tmp_path / "items.json", None, {"right": {}})


def verdicts(checks: list[ScenarioCheck]) -> dict[str, Verdict]:
    return {check.name.rpartition(": ")[2]: check.verdict for check in checks}


def test_distances_tasks_and_noise(tmp_path: Path, fixture: Fixture) -> None:
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
    distance = Distance("patched", "unquantized", {"kl_max": 1e-12, "perplexity_ratio": 1e-2, "top1_agreement": 0.0})
    scenario = replace(SCENARIO, task_loss=0.0, sides=(side("patched", repeat=True),), distances=(distance,))
    recorder = Recorder()
    pairs, (task,), checks = judge(scenario, fixture, evidence, recorder)
    (compared,) = recorder.tasks
    assert (compared.title, compared.unit, compared.updates) == ("compare one", "pairs", [(1, 2), (2, 2)])
    assert [(one.side, one.reference) for one in pairs] == [
        ("patched", "patched, again"),
        ("patched", "unquantized"),
    ]
    assert [pairs[1].figures[key] for key in ("diverged", "n", "first_divergence")] == [1, 3, 0]
    assert (task.right, task.n, task.reference_right) == (2, 3, 3)
    assert [item.answer for item in task.lost] == ["yes"]
    names = verdicts(checks)
    assert names["KL max"] is Verdict.INCONCLUSIVE, "as large as the noise floor"
    assert names["top-1 differing"] is Verdict.PASS
    assert names["answers against the unquantized model's"] is Verdict.INCONCLUSIVE, "one answer can be chance"
    assert "KL mean" not in names, "no limit, no check"


def test_a_distance_without_figures_is_a_regression(fixture: Fixture) -> None:
    distance = Distance("patched", "fake-quant", {"kl_mean": 1e-3, "kl_max": 1e-3})
    scenario = replace(SCENARIO, sides=(side("patched"),), distances=(distance,))
    _, _, (check,) = judge(scenario, fixture, Evidence({}, None, None), Quiet())
    assert check.verdict is Verdict.REGRESSION


def test_nan_is_a_regression(tmp_path: Path, fixture: Fixture) -> None:
    one = served(tmp_path / "a", [[float("nan"), 0.0]], ["x"])
    two = served(tmp_path / "b", [[1.0, 0.0]], ["x"])
    distance = Distance("patched", "released", {"kl_mean": 1e9, "kl_max": 1e9})
    scenario = replace(SCENARIO, sides=(side("patched"), side("released")), distances=(distance,))
    _, _, checks = judge(scenario, fixture, Evidence({"patched": one, "released": two}, None, None), Quiet())
    assert set(verdicts(checks).values()) == {Verdict.REGRESSION}


@pytest.mark.parametrize(("logit", "verdict"), [(3.0, Verdict.PASS), (1.0, Verdict.REGRESSION)])
def test_a_loss_is_held_against_that_of_fake_quantization(
    tmp_path: Path, fixture: Fixture, logit: float, verdict: Verdict
) -> None:
    reference = served(tmp_path / "a", [[5.0, 0.0]], ["x"])
    fake = served(tmp_path / "b", [[3.1, 0.0]], ["x"])
    side_ = served(tmp_path / "c", [[logit, 0.0]], ["x"])
    distance = Distance("patched", "unquantized", {}, 1.5)
    scenario = replace(SCENARIO, sides=(side("patched"),), distances=(distance,))
    evidence = Evidence({"patched": side_}, StepOutput(fake.folder, {}), reference)
    pairs, _, (check,) = judge(scenario, fixture, evidence, Quiet())
    assert [one.side for one in pairs] == ["patched", "fake-quant"]
    assert check.verdict is verdict


HTTP: dict[str, Any] = {
    "text": "a b", "image": "c", "streamed text": {"pieces": ["a", " b"]}, "streamed image": {"pieces": ["c"]},
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
def test_the_answers_of_the_server(tmp_path: Path, fixture: Fixture, change: dict[str, Any], bad: int) -> None:
    scenario = replace(SCENARIO, sides=(side("server", http=True),))
    _, _, checks = judge(
        scenario, fixture, Evidence({"server": StepOutput(tmp_path, {**HTTP, **change})}, None, None), Quiet()
    )
    assert len(checks) == 7
    assert sum(check.verdict is Verdict.REGRESSION for check in checks) == bad
