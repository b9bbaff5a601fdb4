"""Check a checkpoint: every rule, and every value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from checkpoint.breach import Breach, CheckResult, several
from checkpoint.checks.cache import check_cache, check_phantoms, check_whole
from checkpoint.checks.configs import check_configs
from checkpoint.checks.layers import algo_of, check_fused, check_layer
from checkpoint.formats import FLOATING, SCALES, by_algo
from checkpoint.reading.header import SIZES
from checkpoint.reading.load import load
from checkpoint.reading.model import Checkpoint, Layer
from checkpoint.reading.values import count_not_finite, value_range
from toolkit.progress import Reporter

# The smoothing scale of an all-zero (dead) channel: ModelOpt clamps it to 10000, which is 9984 in bfloat16.
_DEAD_CHANNEL = 9984


def check(folder: Path, reporter: Reporter) -> CheckResult:
    """Check a checkpoint that ModelOpt exported against its format.

    All bytes are read once, a piece at a time.

    Raises:
        UsageError: `folder` is no folder, or no file in it names a quantization.
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
    quantized = sum(layer.quantized for layer in layers.values())
    return CheckResult(
        str(folder),
        checkpoint.quantization.algo,
        checkpoint.quantization.cache,
        len(checkpoint.tensors),
        sum(tensor.nbytes for tensor in checkpoint.tensors.values()),
        quantized,
        sum(len(layer.weight.shape) > 1 for layer in layers.values()) - quantized,
        tuple(breaches),
        tuple(_notes(checkpoint, layers)),
    )


def _values(checkpoint: Checkpoint, title: str, reporter: Reporter) -> Iterator[Breach]:
    """Yield the tensors with NaN or infinity; scales are checked with their layer."""
    tensors = [tensor for name, tensor in checkpoint.tensors.items() if name.rpartition(".")[2] not in SCALES]
    position = 0
    with reporter.task(f"check {title}: values", sum(tensor.nbytes for tensor in tensors), "bytes") as task:
        for tensor in tensors:
            if tensor.dtype not in SIZES:
                yield Breach("dtype", tensor.name, f"is of an element type that is not known: {tensor.dtype}")
            elif count := count_not_finite(tensor):
                yield Breach("value", tensor.name, f"holds {count} values that are NaN or infinite")
            position += tensor.nbytes
            task.update(position)


def _notes(checkpoint: Checkpoint, layers: dict[str, Layer]) -> Iterator[str]:
    algos = {algo_of(checkpoint, layer.name) for layer in layers.values() if layer.quantized}
    unknown = sorted(str(algo) for algo in algos if by_algo(algo) is None)
    if unknown:
        yield f"layers of {several(unknown)} are not looked into, beyond their values"
    scales = [layer.tensors["pre_quant_scale"] for layer in layers.values() if "pre_quant_scale" in layer.tensors]
    dead = [scale.name for scale in scales if scale.dtype in FLOATING and value_range(scale).most >= _DEAD_CHANNEL]
    if dead:
        yield (
            f"{several(dead)}: a channel was zero throughout calibration (a dead channel), and saturates once it is "
            "not; calibrate with more samples, or with ModelOpt as this project patches it"
        )
