"""Each layer against its format: tensors, types, shapes, scales, and the tensors that fused layers share."""

from __future__ import annotations

from collections.abc import Iterator

from checkpoint.breach import Breach, several
from checkpoint.formats import FLOATING, FUSED, MIXED, PER_BLOCK, PER_COLUMN, PER_ROW, SCALES, Format, Part, by_algo
from checkpoint.reading.header import TensorHeader
from checkpoint.reading.model import Checkpoint, Layer
from checkpoint.reading.values import FLOATS, raw, value_range

# Modules whose matrix is a table of embeddings, not a linear layer.
_TABLES = ("embed", "wte", "wpe")


def algo_of(checkpoint: Checkpoint, layer: str) -> str | None:
    """Return the layer's quant_algo: the checkpoint's, or the layer's own in a mixed one."""
    quantization = checkpoint.quantization
    return quantization.layers.get(layer) if quantization.algo == MIXED else quantization.algo


def check_layer(checkpoint: Checkpoint, layer: Layer) -> Iterator[Breach]:
    """Yield a layer's breaches, its weight's values aside."""
    pattern = checkpoint.excluded(layer.name)
    form = by_algo(algo_of(checkpoint, layer.name))
    if not layer.quantized:
        scales = [name for name in SCALES if name in layer.tensors]
        if scales:
            yield Breach("missing", layer.name, f"has {several(scales)}, but its weight is not quantized")
        elif form is not None and len(layer.weight.shape) == 2 and pattern is None and not _is_table(layer.name):
            text = f"is not quantized ({layer.weight.description}), and nothing excludes it"
            yield Breach("config", layer.name, text)
        return
    if pattern is not None:
        text = f"is quantized ({layer.weight.description}), although {pattern!r} excludes it"
        yield Breach("config", layer.name, text)
    if form is not None:
        yield from _against(form, layer, checkpoint)


def _is_table(name: str) -> bool:
    return any(part in name.rsplit(".", 1)[-1] for part in _TABLES)


def _against(form: Format, layer: Layer, checkpoint: Checkpoint) -> Iterator[Breach]:
    weight = layer.weight
    if weight.dtype != form.weight or len(weight.shape) != 2:
        text = f"is {weight.description}, where {form.algo} has {form.weight} [N, K]"
        yield Breach("dtype", f"{layer.name}.weight", text)
        return
    for name, part in form.parts.items():
        tensor = layer.tensors.get(name)
        if tensor is None:
            yield Breach("missing", f"{layer.name}.{name}", f"is absent; {form.algo} has it")
            continue
        yield from _part(layer, tensor, part, form, checkpoint)
    for name in SCALES:
        if name in layer.tensors and name not in form.parts:
            yield Breach("phantom", f"{layer.name}.{name}", f"is none of {form.algo}'s tensors")


def _part(layer: Layer, tensor: TensorHeader, part: Part, form: Format, checkpoint: Checkpoint) -> Iterator[Breach]:
    model = checkpoint.dtype()
    wanted = part.dtypes or ((model,) if model else FLOATING)
    if tensor.dtype not in wanted:
        whose = " (the model's type)" if not part.dtypes and model else ""
        text = f"is {tensor.description}, where {' or '.join(wanted)} is expected{whose}"
        yield Breach("dtype", tensor.name, text)
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
        yield Breach("shape", tensor.name, f"is {tensor.description}, where the weight's {part.shape} is [{best}]")
    if tensor.dtype in FLOATS:
        yield from check_scale(tensor)


def check_scale(tensor: TensorHeader) -> Iterator[Breach]:
    """Yield a breach if a scale is not finite and above zero throughout; blocks of zeros may have one of zero."""
    values = value_range(tensor)
    if values.not_finite:
        yield Breach("value", tensor.name, f"holds {values.not_finite} values that are NaN or infinite")
    if values.not_positive and (tensor.dtype != "F8_E4M3" or values.least < 0):
        text = f"holds {values.not_positive} values of zero or below (least {values.least:g})"
        yield Breach("value", tensor.name, text)
    if tensor.nbytes == 0:
        yield Breach("shape", tensor.name, "is empty")


def check_fused(checkpoint: Checkpoint, layers: dict[str, Layer]) -> Iterator[Breach]:
    """Yield the disagreements of layers that read the same input: q/k/v, gate/up."""
    blocks = sorted({name.rpartition(".")[0] for name in layers})
    for block in blocks:
        for family in FUSED:
            members = [layers[f"{block}.{part}"] for part in family if f"{block}.{part}" in layers]
            if len(members) > 1:
                yield from _agree(checkpoint, block, members)


def _agree(checkpoint: Checkpoint, block: str, members: list[Layer]) -> Iterator[Breach]:
    names = [layer.name.rpartition(".")[2] for layer in members]
    unquantized = [name for name, layer in zip(names, members, strict=True) if not layer.quantized]
    if unquantized:
        if len(unquantized) < len(members):
            text = f"{several(unquantized)} of {'/'.join(names)} is not quantized, the others are"
            yield Breach("fused", block, text)
        return
    algos = {algo_of(checkpoint, layer.name) for layer in members}
    if len(algos) > 1:
        yield Breach("fused", block, f"{'/'.join(names)} have different formats: {several(sorted(map(str, algos)))}")
        return
    form = by_algo(algos.pop())
    for name in form.shared if form else ():
        tensors = [layer.tensors[name] for layer in members if name in layer.tensors]
        if len({raw(tensor) for tensor in tensors}) > 1:
            yield Breach("fused", block, f"{'/'.join(names)} disagree in {name}")
