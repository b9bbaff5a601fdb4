"""The differences between two reports, with those first that explain the rest."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from regression.figures import metrics
from regression.figures.verdict import Verdict
from regression.values.result import ReportJson

# A metric's distance from its ideal that changed by less than this factor, or stays below the floor, is the same.
FACTOR = 2.0
FLOOR = 1e-9
_ORDER = [Verdict.PASS, Verdict.NOT_RUN, Verdict.INCONCLUSIVE, Verdict.REGRESSION]


@dataclass(frozen=True)
class Difference:
    """`lines` are for a reader; `worse` names the scenarios whose verdict got worse."""

    lines: list[str]
    worse: list[str]


def compare(old: ReportJson, new: ReportJson) -> Difference:
    """Return the differences: of the identities, then of verdicts, checks, figures and times."""
    lines = _identity(old["identity"], new["identity"])
    worse = []
    before, after = ({item["name"]: item for item in report["scenarios"]} for report in (old, new))
    lines += [f"{name}: is gone" for name in before if name not in after]
    lines += [f"{name}: is new, {item['verdict']}" for name, item in after.items() if name not in before]
    same_machine = old["identity"]["hardware"] == new["identity"]["hardware"]
    for was, item in _matching(old["scenarios"], new["scenarios"], "name"):
        name = item["name"]
        if was["verdict"] != item["verdict"]:
            lines.append(f"{name}: {was['verdict']} became {item['verdict']}" + _why(was, item))
            # What passed and now is not run may hide anything.
            if _ORDER.index(item["verdict"]) > _ORDER.index(was["verdict"]):
                worse.append(name)
        lines += [f"{name}: {line}" for line in _checks(was, item) + _figures(was, item)]
        if same_machine:
            lines += [f"{name}: {line}" for line in _times(was, item)]
    return Difference(lines, worse)


def _matching(
    old: list[dict[str, Any]], new: list[dict[str, Any]], *keys: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the entries of two lists that have the same values of `keys`."""
    before = {tuple(entry[key] for key in keys): entry for entry in old}
    for entry in new:
        if (was := before.get(tuple(entry[key] for key in keys))) is not None:
            yield was, entry


def _identity(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    lines = []
    for title in sorted({*old["series"], *new["series"]}):
        was, now = old["series"].get(title), new["series"].get(title)
        if was is None or now is None:
            lines.append(f"series {title} is {'new' if was is None else 'gone'}")
        elif was["sha256"] != now["sha256"]:
            gone = [name for name in was["patches"] if name not in now["patches"]]
            come = [name for name in now["patches"] if name not in was["patches"]]
            changes = [f"without {name}" for name in gone] + [f"with {name}" for name in come]
            lines.append(f"series {title} differs: {', '.join(changes) or 'the same patches, changed'}")
    for name in ("quantize", "serve"):
        changes = _changes(old["environments"][name], new["environments"][name])
        lines += [f"to {name}: {change}" for change in changes]
    if old["model"]["sha256"] != new["model"]["sha256"]:
        lines.append("the model is another one: task scores and distances are not of the same thing")
    if changes := _changes(old["hardware"], new["hardware"]):
        lines.append(f"the machine is another one, times are not compared: {'; '.join(changes)}")
    return lines


def _changes(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{key} {was.get(key, 'none')} became {now.get(key, 'none')}"
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key)
    ]


def _why(was: dict[str, Any], item: dict[str, Any]) -> str:
    before = {check["name"]: check["verdict"] for check in was["checks"]}
    turned = [f"{one['name']}: {one['actual']}" for one in item["checks"] if before.get(one["name"]) != one["verdict"]]
    return f" ({'; '.join(turned[:3])})" if turned else ""


def _checks(was: dict[str, Any], item: dict[str, Any]) -> list[str]:
    if was["verdict"] != item["verdict"]:
        return []
    return [
        f"{check['name']}: {old['verdict']} became {check['verdict']} ({check['actual']})"
        for old, check in _matching(was["checks"], item["checks"], "name")
        if old["verdict"] != check["verdict"]
    ]


def _figures(was: dict[str, Any], item: dict[str, Any]) -> list[str]:
    lines = []
    for old, one in _matching(was["fidelity"], item["fidelity"], "side", "reference"):
        for metric in metrics.METRICS:
            was_value, value = old.get(metric.key), one.get(metric.key)
            if not metric.change or was_value is None or value is None:
                continue
            low, high = sorted(max(metric.distance(number), FLOOR) for number in (was_value, value))
            if high > FACTOR * low:
                change = f"{metric.change} {was_value:.3g} became {value:.3g} {metric.unit}".rstrip()
                lines.append(f"{one['side']} against {one['reference']}: {change}")
    for score, one in _matching(was["tasks"], item["tasks"], "side"):
        if (score["right"], score["n"]) != (one["right"], one["n"]):
            inside = score["low"] <= one["right"] / one["n"] <= score["high"]
            lines.append(
                f"{one['side']}: {score['right']} of {score['n']} right became {one['right']} of {one['n']}, "
                f"{'inside' if inside else 'outside'} the old 95 % interval"
            )
    return lines


def _times(was: dict[str, Any], item: dict[str, Any]) -> list[str]:
    """Return a line for each time whose ranges do not even touch."""
    lines = []
    for before, side in _matching(was["sides"], item["sides"], "side"):
        for key, values in side["timings"].items():
            old = before["timings"].get(key)
            if not old or (min(old) <= max(values) and min(values) <= max(old)):
                continue
            ratio = statistics.median(values) / statistics.median(old)
            lines.append(f"{side['side']}: {key} is {ratio:.2f} times the old median, and the ranges do not touch")
    return lines
