"""From checks to a verdict, and from verdicts to an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from regression.figures.score import Paired


class Verdict(Enum):
    """What is known of a check, a scenario or a session."""

    PASS = "pass"  # noqa: S105
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


# The worst that happened to any part is what is said of the whole; `not run` is no judgement on the rest.
_WORST = (Verdict.REGRESSION, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.NOT_RUN)
EXIT_CODE = {Verdict.PASS: 0, Verdict.NOT_RUN: 0, Verdict.REGRESSION: 13, Verdict.INCONCLUSIVE: 14}


@dataclass(frozen=True)
class Check:
    """One thing that was checked; `found` says what was seen, `wanted` what should have been."""

    name: str
    verdict: Verdict
    found: str
    wanted: str = ""


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of the whole; of nothing at all, `not run`."""
    seen = set(verdicts)
    return next((verdict for verdict in _WORST if verdict in seen), Verdict.NOT_RUN)


def at_most(name: str, value: float, limit: float, noise: float = 0.0) -> Check:
    """Check a distance against its limit.

    A limit that lies within the noise floor cannot tell anything: what exceeds the limit but not twice the
    noise is inconclusive. What is not a number is a regression.
    """
    wanted = f"at most {limit:.3g}" + (f" (noise floor {noise:.3g})" if noise else "")
    if value <= limit:
        verdict = Verdict.PASS
    elif value <= 2 * noise:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.REGRESSION
    return Check(name, verdict, f"{value:.3g}", wanted)


def holds(name: str, right: bool, found: str, wanted: str) -> Check:
    """Check a plain fact."""
    return Check(name, Verdict.PASS if right else Verdict.REGRESSION, found, wanted)


def not_worse(name: str, flips: Paired, tolerance: float, significance: float = 0.05) -> Check:
    """Check a task score against the reference's on the same items.

    It passes while the net loss is within `tolerance` (a share of the items). A larger loss is a regression if
    McNemar's test finds it significant, and inconclusive if chance alone can explain it.
    """
    loss = (len(flips.lost) - len(flips.won)) / flips.n
    found = f"lost {len(flips.lost)}, won {len(flips.won)} of {flips.n}, p = {flips.p_value:.3g}"
    wanted = f"a net loss of at most {tolerance:.1%}"
    if loss <= tolerance:
        return Check(name, Verdict.PASS, found, wanted)
    verdict = Verdict.REGRESSION if flips.p_value < significance else Verdict.INCONCLUSIVE
    return Check(name, verdict, found, wanted)
