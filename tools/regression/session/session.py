"""A session: all scenarios, one after the other, and the identity of what ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from patchset.model.series import Series
from patchset.model.trailers import values
from patchset.project.project import load
from patchset.store.git import Git
from patchset.store.superproject import gitdir_of
from patchset.workflow.workspace import read_series
from regression.figures.verdict import Verdict, holds
from regression.session.bench import Bench
from regression.session.fixture import Fixture
from regression.session.scenario import ScenarioRun
from regression.values.result import ScenarioResult, SessionResult
from regression.values.scenario import PlantedDefect, Scenario, read_controls, read_folder


def run_session(
    root: Path,
    bench: Bench,
    fixture: Fixture,
    scenarios: tuple[Scenario, ...],
    defects: tuple[PlantedDefect, ...],
    show: Callable[[ScenarioResult], None],
) -> SessionResult:
    """Run scenarios, then the planted defects; each result goes to `show`.

    Raises:
        UsageError: a scenario names an unknown component or base.
        PatchsetError: the session cannot go on; where an environment cannot be patched, it has not begun.
    """
    unused = bench.cache.unused()
    if unused:
        names = ", ".join(folder.name for folder in unused)
        bench.reporter.note(f"{bench.cache.folder} holds folders that are not used any more; remove them: {names}")
    project = load(root)
    used: dict[str, Series] = {}

    def series(spec: str) -> Series:
        ((component, base),) = project.select((spec,))
        entry = read_series(component, base)
        used[entry.title] = entry
        return entry

    def begin(scenario: Scenario, defect: PlantedDefect | None = None) -> ScenarioRun:
        return ScenarioRun(bench, fixture, scenario, series(scenario.modelopt), series(scenario.vllm), defect)

    folder = scenarios[0].file.parent if scenarios else defects[0].file.parents[1]
    # The scenario of a defect may not be among those of this session.
    known = {item.name: item for item in read_folder(folder)[0]} if defects else {}
    runs = [begin(scenario) for scenario in scenarios]
    runs += [begin(_visible_part(known[defect.scenario]), defect) for defect in defects]
    ready = [run for run in runs if run.lacking is None]
    # Everything is patched first: quantizing takes minutes, and an environment that does not hold the base ends it all.
    for each in ready:
        for side in each.scenario.sides:
            bench.package("vllm", each.variant(side))
    bench.do_ahead([each.quantize_step for each in ready if each.quantize_step is not None], "quantize")
    for each in ready:
        each.quantize()
    steps = [step for each in ready for step in (*each.serve_steps.values(), each.reference_step) if step is not None]
    bench.do_ahead(steps, "serve")
    results = []
    for each in runs:
        result = each.result()
        results.append(judge_defect(each.defect, result) if each.defect is not None else result)
        show(results[-1])
    identity = _identity(root, bench, fixture, used, *read_controls(folder))
    return SessionResult(identity, tuple(results), tuple(bench.processes))


def _visible_part(scenario: Scenario) -> Scenario:
    """Return the part of a scenario that a defect of the series can change: the patched sides, by their own figures."""
    sides = tuple(side for side in scenario.sides if side.vllm == "patched" and side.outcome == "served")
    names = {"fake-quant", *(side.name for side in sides)}
    distances = tuple(item for item in scenario.distances if {item.side, item.reference} <= names)
    return replace(scenario, timings=False, task_loss=None, sides=sides, distances=distances)


def judge_defect(defect: PlantedDefect, inner: ScenarioResult) -> ScenarioResult:
    """Return the verdict on the instrument: a planted defect has to turn the scenario's verdict to regression."""
    result = replace(inner, name=f"defect-{defect.name}", title=f"Planted: {defect.title}")
    if inner.verdict is Verdict.NOT_RUN:
        return result
    failures = [check for check in inner.checks if check.verdict is Verdict.REGRESSION]
    if defect.edits and any(side.outcome == "refused" for side in inner.sides):
        # An edit that does not even run plants nothing: figures have to see it.
        failures = []
    reason = "; ".join(f"{check.name}: {check.actual}" for check in failures) or f"{inner.verdict}: {inner.reason}"
    return replace(result, checks=(holds("the defect is seen", bool(failures), reason, "a regression"),), reason=reason)


def _identity(
    root: Path,
    bench: Bench,
    fixture: Fixture,
    used: Mapping[str, Series],
    controls: Mapping[str, list[str]],
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    """Return the identity of a report: our commit, the series, the environments, the model, the machine.

    For each patch it holds the scenarios that leave it out, or why none can, and the tests that fail without it.
    """
    gitdir = gitdir_of(root)
    return {
        "commit": Git(gitdir).resolve("HEAD") if gitdir is not None else None,
        "series": {
            title: {
                "sha256": series.digest,
                "patches": [patch.name for patch in series.patches],
                "controls": {
                    patch.name: {
                        "scenarios": controls.get(patch.name, []),
                        "reason": reasons.get(patch.name, ""),
                        "tests": values(patch.header, "Test"),
                    }
                    for patch in series.patches
                },
                "commit": series.base.commit,
                "wheels": {wheel.filename: wheel.sha256 for wheel in series.base.wheels},
            }
            for title, series in sorted(used.items())
        },
        "environments": {"quantize": bench.quantize.versions, "serve": bench.serve.versions},
        "model": {"sha256": bench.digest(*fixture.files), "card": fixture.card, "shape": fixture.shape},
        "hardware": asdict(bench.hardware),
    }
