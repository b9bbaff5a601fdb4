"""One scenario from its file to its result."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from patchset.errors import SeriesError
from patchset.model.series import Series
from regression.convert.checkpoint import convert
from regression.effects.stages import digest
from regression.figures.verdict import Check, Verdict, holds
from regression.model.result import Ran, ScenarioResult
from regression.model.scenario import Edit, Scenario, Side
from regression.stages.bench import Bench, Unfinished, Variant
from regression.stages.contract import export_contract
from regression.stages.judge import Evidence, judge
from regression.stages.kit import Kit
from regression.stages.quantize import Quantized, quantize
from regression.stages.serve import Served, serve, serve_http


@dataclass(frozen=True)
class Defect:
    """A planted defect: edits of the patched vLLM, or the vision tower quantized."""

    edits: tuple[Edit, ...] = ()
    vision: bool = False


@dataclass
class Run:
    """A scenario that is under way."""

    bench: Bench
    kit: Kit
    scenario: Scenario
    modelopt: Series
    vllm: Series
    defect: Defect
    served: dict[str, Served] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def variant(self, side: Side) -> Variant:
        if side.vllm == "unpatched":
            return Variant()
        return Variant(self.vllm, side.without, self.defect.edits)


def run_scenario(
    bench: Bench, kit: Kit, scenario: Scenario, modelopt: Series, vllm: Series, defect: Defect | None = None
) -> ScenarioResult:
    """Run a scenario; what went wrong with it is in the result.

    Raises:
        PatchsetError: the session as a whole cannot go on: a full disk, a broken series.
    """
    lacking = bench.hardware.lacks(scenario.device, scenario.needs)
    if lacking is not None:
        reason = Check("run", Verdict.NOT_RUN, lacking)
        return ScenarioResult(scenario.name, scenario.title, lacking, (reason,))
    run = Run(bench, kit, scenario, modelopt, vllm, defect or Defect())
    try:
        return _run(run)
    except Unfinished as error:
        run.checks.append(Check("finished", Verdict.INCONCLUSIVE, error.message, error.remedy))
        return ScenarioResult(scenario.name, scenario.title, error.message, tuple(run.checks))


def _run(run: Run) -> ScenarioResult:
    scenario, quantized = run.scenario, None
    made = ScenarioResult(scenario.name, scenario.title, "")
    if scenario.format != "none":
        variant = Variant(run.modelopt, scenario.without_modelopt)
        quantized = quantize(run.bench, run.kit, scenario, variant, vision=run.defect.vision)
        run.checks += _quantize_checks(scenario, quantized)
        seconds, peak = quantized.answer.get("quantize seconds"), quantized.answer.get("peak bytes")
        made = replace(made, quantize_seconds=seconds, quantize_peak_bytes=peak)
        if quantized.error is None:
            contract, found = export_contract(quantized.checkpoint, scenario)
            run.checks += found
            made = replace(made, export=contract)
    sides = []
    if quantized is None or quantized.error is None:
        checkpoint = quantized.checkpoint if quantized is not None else run.kit.model
        sides = [_serve(run, side, checkpoint) for side in scenario.sides]
    unquantized = None
    if _wants_unquantized(scenario) and any(item.outcome == "served" for item in sides):
        unquantized = serve(run.bench, run.kit, scenario, run.kit.model, Variant())
    evidence = Evidence(run.served, quantized, unquantized)
    fidelity, tasks, checks = judge(scenario, run.kit, evidence)
    run.checks += checks
    reason = "; ".join(f"{item.name}: {item.found}" for item in run.checks if item.verdict is not Verdict.PASS)
    return replace(made, reason=reason, checks=tuple(run.checks), sides=tuple(sides), fidelity=fidelity, tasks=tasks)


def _wants_unquantized(scenario: Scenario) -> bool:
    return scenario.task_loss is not None or any(item.reference == "unquantized" for item in scenario.distances)


def _quantize_checks(scenario: Scenario, quantized: Quantized) -> list[Check]:
    error, wanted = quantized.error, scenario.quantize_refused
    if wanted is not None:
        found = error or "quantized"
        return [holds("quantize refuses", error is not None and wanted in error, found, f"an error with: {wanted}")]
    return [holds("quantized, all finite", error is None, error or "yes", "yes")]


def _serve(run: Run, side: Side, checkpoint: Path) -> Ran:
    bench, scenario = run.bench, run.scenario
    if side.convert:
        try:
            checkpoint = _converted(bench, checkpoint)
        except SeriesError as error:
            run.checks.append(holds(f"{side.name}: converted", False, "; ".join(error.details), "all layers folded"))
            return _ran(side, "refused", {"error": error.message})
    if side.http:
        found = serve_http(bench, run.kit, scenario, checkpoint, run.variant(side))
    else:
        found = serve(bench, run.kit, scenario, checkpoint, run.variant(side))
    if side.repeat and found.error is None:
        run.served[f"{side.name}, again"] = serve(bench, run.kit, scenario, checkpoint, run.variant(side), run=2)
    outcome = "served" if found.error is None else "refused"
    if side.outcome == "served":
        run.checks.append(holds(f"{side.name}: served", found.error is None, found.error or "yes", "yes"))
    else:
        said = str(found.answer.get("tail", ""))
        right = found.error is not None and side.message in said
        run.checks.append(holds(f"{side.name}: refused", right, found.error or "served", f"refused: {side.message}"))
    if found.error is None:
        run.served[side.name] = found
    return _ran(side, outcome, found.answer)


def _ran(side: Side, outcome: str, answer: Mapping[str, Any]) -> Ran:
    vllm = f"without {side.without}" if side.without else side.vllm
    return Ran(
        side=side.name,
        vllm=vllm + (", converted" if side.convert else "") + (", over HTTP" if side.http else ""),
        outcome=outcome,
        error=str(answer.get("error", "")),
        contract=answer.get("contract", {}),
        start_seconds=answer.get("start seconds"),
        peak_bytes=answer.get("peak bytes"),
        timings=answer.get("timings") or {},
    )


def _converted(bench: Bench, checkpoint: Path) -> Path:
    """Return the checkpoint as compressed-tensors; raise `SeriesError` where it cannot be folded."""
    inputs = {"checkpoint": digest(checkpoint), "code": digest(Path(__file__).parents[1] / "convert")}

    def work(folder: Path) -> dict[str, Any]:
        shutil.rmtree(folder / "converted", ignore_errors=True)
        return convert(checkpoint, folder / "converted", bench.reporter).as_json()

    bench.stages.run("convert", inputs, work)
    return bench.stages.path("convert", inputs) / "converted"
