"""From checks to a verdict, and from verdicts to an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from regression.figures.score import Paired


class Verdict(StrEnum):
    """The state of a check, a scenario or a session."""

    PASS = "pass"  # noqa: S105
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


# The whole has the worst verdict of any part; `not run` is no judgement on the rest.
_WORST = (Verdict.REGRESSION, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.NOT_RUN)
EXIT_CODE = {Verdict.PASS: 0, Verdict.NOT_RUN: 0, Verdict.REGRESSION: 13, Verdict.INCONCLUSIVE: 14}


@dataclass(frozen=True)
class ScenarioCheck:
    """One check of a fact: its `actual` state and the `expected` one, as text."""

    name: str
    verdict: Verdict
    actual: str
    expected: str = ""


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of the whole; of nothing at all, `not run`."""
    seen = set(verdicts)
    return next((verdict for verdict in _WORST if verdict in seen), Verdict.NOT_RUN)


def at_most(name: str, value: float, limit: float, noise: float = 0.0) -> ScenarioCheck:
    """Check a distance against its limit.

    A value that exceeds the limit but not twice the noise floor is inconclusive. NaN is a regression.
    """
    expected = f"at most {limit:.3g}" + (f" (noise floor {noise:.3g})" if noise else "")
    if value <= limit:
        verdict = Verdict.PASS
    elif value <= 2 * noise:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.REGRESSION
    return ScenarioCheck(name, verdict, f"{value:.3g}", expected)


def holds(name: str, right: bool, actual: str, expected: str) -> ScenarioCheck:
    """Check a plain fact."""
    return ScenarioCheck(name, Verdict.PASS if right else Verdict.REGRESSION, actual, expected)


def not_worse(name: str, flips: Paired, tolerance: float, significance: float = 0.05) -> ScenarioCheck:
    """Check a task score against the reference's on the same items.

    It passes while the net loss is within `tolerance` (a share of the items). A larger loss is a regression if
    McNemar's test finds it significant, and inconclusive if chance alone can explain it.
    """
    loss = (len(flips.lost) - len(flips.won)) / flips.n
    actual = f"lost {len(flips.lost)}, won {len(flips.won)} of {flips.n}, p = {flips.p_value:.3g}"
    expected = f"a net loss of at most {tolerance:.1%}"
    if loss <= tolerance:
        return ScenarioCheck(name, Verdict.PASS, actual, expected)
    verdict = Verdict.REGRESSION if flips.p_value < significance else Verdict.INCONCLUSIVE
    return ScenarioCheck(name, verdict, actual, expected)
