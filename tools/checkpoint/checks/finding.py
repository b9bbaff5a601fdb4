"""What is wrong with a checkpoint, one thing each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Rule = Literal["file", "config", "missing", "dtype", "shape", "value", "fused", "phantom", "cache", "layers"]

# What a rule's breach means for who serves the checkpoint, and what to do.
EXPLAINED: dict[Rule, str] = {
    "file": "The files do not hold together: export again, or copy again.",
    "config": "A server takes the format from these files, and would load the tensors as something else.",
    "missing": "A server that expects the tensor refuses the checkpoint or runs with a scale of one.",
    "dtype": "The element type is not the format's, so that the bytes would be read as other numbers.",
    "shape": "The shape is not the one that belongs to the weight.",
    "value": "A scale has to be finite and above zero, a weight finite: anything else spreads to every answer.",
    "fused": "A server fuses these layers, which quantize their common input once: they have to agree.",
    "phantom": "There is no layer that the tensor belongs to; vLLM refuses such a checkpoint.",
    "cache": "The KV cache's scales are not those that the configuration announces.",
    "layers": "A layer of the model is not there.",
}


@dataclass(frozen=True)
class Breach:
    """A breach of the format: `where` is a tensor, a layer or a file."""

    rule: Rule
    where: str
    text: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What was found in a checkpoint; notes are no breaches."""

    folder: str
    algo: str | None
    cache: str | None
    tensors: int
    bytes: int
    quantized: int
    left_alone: int
    breaches: tuple[Breach, ...]
    notes: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.breaches

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "good": self.good, "breaches": [item.as_json() for item in self.breaches]}


def several(names: Iterable[str], limit: int = 3) -> str:
    """Return names as a text that ends after a few."""
    found: Sequence[str] = list(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more
