"""The two configurations against each other, and against the tensors' formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from checkpoint.checks.finding import Breach, several
from checkpoint.formats import FORMATS, KNOWN
from checkpoint.reading.model import Checkpoint, Quantization


def check_configs(checkpoint: Checkpoint) -> Iterator[Breach]:
    """Yield what is wrong with the configurations, tensors aside."""
    algo = checkpoint.quantization.algo
    if algo is None:
        yield Breach("config", checkpoint.quantization.file or "hf_quant_config.json", "names no quant_algo")
    elif algo not in FORMATS and algo.upper() not in KNOWN:
        yield Breach(
            "config", checkpoint.quantization.file, f"names the quant_algo {algo}, which ModelOpt does not have"
        )
    if len(checkpoint.said) == 2:
        yield from _agree(*checkpoint.said)
    elif checkpoint.quantization.file == "config.json":
        yield Breach("config", "hf_quant_config.json", "is absent; only config.json tells the format")
    else:
        yield Breach("config", "config.json", "has no quantization_config; readers of it take the model as unquantized")
    for said in checkpoint.said:
        if said.groups is not None:
            yield from _groups(said.algo, said.groups)
    named = checkpoint.config.get("quantization_config", {}).get("quant_method")
    if named not in (None, "modelopt") and not str(named).startswith("modelopt"):
        yield Breach("config", "config.json", f"names the quant_method {named!r}, not modelopt")


def _agree(one: Quantization, other: Quantization) -> Iterator[Breach]:
    for what, a, b in (("quant_algo", one.algo, other.algo), ("KV cache", one.cache, other.cache)):
        if a != b:
            yield Breach("config", what, f"{one.file} says {a}, {other.file} {b}")
    for name, there, absent in ((one.file, one, other), (other.file, other, one)):
        only = sorted(set(there.exclude) - set(absent.exclude))
        if only:
            yield Breach("config", name, f"excludes {several(only)}, which {absent.file} does not")


def _groups(algo: str | None, groups: dict[str, Any]) -> Iterator[Breach]:
    """Hold config.json's config groups against the format."""
    form = FORMATS.get(algo or "")
    if form is None or form.group is None:
        return
    if not groups:
        if form.group_required:
            yield Breach("config", "config.json", f"has no config group for {algo}")
        return
    for name, group in groups.items():
        for key, wanted in zip(("weights", "input_activations"), form.group, strict=True):
            scheme = group.get(key) if isinstance(group, dict) else None
            got = (scheme.get("type"), scheme.get("num_bits")) if isinstance(scheme, dict) else None
            if got != wanted:
                yield Breach(
                    "config", f"config.json {name}.{key}", f"says {_scheme(got)}, where {algo} has {_scheme(wanted)}"
                )


def _scheme(value: tuple[Any, Any] | None) -> str:
    return "nothing" if value is None else f"{value[0]}{value[1]}"
