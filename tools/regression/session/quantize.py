"""Quantizing and exporting, in ModelOpt's environment: `checkpoint quantize`'s worker, with the kit's questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoint.quantize.job import CACHES, FORMATS, Job
from checkpoint.quantize.run import WORKER
from regression.effects.stages import digest
from regression.model.scenario import Scenario
from regression.stages.bench import Bench, Variant
from regression.stages.kit import Kit
from regression.stages.step import Step, do

SAMPLES = 128  # calibration captions
LENGTH = 512  # tokens of one, at most
BATCH = 16  # captions at a time
# What a scenario's format is for the worker; the mixed one has 4-bit MLPs beside.
NAMES = {"int8_mixed": "int8_wo"}


@dataclass(frozen=True)
class Quantized:
    """A checkpoint, or why there is none. `folder` holds `checkpoint/` and the reference's `logprobs.npy`."""

    folder: Path
    answer: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def error(self) -> str | None:
        found = self.answer.get("error")
        return found if isinstance(found, str) else None


def quantize_step(bench: Bench, kit: Kit, scenario: Scenario, variant: Variant, *, vision: bool = False) -> Step:
    """Return the step that makes the scenario's checkpoint; `vision` plants a defect: the vision tower is quantized."""
    changed = bench.overlay("modelopt", bench.quantize, variant)
    job = Job(
        model=str(kit.model),
        out="",
        config=FORMATS[NAMES.get(scenario.format, scenario.format)],
        cache_config=CACHES["fp8" if scenario.kv == "fp8" else "none"],
        captions=str(kit.captions),
        images="",
        samples=SAMPLES,
        length=LENGTH,
        batch=BATCH,
        device=scenario.device,
        alpha=None,
    ).as_json() | {
        "dtype": scenario.dtype,
        "limit": scenario.items or None,
        "foldable": scenario.foldable,
        "mixed": scenario.format == "int8_mixed",
        "whole": scenario.whole,
        "asleep": scenario.asleep,
        "vision": vision,
    }
    places = {
        "items": str(kit.items),
        "lessons": str(kit.lessons) if kit.lessons is not None else None,
    }
    return Step(
        stage="quantize",
        script="quantize",
        title=f"quantize {scenario.name} {variant.words}",
        python=bench.quantize,
        changed=changed,
        inputs={
            **bench.inputs(bench.quantize, changed, "quantize", "foldable"),
            "worker": digest(WORKER),
            "kit": bench.digest(*kit.files),
            "job": {key: value for key, value in job.items() if key not in ("model", "out", "captions")},
        },
        job={**job, **places},
        tree=variant.words,
        environment={},
        timeout=scenario.timeout,
        refusal=scenario.quantize_refused,
    )


def quantize(bench: Bench, step: Step) -> Quantized:
    """Return a step's checkpoint.

    Raises:
        Unfinished, EnvironmentProblem: see `do`.
    """
    return Quantized(*do(bench, step))
