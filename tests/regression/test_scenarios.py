"""Scenario files: those of the project, and the findings about bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchset.project.project import load
from patchset.workflow.workspace import read_series
from regression.figures.verdict import ScenarioCheck, Verdict
from regression.session.session import judge_defect
from regression.values.result import ScenarioResult, SideResult
from regression.values.scenario import Edit, PlantedDefect, read_controls, read_folder
from toolkit.errors import PatchsetError, SeriesError, UsageError

ROOT = Path(__file__).parents[2]
GOOD = """\
title = "A title"
format = "int8_sq"
dtype = "float32"

[[side]]
name = "released"
vllm = "unpatched"
outcome = "refused"
message = "no"

[[side]]
name = "patched"
vllm = "patched"

[[distance]]
side = "patched"
reference = "fake-quant"
kl-max = 1e-3
"""


def read(tmp_path: Path, text: str, defect: str | None = None) -> list[str]:
    (tmp_path / "one.toml").write_text(text)
    if defect is not None:
        (tmp_path / "defects").mkdir()
        (tmp_path / "defects/planted.toml").write_text(defect)
    with pytest.raises(SeriesError) as caught:
        read_folder(tmp_path)
    return [detail.replace(str(tmp_path), "") for detail in caught.value.details]


def test_the_projects_own_scenarios() -> None:
    scenarios, defects = read_folder(ROOT / "tests/e2e")
    assert {"int8-smoothquant", "gpu-fp8-kv", "http-server", "converted"} <= {item.name for item in scenarios}
    assert len(defects) >= 5
    assert all(item.title for item in (*scenarios, *defects))


def test_every_patch_has_a_negative_control_or_a_reason_why_not() -> None:
    project = load(ROOT)
    patches: set[str] = set()
    for spec in ("vllm", "modelopt"):
        ((component, base),) = project.select((spec,))
        patches |= {patch.name for patch in read_series(component, base).patches}
    controls, reasons = read_controls(ROOT / "tests/e2e")
    assert {*controls, *reasons} == patches
    assert len(controls) > len(reasons)
    assert all(reasons.values())


def test_a_reason_beside_a_control_is_a_contradiction(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(GOOD.replace('vllm = "patched"', 'vllm = "patched"\nwithout = "a"'))
    (tmp_path / "uncontrolled").mkdir()
    (tmp_path / "uncontrolled/b.toml").write_text('reason = "it needs a machine"\n')
    assert read_controls(tmp_path) == ({"a": ["one"]}, {"b": "it needs a machine"})
    (tmp_path / "uncontrolled/a.toml").write_text('reason = "none"\n')
    with pytest.raises(SeriesError, match="one problem") as caught:
        read_controls(tmp_path)
    assert "but one is one" in caught.value.details[0]


def test_a_good_scenario(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(GOOD)
    ((scenario,), ()) = read_folder(tmp_path)
    shape = (scenario.name, scenario.kv, scenario.device, scenario.timeout, scenario.task_loss)
    assert shape == ("one", "auto", "cpu", 600, None)
    assert [(side.name, side.outcome) for side in scenario.sides] == [("released", "refused"), ("patched", "served")]
    assert scenario.distances[0].limits == {"kl_max": 1e-3}


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ('format = "int8_sq"', 'format = "int8"', "2:1", "must be one of none, int8_sq, int8_wo"),
        ('format = "int8_sq"', 'format = "int8_qs"', "2:1", "did you mean 'int8_sq'?"),
        ('dtype = "float32"\n', "", "", "has no key dtype"),
        ('dtype = "float32"', 'dtype = "float32"\nspeed = 3', "4:1", "unknown key speed"),
        ('name = "patched"', 'nam = "patched"', "12:1", "unknown key side.nam"),
        ('name = "patched"', 'name = "released"', "", "two sides are called 'released'"),
        ('message = "no"', "", "8:1", "needs `message`"),
        ('side = "patched"', 'side = "released"', "16:1", "no side that is served is called 'released'"),
        ("kl-max = 1e-3", "kl-max = -1", "18:1", "distance.kl-max must be a number, 0 or more"),
        ("kl-max = 1e-3", "kl-max = nan", "18:1", "must be a number"),
        ('outcome = "refused"', 'without = "x"', "8:1", "has no patch to leave out"),
        ('vllm = "patched"', 'vllm = "patched"\nhttp = "yes"', "14:1", "side.http must be true or false"),
        ('title = "A title"', 'title = "A', "1:", "not valid TOML"),
        ('title = "A title"', 'title = "A"\nneeds = ["amx", "gpu"]', "2:1", "not 'gpu'"),
        ('dtype = "float32"', 'dtype = "float32"\nasleep = true', "4:1", "`asleep` is now `dead-channel`"),
    ],
)
def test_a_breach_is_underlined_at_its_place(tmp_path: Path, old: str, new: str, place: str, message: str) -> None:
    assert old in GOOD
    details = read(tmp_path, GOOD.replace(old, new, 1) if old != 'vllm = "patched"' else GOOD.replace(old, new))
    matches = [detail for detail in details if message in detail]
    assert matches, details
    assert matches[0].startswith(f"/one.toml:{place}")
    assert not place or "^" in matches[0]


def test_all_breaches_are_named_at_once(tmp_path: Path) -> None:
    bad = GOOD.replace('"int8_sq"', '"int9"').replace('"float32"', "3").replace('reference = "fake-quant"', "")
    assert len(read(tmp_path, bad)) == 3


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ('title = "t"\nscenario = "one"\n', "plants nothing"),
        ('title = "t"\nscenario = "two"\nvision = true\n', "there is no scenario 'two'"),
        ('title = "t"\nscenario = "one"\n[[edit]]\nfile = "a"\nold = "b"\n', "has no key edit.new"),
    ],
)
def test_a_bad_defect_is_named(tmp_path: Path, defect: str, message: str) -> None:
    assert message in "\n".join(read(tmp_path, GOOD, defect))


def planted(*, edits: bool) -> PlantedDefect:
    return PlantedDefect(Path("x.toml"), "x", "t", "one", (Edit("a", "b", "c"),) if edits else (), not edits)


def inner(verdict: Verdict, outcome: str) -> ScenarioResult:
    return ScenarioResult(
        "one", "t", "why", (ScenarioCheck("KL", verdict, "3"),), sides=(SideResult("patched", "patched", outcome),)
    )


@pytest.mark.parametrize(
    ("edits", "verdict", "outcome", "wanted"),
    [
        (True, Verdict.REGRESSION, "served", Verdict.PASS),
        (True, Verdict.PASS, "served", Verdict.REGRESSION),
        (True, Verdict.REGRESSION, "refused", Verdict.REGRESSION),
        (False, Verdict.REGRESSION, "refused", Verdict.PASS),
        (True, Verdict.NOT_RUN, "served", Verdict.NOT_RUN),
    ],
)
def test_a_planted_defect_has_to_be_seen(edits: bool, verdict: Verdict, outcome: str, wanted: Verdict) -> None:
    result = judge_defect(planted(edits=edits), inner(verdict, outcome))
    assert (result.name, result.verdict) == ("defect-x", wanted)


def test_a_defect_that_is_not_run_says_why_once() -> None:
    result = judge_defect(planted(edits=True), inner(Verdict.NOT_RUN, "served"))
    assert result.reason == "why"


def test_names_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no scenario"):
        read_folder(tmp_path)
    (tmp_path / "one.toml").write_text(GOOD)
    with pytest.raises(PatchsetError) as caught:
        read_folder(tmp_path, ["on"])
    assert "did you mean one?" in caught.value.remedy
