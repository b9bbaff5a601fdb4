"""Quantizing and exporting, in ModelOpt's environment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regression.model.scenario import Scenario
from regression.stages.bench import INSIDE, Bench, Variant, last_error, read_said
from regression.stages.kit import Kit

SAMPLES = 128  # calibration captions


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


def quantize(bench: Bench, kit: Kit, scenario: Scenario, variant: Variant, *, vision: bool = False) -> Quantized:
    """Return the scenario's checkpoint; `vision` plants a defect: the vision tower is quantized as well.

    Raises:
        Unfinished, EnvironmentProblem: see `Bench.run`.
    """
    changed = bench.overlay("modelopt", bench.quantize, variant)
    job = {
        "format": scenario.format,
        "kv": scenario.kv,
        "dtype": scenario.dtype,
        "device": scenario.device,
        "limit": scenario.items or None,
        "samples": SAMPLES,
        "foldable": scenario.foldable,
        "vision": vision,
    }
    inputs = {**bench.inputs(bench.quantize, changed, "quantize", "foldable"), "kit": kit.digest, "job": job}

    def work(folder: Path) -> dict[str, Any]:
        places = {
            "model": str(kit.model),
            "items": str(kit.items),
            "captions": str(kit.captions),
            "lessons": str(kit.lessons) if kit.lessons is not None else None,
        }
        command = [str(INSIDE / "quantize.py"), str(folder), json.dumps({**job, **places})]
        title = f"quantize {scenario.format}" + (f", KV cache {scenario.kv}" if scenario.kv != "auto" else "")
        ended = bench.run(title, bench.quantize, changed, command, folder, scenario.timeout)
        if not ended.good:
            return {"error": last_error(ended.tail), "seconds": ended.seconds}
        return {**read_said(folder), "seconds": ended.seconds, "peak bytes": ended.peak}

    answer = bench.stages.run("quantize", inputs, work)
    return Quantized(bench.stages.path("quantize", inputs), answer)
