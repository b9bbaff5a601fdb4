"""What a session found: the one schema behind JSON, Markdown and HTML.

`schema` counts up when a reader of an older report would misunderstand a newer one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from regression.figures.verdict import Check, Verdict, combine

SCHEMA = 2


@dataclass(frozen=True)
class Item:
    """An item whose answer flipped between a side and its reference; `picture` is a data URL or empty."""

    number: int
    ask: str
    right: str
    reference: str
    said: str
    picture: str = ""


@dataclass(frozen=True)
class Task:
    """A side's score, and what flipped against the unquantized model's answers."""

    side: str
    right: int
    n: int
    low: float
    high: float
    reference_right: int
    p_value: float
    lost: tuple[Item, ...] = ()
    won: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Measured:
    """How far a side is from a reference: see `figures.fidelity.Fidelity`; `diverged` of `n` greedy answers differ."""

    side: str
    reference: str
    tokens: int
    kl_mean: float
    kl_p99: float
    kl_max: float
    top1_agreement: float
    perplexity_ratio: float
    diverged: int | None = None
    n: int | None = None
    first_divergence: int | None = None


@dataclass(frozen=True)
class Ran:
    """One side: served or refused, with what was loaded and how fast it was; times in seconds, sizes in bytes."""

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
    checks: tuple[Check, ...] = ()
    quantize_seconds: float | None = None
    quantize_peak_bytes: int | None = None
    export: dict[str, Any] = field(default_factory=dict)
    sides: tuple[Ran, ...] = ()
    fidelity: tuple[Measured, ...] = ()
    tasks: tuple[Task, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return combine(check.verdict for check in self.checks)


@dataclass(frozen=True)
class Session:
    """All scenarios, what they ran on, and what each process took that was not kept from an earlier session."""

    identity: dict[str, Any]
    scenarios: tuple[ScenarioResult, ...]
    spent: tuple[dict[str, Any], ...] = ()

    @property
    def verdict(self) -> Verdict:
        return combine(item.verdict for item in self.scenarios)

    def as_json(self) -> dict[str, Any]:
        """Return the report's JSON form."""
        scenarios = [{"verdict": item.verdict.value, **_plain(asdict(item))} for item in self.scenarios]
        return {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "identity": _plain(self.identity),
            "scenarios": scenarios,
            "spent": _plain(self.spent),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Verdict):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
