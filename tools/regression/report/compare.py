"""What differs between two reports, and what of it explains the rest."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regression.figures.verdict import Verdict
from regression.model.result import SCHEMA
from toolkit.errors import UsageError

Report = dict[str, Any]

# A distance that grew by less than this factor, or stays below this many nats, is said to be the same.
FACTOR = 2.0
FLOOR = 1e-9
_ORDER = [Verdict.PASS.value, Verdict.NOT_RUN.value, Verdict.INCONCLUSIVE.value, Verdict.REGRESSION.value]


@dataclass(frozen=True)
class Difference:
    """`lines` tell it to a reader; `worse` names the scenarios whose verdict got worse."""

    lines: list[str]
    worse: list[str]


def read_report(file: Path) -> Report:
    """Return a report.

    Raises:
        UsageError: the file is no report, or of another schema.
    """
    try:
        found = json.loads(file.read_text("utf-8"))
        schema = found["schema"]
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", remedy="name a report.json that `regression run` wrote") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{file} is no report", remedy="name a report.json that `regression run` wrote") from None
    if schema != SCHEMA:
        raise UsageError(f"{file} has schema {schema}, this tool reads {SCHEMA}", remedy="make it anew")
    report: Report = found
    return report


def compare(old: Report, new: Report) -> Difference:
    """Return what differs: first what ran, then verdicts, checks, figures and times."""
    lines = _identity(old["identity"], new["identity"])
    worse = []
    before = {item["name"]: item for item in old["scenarios"]}
    after = {item["name"]: item for item in new["scenarios"]}
    lines += [f"{name}: is gone" for name in before if name not in after]
    lines += [f"{name}: is new, {item['verdict']}" for name, item in after.items() if name not in before]
    same_machine = old["identity"]["hardware"] == new["identity"]["hardware"]
    for name, item in after.items():
        if name not in before:
            continue
        was = before[name]
        if was["verdict"] != item["verdict"]:
            lines.append(f"{name}: {was['verdict']} became {item['verdict']}" + _why(was, item))
            # What passed and now is not run may hide anything.
            if _ORDER.index(item["verdict"]) > _ORDER.index(was["verdict"]):
                worse.append(name)
        lines += [f"{name}: {line}" for line in _checks(was, item) + _figures(was, item)]
        if same_machine:
            lines += [f"{name}: {line}" for line in _times(was, item)]
    return Difference(lines, worse)


def _identity(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    lines = []
    for title in sorted({*old["series"], *new["series"]}):
        was, now = old["series"].get(title), new["series"].get(title)
        if was is None or now is None:
            lines.append(f"series {title} is {'new' if was is None else 'gone'}")
        elif was["sha256"] != now["sha256"]:
            gone = [name for name in was["patches"] if name not in now["patches"]]
            come = [name for name in now["patches"] if name not in was["patches"]]
            told = [f"without {name}" for name in gone] + [f"with {name}" for name in come]
            lines.append(f"series {title} differs: {', '.join(told) or 'the same patches, changed'}")
    for name in ("quantize", "serve"):
        was, now = old["environments"][name], new["environments"][name]
        lines += [
            f"to {name}: {key} {was.get(key, 'none')} became {now.get(key, 'none')}"
            for key in sorted({*was, *now})
            if was.get(key) != now.get(key)
        ]
    if old["model"]["sha256"] != new["model"]["sha256"]:
        lines.append("the model is another one: task scores and distances are not of the same thing")
    if old["hardware"] != new["hardware"]:
        told = [f"{key} {old['hardware'][key]} became {new['hardware'][key]}" for key in sorted(old["hardware"])
                if old["hardware"][key] != new["hardware"].get(key)]  # fmt: skip
        lines.append(f"the machine is another one, times are not compared: {'; '.join(told)}")
    return lines


def _why(was: dict[str, Any], item: dict[str, Any]) -> str:
    before = {check["name"]: check["verdict"] for check in was["checks"]}
    turned = [f"{one['name']}: {one['found']}" for one in item["checks"] if before.get(one["name"]) != one["verdict"]]
    return f" ({'; '.join(turned[:3])})" if turned else ""


def _checks(was: dict[str, Any], item: dict[str, Any]) -> list[str]:
    if was["verdict"] != item["verdict"]:
        return []
    before = {check["name"]: check for check in was["checks"]}
    return [
        f"{check['name']}: {before[check['name']]['verdict']} became {check['verdict']} ({check['found']})"
        for check in item["checks"]
        if check["name"] in before and before[check["name"]]["verdict"] != check["verdict"]
    ]


def _figures(was: dict[str, Any], item: dict[str, Any]) -> list[str]:
    lines = []
    before = {(one["side"], one["reference"]): one for one in was["fidelity"]}
    for one in item["fidelity"]:
        old = before.get((one["side"], one["reference"]))
        if old is None:
            continue
        low, high = sorted((max(old["kl_max"], FLOOR), max(one["kl_max"], FLOOR)))
        if high > FACTOR * low:
            change = f"{old['kl_max']:.3g} became {one['kl_max']:.3g} nats"
            lines.append(f"{one['side']} against {one['reference']}: largest divergence {change}")
    scores = {one["side"]: one for one in was["tasks"]}
    for one in item["tasks"]:
        score = scores.get(one["side"])
        if score is not None and (score["right"], score["n"]) != (one["right"], one["n"]):
            inside = score["low"] <= one["right"] / one["n"] <= score["high"]
            told = "inside" if inside else "outside"
            lines.append(
                f"{one['side']}: {score['right']} of {score['n']} right became {one['right']} of {one['n']}, "
                f"{told} the old 95 % interval"
            )
    return lines


def _times(was: dict[str, Any], item: dict[str, Any]) -> list[str]:
    """Times whose ranges do not even touch."""
    lines = []
    before = {side["side"]: side["timings"] for side in was["sides"]}
    for side in item["sides"]:
        for key, values in side["timings"].items():
            old = before.get(side["side"], {}).get(key)
            if not old or (min(old) <= max(values) and min(values) <= max(old)):
                continue
            ratio = statistics.median(values) / statistics.median(old)
            lines.append(f"{side['side']}: {key} is {ratio:.2f} times the old median, and the ranges do not touch")
    return lines
