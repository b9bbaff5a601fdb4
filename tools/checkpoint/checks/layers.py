"""Each layer against its format: tensors, types, shapes, values, and what fused layers share."""

from __future__ import annotations

from collections.abc import Iterator

from checkpoint.checks.finding import Breach, several
from checkpoint.formats import FLOATING, FORMATS, FUSED, PER_BLOCK, PER_COLUMN, PER_ROW, SCALES, Format, Part
from checkpoint.reading.header import Stored
from checkpoint.reading.model import Checkpoint, Layer
from checkpoint.reading.values import FLOATS, describe, raw

# Modules with a matrix that is none of a linear layer.
_TABLES = ("embed", "wte", "wpe")


def algo_of(checkpoint: Checkpoint, layer: str) -> str | None:
    """Return the layer's quant_algo: the checkpoint's, or the layer's own in a mixed one."""
    said = checkpoint.quantization
    if said.algo == "MIXED_PRECISION":
        own = said.layers.get(layer)
        return own.get("quant_algo") if isinstance(own, dict) else None
    return said.algo


def check_layer(checkpoint: Checkpoint, layer: Layer) -> Iterator[Breach]:
    """Yield what is wrong with a layer, its weight's values aside."""
    pattern = checkpoint.excluded(layer.name)
    algo = algo_of(checkpoint, layer.name)
    form = FORMATS.get(algo or "")
    if not layer.quantized:
        left_over = [name for name in SCALES if name in layer.tensors]
        if left_over:
            yield Breach("missing", layer.name, f"has {several(left_over)}, but its weight is not quantized")
        elif form is not None and len(layer.weight.shape) == 2 and pattern is None and not _is_table(layer.name):
            yield Breach("config", layer.name, f"is not quantized ({layer.weight.described}), and nothing excludes it")
        return
    if pattern is not None:
        yield Breach("config", layer.name, f"is quantized ({layer.weight.described}), although {pattern!r} excludes it")
    if form is not None:
        yield from _against(form, algo or "", layer, checkpoint)


def _is_table(name: str) -> bool:
    return any(part in name.rsplit(".", 1)[-1] for part in _TABLES)


def _against(form: Format, algo: str, layer: Layer, checkpoint: Checkpoint) -> Iterator[Breach]:
    weight = layer.weight
    if weight.dtype != form.weight or len(weight.shape) != 2:
        yield Breach("dtype", f"{layer.name}.weight", f"is {weight.described}, where {algo} has {form.weight} [N, K]")
        return
    for name, part in form.parts.items():
        tensor = layer.tensors.get(name)
        if tensor is None:
            yield Breach("missing", f"{layer.name}.{name}", f"is absent; {algo} has it")
            continue
        yield from _part(layer, tensor, part, form, checkpoint)
    for name in SCALES:
        if name in layer.tensors and name not in form.parts:
            yield Breach("phantom", f"{layer.name}.{name}", f"is none of {algo}'s tensors")


def _part(layer: Layer, tensor: Stored, part: Part, form: Format, checkpoint: Checkpoint) -> Iterator[Breach]:
    model = checkpoint.dtype()
    wanted = part.dtypes or ((model,) if model else FLOATING)
    if tensor.dtype not in wanted:
        whose = " (the model's type)" if not part.dtypes and model else ""
        yield Breach("dtype", tensor.name, f"is {tensor.described}, where {' or '.join(wanted)} is expected{whose}")
    rows, columns = layer.weight.shape
    columns *= form.packed
    size = checkpoint.quantization.group_size or form.group_size
    by_kind: dict[str, set[tuple[int, ...]]] = {
        PER_ROW: {(rows,), (rows, 1)},
        PER_COLUMN: {(columns,)},
        PER_BLOCK: {(rows, -(-columns // size))},
    }
    shapes = by_kind.get(part.shape, {(), (1,)})
    if tensor.shape not in shapes:
        best = ", ".join(map(str, min(shapes)))
        yield Breach("shape", tensor.name, f"is {tensor.described}, where the weight's {part.shape} is [{best}]")
    if tensor.dtype in FLOATS:
        yield from check_scale(tensor)


def check_scale(tensor: Stored) -> Iterator[Breach]:
    """Yield a breach if a scale is not finite and above zero throughout; blocks of zeros may have one of zero."""
    if tensor.dtype == "F8_E5M2":
        return
    found = describe(tensor)
    if found.not_finite:
        yield Breach("value", tensor.name, f"holds {found.not_finite} values that are NaN or infinite")
    if found.not_positive and (tensor.dtype != "F8_E4M3" or found.least < 0):
        yield Breach(
            "value", tensor.name, f"holds {found.not_positive} values of zero or below (least {found.least:g})"
        )
    if tensor.bytes == 0:
        yield Breach("shape", tensor.name, "is empty")


def check_fused(checkpoint: Checkpoint, layers: dict[str, Layer]) -> Iterator[Breach]:
    """Yield where layers that read the same input disagree: q/k/v, gate/up."""
    blocks = sorted({name.rpartition(".")[0] for name in layers})
    for block in blocks:
        for family in FUSED:
            members = [layers[f"{block}.{part}"] for part in family if f"{block}.{part}" in layers]
            if len(members) > 1:
                yield from _agree(checkpoint, block, members)


def _agree(checkpoint: Checkpoint, block: str, members: list[Layer]) -> Iterator[Breach]:
    names = [layer.name.rpartition(".")[2] for layer in members]
    asleep = [name for name, layer in zip(names, members, strict=True) if not layer.quantized]
    if asleep:
        if len(asleep) < len(members):
            yield Breach("fused", block, f"{several(asleep)} of {'/'.join(names)} is not quantized, the others are")
        return
    algos = {algo_of(checkpoint, layer.name) for layer in members}
    if len(algos) > 1:
        yield Breach("fused", block, f"{'/'.join(names)} have different formats: {several(sorted(map(str, algos)))}")
        return
    form = FORMATS.get(algos.pop() or "")
    for tensor in form.shared if form else ():
        found = [layer.tensors[tensor] for layer in members if tensor in layer.tensors]
        if len({raw(item) for item in found}) > 1:
            yield Breach("fused", block, f"{'/'.join(names)} disagree in {tensor}")
