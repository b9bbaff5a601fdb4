"""A breach of a checkpoint's format, and the result of a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from toolkit.text import first_of

Rule = Literal["file", "config", "missing", "dtype", "shape", "value", "fused", "phantom", "cache", "layers"]

# A breach names the first three of many.
several = partial(first_of, limit=3)

# The effect of a rule's breach on serving, and the remedy.
EXPLAINED: dict[Rule, str] = {
    "file": "The files do not fit together: export again, or copy again.",
    "config": "A server takes the format from these files, and would load the tensors as something else.",
    "missing": "A server that expects the tensor refuses the checkpoint or runs with a scale of one.",
    "dtype": "The element type is not the format's, so that the bytes would be read as other numbers.",
    "shape": "The shape does not belong to the weight.",
    "value": "A scale must be finite and above zero, a weight finite: anything else spreads to every answer.",
    "fused": "A server fuses these layers and quantizes their common input once: they must agree.",
    "phantom": "The tensor belongs to no layer; vLLM refuses such a checkpoint.",
    "cache": "The KV cache's scales are not those that the configuration announces.",
    "layers": "A layer of the model is absent.",
}


@dataclass(frozen=True)
class Breach:
    """A breach of the format: `where` is a tensor, a layer or a file."""

    rule: Rule
    where: str
    text: str


@dataclass(frozen=True)
class CheckResult:
    """The result of checking one checkpoint; notes are no breaches.

    `bytes` is the size of all tensors, `quantized` and `left_alone` count matrices.
    """

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
        return {**asdict(self), "good": self.good}
