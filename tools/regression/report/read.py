"""Reading a report.json of this version, or of an earlier one, which is upgraded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regression.values.result import SCHEMA, ReportJson
from toolkit.errors import UsageError

# Schema 2 -> 3: keys of checks and of flipped items, and names of scenarios and checks.
_CHECK = {"found": "actual", "wanted": "expected"}
_ITEM = {"ask": "question", "said": "answer", "picture": "image"}
_SCENARIOS = {"sleeping-channel": "dead-channel", "control-sleeping-channel": "control-dead-channel"}
_CHECKS = {"export: no channel slept": "export: no dead channel"}


def read_report(file: Path) -> ReportJson:
    """Return a report in the present schema.

    Raises:
        UsageError: the file is no report, or of another schema that this version cannot upgrade.
    """
    remedy = "name a report.json that `regression run` wrote"
    try:
        report: ReportJson = json.loads(file.read_text("utf-8"))
        schema = report["schema"]
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", remedy=remedy) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{file} is no report", remedy=remedy) from None
    if schema == 2:
        return _upgrade(report)
    if schema != SCHEMA:
        raise UsageError(f"{file} has schema {schema}, this tool reads {SCHEMA} and 2", remedy="write it anew")
    return report


def _upgrade(report: ReportJson) -> ReportJson:
    """Return a report of schema 2 in schema 3: the same figures under other names."""
    report = {**report, "schema": 3}
    report["processes"] = report.pop("spent")
    report["scenarios"] = [_scenario(item) for item in report["scenarios"]]
    for series in report["identity"]["series"].values():
        for control in series["controls"].values():
            control["scenarios"] = [_SCENARIOS.get(name, name) for name in control["scenarios"]]
    card = report["identity"]["model"]["card"]
    if card is not None:
        card["right"] = {key.replace("pictures", "images"): share for key, share in card["right"].items()}
    return report


def _scenario(item: dict[str, Any]) -> dict[str, Any]:
    def renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
        return {names.get(key, key): value for key, value in values.items()}

    checks = [renamed(check, _CHECK) for check in item["checks"]]
    for check in checks:
        name = check["name"].replace(": a picture, streamed", ": an image, streamed")
        check["name"] = _CHECKS.get(name, name)
    tasks = [
        {**task, **{kind: [renamed(flipped, _ITEM) for flipped in task[kind]] for kind in ("lost", "won")}}
        for task in item["tasks"]
    ]
    return {**item, "name": _SCENARIOS.get(item["name"], item["name"]), "checks": checks, "tasks": tasks}
