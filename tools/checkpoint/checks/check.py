"""A checkpoint's verdict: every rule, and every value."""

from __future__ import annotations

from pathlib import Path

from checkpoint.checks.cache import check_cache, check_phantoms, check_whole
from checkpoint.checks.configs import check_configs
from checkpoint.checks.finding import Breach, Verdict, several
from checkpoint.checks.layers import algo_of, check_fused, check_layer
from checkpoint.formats import FORMATS, SCALES
from checkpoint.reading.header import SIZES
from checkpoint.reading.load import load
from checkpoint.reading.model import Checkpoint, Layer
from checkpoint.reading.values import count_not_finite, describe
from toolkit.progress import Reporter

# ModelOpt clamps a channel's smoothing scale to 10000; in bf16 that is 9984.
_SLEEPING = 9984


def check(folder: Path, reporter: Reporter) -> Verdict:
    """Read a checkpoint that ModelOpt exported, and hold it against its format.

    All bytes are read once, a piece at a time.

    Raises:
        UsageError: there is no such folder, or nothing in it that says ModelOpt.
    """
    checkpoint, breaches = load(folder)
    layers = {layer.name: layer for layer in checkpoint.layers()}
    breaches += check_configs(checkpoint)
    with reporter.task(f"check {folder.name}: scales", len(layers), "layers") as task:
        for number, layer in enumerate(layers.values(), 1):
            breaches += check_layer(checkpoint, layer)
            task.update(number)
    breaches += check_fused(checkpoint, layers)
    breaches += check_phantoms(checkpoint, layers)
    breaches += check_cache(checkpoint, layers)
    breaches += check_whole(checkpoint)
    breaches += _values(checkpoint, folder.name, reporter)
    quantized = [layer for layer in layers.values() if layer.quantized]
    said = checkpoint.quantization
    return Verdict(
        str(folder),
        said.algo,
        said.cache,
        len(checkpoint.tensors),
        sum(tensor.bytes for tensor in checkpoint.tensors.values()),
        len(quantized),
        sum(len(layer.weight.shape) > 1 for layer in layers.values()) - len(quantized),
        tuple(breaches),
        tuple(_notes(checkpoint, layers)),
    )


def _values(checkpoint: Checkpoint, title: str, reporter: Reporter) -> list[Breach]:
    """Return the tensors with values that are no numbers; scales are looked into with their layer."""
    left = [item for item in checkpoint.tensors.values() if item.name.rpartition(".")[2] not in SCALES]
    found = []
    done = 0
    with reporter.task(f"check {title}: values", sum(item.bytes for item in left), "bytes") as task:
        for item in left:
            if item.dtype not in SIZES:
                found.append(Breach("dtype", item.name, f"is of a type that is not known here: {item.dtype}"))
            elif count := count_not_finite(item):
                found.append(Breach("value", item.name, f"holds {count} values that are NaN or infinite"))
            done += item.bytes
            task.update(done)
    return found


def _notes(checkpoint: Checkpoint, layers: dict[str, Layer]) -> list[str]:
    notes = []
    unknown = sorted({str(algo_of(checkpoint, item.name)) for item in layers.values() if item.quantized} - set(FORMATS))
    if unknown:
        notes.append(f"layers of {several(unknown)} are not looked into, beyond their values")
    scales = [item.tensors["pre_quant_scale"] for item in layers.values() if "pre_quant_scale" in item.tensors]
    asleep = [item.name for item in scales if item.dtype in ("F32", "F16", "BF16") and describe(item).most >= _SLEEPING]
    if asleep:
        notes.append(
            f"{several(asleep)}: a channel was zero throughout calibration, and saturates once it is not; "
            "calibrate with more samples, or with ModelOpt as this project patches it"
        )
    return notes
