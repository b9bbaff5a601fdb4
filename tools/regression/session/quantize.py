"""Quantizing and exporting, in ModelOpt's environment: `checkpoint quantize`'s worker, with the fixture's questions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from checkpoint.breach import several
from checkpoint.checks.cache import is_vision
from checkpoint.checks.check import check
from checkpoint.formats import CACHE_SCALES, MIXED, SCALES, by_name
from checkpoint.quantize.job import CACHES, QuantizeJob
from checkpoint.quantize.run import WORKER
from checkpoint.reading.load import load
from regression.effects.cache import digest
from regression.figures.verdict import ScenarioCheck, holds
from regression.session.bench import Bench, StepOutput, Variant, WorkerStep
from regression.session.fixture import Fixture
from regression.values.scenario import Scenario
from toolkit.errors import UsageError
from toolkit.progress import Reporter

SAMPLES = 128  # calibration captions
LENGTH = 512  # tokens of one, at most
BATCH = 16  # captions at a time
PATHS = ("model", "out", "captions", "items", "calibration")  # of a job; its inputs have the contents
# The scenarios' mixed format is this one with 4-bit weights in the MLPs.
MIXED_BASE = "int8_wo"
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def quantize_step(
    bench: Bench, fixture: Fixture, scenario: Scenario, variant: Variant, *, vision: bool = False
) -> WorkerStep:
    """Return the step that writes the scenario's checkpoint; `vision` plants a defect: a quantized vision tower."""
    mixed = scenario.format == "int8_mixed"
    job = asdict(
        QuantizeJob(
            model=str(fixture.model),
            out="",
            config=by_name(MIXED_BASE if mixed else scenario.format).config or "",
            cache_config=CACHES["fp8" if scenario.kv == "fp8" else "none"],
            captions=str(fixture.captions),
            samples=SAMPLES,
            length=LENGTH,
            batch=BATCH,
            device=scenario.device,
        )
    ) | {
        "dtype": scenario.dtype,
        "limit": scenario.items or None,
        "foldable": scenario.foldable,
        "mixed": mixed,
        "whole": scenario.whole,
        "dead channel": scenario.dead_channel,
        "vision": vision,
        "items": str(fixture.items),
        "calibration": str(fixture.calibration) if fixture.calibration is not None else None,
    }
    return bench.step(
        "modelopt",
        variant,
        *("quantize", "foldable"),
        kind="quantize",
        title=f"quantize {scenario.name} {variant.title}",
        inputs={
            "worker": digest(WORKER),
            "fixture": bench.digest(*fixture.files),
            "job": {key: value for key, value in job.items() if key not in PATHS},
        },
        job=job,
        environment={},
        timeout=scenario.timeout,
        imports=(WORKER.parent,),
        refusal=scenario.quantize_refused,
    )


def check_quantized(scenario: Scenario, output: StepOutput) -> list[ScenarioCheck]:
    """Return the check that quantizing succeeded, or was refused as the scenario expects."""
    error, message = output.error, scenario.quantize_refused
    if message is not None:
        refused = error is not None and message in error
        return [holds("quantize refuses", refused, error or "quantized", f"an error with: {message}")]
    return [holds("quantized, all finite", error is None, error or "yes", "yes")]


def check_export(folder: Path, scenario: Scenario, reporter: Reporter) -> tuple[dict[str, Any], list[ScenarioCheck]]:
    """Return the properties of an exported checkpoint, and the checks of it: `checkpoint check`'s rules, and more.

    Where the scenario expects a breach, the one check is that there is one with this text.
    """
    try:
        verdict = check(folder, reporter)
    except UsageError as error:
        return {}, [holds("export: a checkpoint", False, error.message, "one that ModelOpt exported")]
    loaded, _ = load(folder)
    layers = list(loaded.layers())
    scales = [name for name in loaded.tensors if name.rpartition(".")[2] in {*SCALES, *CACHE_SCALES}]
    contract = {
        "quant_algo": verdict.algo,
        "kv_cache_quant_algo": verdict.cache,
        "excluded": list(loaded.quantization.exclude),
        "quantized layers": verdict.quantized,
        "scales": len(scales),
        "bytes": verdict.bytes,
    }
    # That the validator does not know a format is no fault of the checkpoint.
    notes = [note for note in verdict.notes if "not looked into" not in note]
    breaches = [f"{breach.where}: {breach.text}" for breach in verdict.breaches]
    if scenario.export_refused is not None:
        breach = next((text for text in (*breaches, *notes) if scenario.export_refused in text), None)
        actual = breach or several([*breaches, *notes]) or "it keeps to its format"
        expected = f"a breach: {scenario.export_refused}"
        return contract, [holds("export: refused", breach is not None, actual, expected)]
    algorithm = MIXED if scenario.format == "int8_mixed" else by_name(scenario.format).algo
    cache = "FP8" if scenario.kv == "fp8" else None
    same = (verdict.algo, verdict.cache) == (algorithm, cache)
    decoder = [layer for layer in layers if layer.name.rpartition(".")[2] in LINEARS and not is_vision(layer.name)]
    plain = [layer.name for layer in decoder if not layer.quantized]
    vision = [layer.name for layer in layers if layer.quantized and is_vision(layer.name)]
    vision += [name for name in scales if is_vision(name)]
    return contract, [
        holds("export: algorithm", same, f"{verdict.algo}, KV cache {verdict.cache}", f"{algorithm}, {cache}"),
        holds("export: keeps to its format", not breaches, several(breaches) or "yes", "no breach"),
        holds("export: no dead channel", not notes, several(notes) or "none", "none"),
        holds("export: every decoder layer", bool(decoder) and not plain, several(plain) or "all", "none left out"),
        holds("export: the vision tower is left alone", not vision, several(vision) or "yes", "nothing quantized"),
    ]
