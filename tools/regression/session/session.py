"""A session: all scenarios, one after the other, and what they ran on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from patchset.model.project import load
from patchset.model.series import Series
from patchset.model.trailers import trailers
from patchset.store.git import Git
from patchset.workflow.apply import read_series
from patchset.worktree.location import superproject_gitdir
from regression.figures.verdict import Verdict, holds
from regression.model.folder import read_controls, read_folder
from regression.model.result import ScenarioResult, Session
from regression.model.scenario import Planted, Scenario
from regression.stages.bench import Bench
from regression.stages.kit import Kit
from regression.stages.scenario import Defect, Run, run_scenario
from regression.stages.step import do_ahead


def run_session(
    root: Path,
    bench: Bench,
    kit: Kit,
    scenarios: tuple[Scenario, ...],
    defects: tuple[Planted, ...],
    done: Callable[[ScenarioResult], None],
) -> Session:
    """Run scenarios, then the planted defects; `done` is told of each result.

    Raises:
        UsageError: a scenario names a component or base that there is not.
        PatchsetError: the session cannot go on; where an environment cannot be patched, it has not begun.
    """
    project = load(root)

    def series(spec: str) -> Series:
        ((component, base),) = project.select((spec,))
        return read_series(component, base)

    used: dict[str, Series] = {}

    def begin(scenario: Scenario, defect: Defect) -> Run:
        pair = series(scenario.modelopt), series(scenario.vllm)
        used.update({item.title: item for item in pair})
        return Run(bench, kit, scenario, *pair, defect)

    known = {item.name: item for item in scenarios} | _all(scenarios, defects)
    plain = [begin(scenario, Defect()) for scenario in scenarios]
    with_defect = [
        begin(_where_it_shows(known[planted.scenario]), Defect(planted.edits, planted.vision)) for planted in defects
    ]
    _ahead(bench, [run for run in (*plain, *with_defect) if run.lacking is None])
    found = []
    for run in plain:
        found.append(run_scenario(run))
        done(found[-1])
    for planted, run in zip(defects, with_defect, strict=True):
        found.append(judge_defect(planted, run_scenario(run)))
        done(found[-1])
    folder = (scenarios or defects)[0].file.parent
    controls = read_controls(folder if scenarios else folder.parent)
    return Session(identity(root, bench, kit, used, *controls), tuple(found), tuple(bench.spent))


def _ahead(bench: Bench, runs: Sequence[Run]) -> None:
    """Do the steps of all scenarios, batched; what is not kept afterwards is left to the scenarios themselves.

    Everything is patched first: quantizing takes minutes, and an environment that does not hold the base ends it all.
    """
    for run in runs:
        for side in run.scenario.sides:
            bench.overlay("vllm", bench.serve, run.variant(side))
    steps = [step for run in runs if (step := run.quantize_step()) is not None]
    do_ahead(bench, steps, "quantize")
    do_ahead(bench, [step for run in runs for step in run.serve_steps()], "serve")


def _all(scenarios: tuple[Scenario, ...], defects: tuple[Planted, ...]) -> dict[str, Scenario]:
    """The scenarios of the defects, which may not be among those that were asked for."""
    if not defects or all(item.scenario in {one.name for one in scenarios} for item in defects):
        return {}
    every, _ = read_folder(defects[0].file.parents[1])
    return {item.name: item for item in every}


def _where_it_shows(scenario: Scenario) -> Scenario:
    """The part of a scenario that a defect of the series can change: what the series serves, by its own figures."""
    sides = tuple(side for side in scenario.sides if side.vllm == "patched" and side.outcome == "served")
    names = {"fake-quant", *(side.name for side in sides)}
    distances = tuple(item for item in scenario.distances if {item.side, item.reference} <= names)
    return replace(scenario, timings=False, task_loss=None, sides=sides, distances=distances)


def judge_defect(planted: Planted, inner: ScenarioResult) -> ScenarioResult:
    """The verdict on the instrument: a planted defect has to turn the scenario's verdict to regression."""
    made = replace(inner, name=f"defect-{planted.name}", title=f"Planted: {planted.title}")
    if inner.verdict is Verdict.NOT_RUN:
        return made
    seen = [check for check in inner.checks if check.verdict is Verdict.REGRESSION]
    if planted.edits and any(side.outcome == "refused" for side in inner.sides):
        # An edit that does not even run plants nothing: figures have to see it.
        seen = []
    what = "; ".join(f"{check.name}: {check.found}" for check in seen) or f"{inner.verdict.value}: {inner.reason}"
    return replace(made, checks=(holds("the defect is seen", bool(seen), what, "a regression"),), reason=what)


def identity(
    root: Path,
    bench: Bench,
    kit: Kit,
    used: Mapping[str, Series],
    controls: Mapping[str, list[str]],
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    """Return what a report is about: our commit, the series, the environments, the model, the machine.

    Of each patch it says which scenarios leave it out, or why none can, and which test fails without it.
    """
    return {
        "commit": _commit(root),
        "series": {
            title: {
                "sha256": series.digest,
                "patches": [patch.name for patch in series.patches],
                "controls": {
                    patch.name: {
                        "scenarios": controls.get(patch.name, []),
                        "reason": reasons.get(patch.name, ""),
                        "tests": [item.value for item in trailers(patch.header) if item.key == "Tested-By"],
                    }
                    for patch in series.patches
                },
                "commit": series.base.commit,
                "wheels": {wheel.filename: wheel.sha256 for wheel in series.base.wheels},
            }
            for title, series in sorted(used.items())
        },
        "environments": {"quantize": bench.quantize.versions, "serve": bench.serve.versions},
        "model": {"sha256": bench.digest(*kit.files), "card": kit.card, "shape": kit.shape},
        "hardware": asdict(bench.hardware),
    }


def _commit(root: Path) -> str | None:
    gitdir = superproject_gitdir(root)
    return Git(gitdir).resolve("HEAD") if gitdir is not None else None
