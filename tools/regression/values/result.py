"""The result of a session: the one schema behind JSON, Markdown and HTML.

`schema` counts up when a reader of an older report would misunderstand a newer one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from regression.figures.verdict import ScenarioCheck, Verdict, combine

SCHEMA = 3
ReportJson = dict[str, Any]


@dataclass(frozen=True)
class FlippedItem:
    """An item whose answer flipped between a side and its reference; `image` is a data URL or empty."""

    number: int
    question: str
    right: str
    reference: str
    answer: str
    image: str = ""


@dataclass(frozen=True)
class TaskScore:
    """A side's score, and the items that flipped against the unquantized model's answers."""

    side: str
    right: int
    n: int
    low: float
    high: float
    reference_right: int
    p_value: float
    lost: tuple[FlippedItem, ...] = ()
    won: tuple[FlippedItem, ...] = ()


@dataclass(frozen=True)
class PairFigures:
    """The figures of a side against a reference, by the key of their metric (`figures.metrics`)."""

    side: str
    reference: str
    figures: Mapping[str, float | None]

    def as_json(self) -> dict[str, Any]:
        return {"side": self.side, "reference": self.reference, **self.figures}


@dataclass(frozen=True)
class SideResult:
    """One side: served or refused, with its layers' kernels and its speed; times in seconds, sizes in bytes."""

    side: str
    vllm: str
    outcome: str
    error: str = ""
    contract: dict[str, Any] = field(default_factory=dict)
    start_seconds: float | None = None
    peak_bytes: int | None = None
    timings: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScenarioResult:
    """Everything about one scenario."""

    name: str
    title: str
    reason: str
    checks: tuple[ScenarioCheck, ...] = ()
    quantize_seconds: float | None = None
    quantize_peak_bytes: int | None = None
    export: dict[str, Any] = field(default_factory=dict)
    sides: tuple[SideResult, ...] = ()
    fidelity: tuple[PairFigures, ...] = ()
    tasks: tuple[TaskScore, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return combine(check.verdict for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, **asdict(self), "fidelity": [pair.as_json() for pair in self.fidelity]}


@dataclass(frozen=True)
class SessionResult:
    """All scenarios, the `identity` of what ran, and the processes that did work which was not kept before."""

    identity: dict[str, Any]
    scenarios: tuple[ScenarioResult, ...]
    processes: tuple[dict[str, Any], ...] = ()

    @property
    def verdict(self) -> Verdict:
        return combine(item.verdict for item in self.scenarios)

    def as_json(self) -> ReportJson:
        """Return the report's JSON form, with lists for tuples as a file would have them."""
        report = {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "identity": self.identity,
            "scenarios": [item.as_json() for item in self.scenarios],
            "processes": self.processes,
        }
        plain: ReportJson = json.loads(json.dumps(report))
        return plain
