"""What an exported checkpoint has to be before anybody loads it: what `checkpoint check` wants, and more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoint.checks.cache import is_vision
from checkpoint.checks.check import check
from checkpoint.checks.finding import several
from checkpoint.formats import CACHE_SCALES, SCALES
from checkpoint.reading.load import load
from regression.figures.verdict import Check, holds
from regression.model.scenario import Scenario
from toolkit.errors import UsageError
from toolkit.progress import Reporter

ALGORITHMS = {"int8_sq": "W8A8_SQ_PER_CHANNEL", "int8_wo": "W8A16", "int8_mixed": "MIXED_PRECISION", "fp8": "FP8"}
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def export_contract(folder: Path, scenario: Scenario, reporter: Reporter) -> tuple[dict[str, Any], list[Check]]:
    """Return what the checkpoint says of itself, and the checks of it.

    Where the scenario wants the export refused, the one check is that it is, and by the right words.
    """
    try:
        verdict = check(folder, reporter)
    except UsageError as error:
        return {}, [holds("export: a checkpoint", False, error.message, "one that ModelOpt exported")]
    checkpoint, _ = load(folder)
    layers = list(checkpoint.layers())
    scales = [name for name in checkpoint.tensors if name.rpartition(".")[2] in {*SCALES, *CACHE_SCALES}]
    contract = {
        "quant_algo": verdict.algo,
        "kv_cache_quant_algo": verdict.cache,
        "excluded": list(checkpoint.quantization.exclude),
        "quantized layers": verdict.quantized,
        "scales": len(scales),
        "bytes": verdict.bytes,
    }
    # That the validator does not know a format is no fault of the checkpoint.
    notes = [note for note in verdict.notes if "not looked into" not in note]
    breaches = [f"{breach.where}: {breach.text}" for breach in verdict.breaches]
    if scenario.export_refused is not None:
        found = next((text for text in (*breaches, *notes) if scenario.export_refused in text), None)
        words = found or several([*breaches, *notes]) or "it keeps to its format"
        return contract, [holds("export: refused", found is not None, words, f"a breach: {scenario.export_refused}")]
    wanted = (ALGORITHMS[scenario.format], "FP8" if scenario.kv == "fp8" else None)
    said = (verdict.algo, verdict.cache)
    decoder = [layer for layer in layers if layer.name.rpartition(".")[2] in LINEARS and not is_vision(layer.name)]
    awake = [layer.name for layer in decoder if not layer.quantized]
    vision = [layer.name for layer in layers if layer.quantized and is_vision(layer.name)]
    vision += [name for name in scales if is_vision(name)]
    return contract, [
        holds("export: algorithm", said == wanted, f"{said[0]}, KV cache {said[1]}", f"{wanted[0]}, {wanted[1]}"),
        holds("export: keeps to its format", not breaches, several(breaches) or "yes", "no breach"),
        holds("export: no channel slept", not notes, several(notes) or "none", "none"),
        holds("export: every decoder layer", bool(decoder) and not awake, several(awake) or "all", "none left out"),
        holds("export: the vision tower is left alone", not vision, several(vision) or "yes", "nothing quantized"),
    ]
