"""The two configurations against each other, and against the formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from checkpoint.breach import Breach, several
from checkpoint.formats import KNOWN, by_algo
from checkpoint.reading.load import QUANT_CONFIG
from checkpoint.reading.model import Checkpoint, Quantization


def check_configs(checkpoint: Checkpoint) -> Iterator[Breach]:
    """Yield the breaches of the configurations, tensors aside."""
    algo, file = checkpoint.quantization.algo, checkpoint.quantization.file or QUANT_CONFIG
    if algo is None:
        yield Breach("config", file, "names no quant_algo")
    elif by_algo(algo) is None and algo.upper() not in KNOWN:
        yield Breach("config", file, f"names the quant_algo {algo}, which ModelOpt does not have")
    if len(checkpoint.quantizations) == 2:
        yield from _agree(*checkpoint.quantizations)
    elif checkpoint.quantization.file == "config.json":
        yield Breach("config", QUANT_CONFIG, "is absent; only config.json names the format")
    else:
        yield Breach("config", "config.json", "has no quantization_config; readers of it take the model as unquantized")
    for quantization in checkpoint.quantizations:
        if quantization.groups is not None:
            yield from _groups(quantization.algo, quantization.groups)
        method = quantization.method
        if method is not None and not str(method).startswith("modelopt"):
            yield Breach("config", quantization.file, f"names the quant_method {method!r}, not modelopt")


def _agree(one: Quantization, other: Quantization) -> Iterator[Breach]:
    for key, a, b in (("quant_algo", one.algo, other.algo), ("KV cache", one.cache, other.cache)):
        if a != b:
            yield Breach("config", key, f"{one.file} has {a}, {other.file} {b}")
    for this, that in ((one, other), (other, one)):
        only = sorted(set(this.exclude) - set(that.exclude))
        if only:
            yield Breach("config", this.file, f"excludes {several(only)}, which {that.file} does not")


def _groups(algo: str | None, groups: dict[str, Any]) -> Iterator[Breach]:
    """Yield the differences of config.json's config groups from the format's."""
    form = by_algo(algo)
    if form is None or form.group is None:
        return
    if not groups:
        if form.group_required:
            yield Breach("config", "config.json", f"has no config group for {algo}")
        return
    for name, group in groups.items():
        for key, wanted in zip(("weights", "input_activations"), form.group, strict=True):
            scheme = group.get(key) if isinstance(group, dict) else None
            actual = (scheme.get("type"), scheme.get("num_bits")) if isinstance(scheme, dict) else None
            if actual != wanted:
                text = f"is {_scheme(actual)}, where {algo} has {_scheme(wanted)}"
                yield Breach("config", f"config.json {name}.{key}", text)


def _scheme(value: tuple[Any, Any] | None) -> str:
    return "none" if value is None else f"{value[0]}{value[1]}"
