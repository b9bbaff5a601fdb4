"""The scenarios and defects of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from regression.model.scenario import Planted, Scenario, parse_defect, parse_scenario
from toolkit.errors import SeriesError, UsageError
from toolkit.finding import Finding
from toolkit.tables import read_table


def read_folder(folder: Path, names: Sequence[str] = ()) -> tuple[tuple[Scenario, ...], tuple[Planted, ...]]:
    """Return the scenarios in `folder`, and the defects in `folder/defects`; of `names` only, where there are any.

    Raises:
        UsageError: there is no scenario, or none of a name.
        SeriesError: files break their format; every place is named.
    """
    findings: list[Finding] = []
    scenarios = [parse_scenario(file, findings) for file in sorted(folder.glob("*.toml"))]
    defects = [parse_defect(file, findings) for file in sorted((folder / "defects").glob("*.toml"))]
    known = {item.name: item for item in scenarios if item is not None}
    planted = {item.name: item for item in defects if item is not None}
    for item in planted.values():
        if item.scenario not in known and not findings:
            findings.append(Finding(item.file, f"there is no scenario {item.scenario!r}; known: {', '.join(known)}"))
    _refuse(findings)
    if not known:
        raise UsageError(f"{folder} holds no scenario", remedy="name a folder of .toml files with --scenarios")
    for name in names:
        if name not in known and name not in planted:
            near = get_close_matches(name, [*known, *planted], n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"there is no scenario {name!r}", remedy=f"{meant}known: {', '.join([*known, *planted])}")
    return (
        tuple(item for name, item in known.items() if not names or name in names),
        tuple(item for name, item in planted.items() if not names or name in names),
    )


def read_controls(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the negative controls of a folder: by patch, the scenarios that leave it out, and why there is none.

    The reasons stand in `folder/uncontrolled/PATCH.toml`.

    Raises:
        SeriesError: a file breaks its format.
    """
    scenarios, _ = read_folder(folder)
    controls: dict[str, list[str]] = {}
    for scenario in scenarios:
        left_out = {side.without for side in scenario.sides} | {scenario.without_modelopt}
        for name in sorted(name for name in left_out if name is not None):
            controls.setdefault(name, []).append(scenario.name)
    findings: list[Finding] = []
    reasons: dict[str, str] = {}
    for file in sorted((folder / "uncontrolled").glob("*.toml")):
        table = read_table(file, findings)
        if table is not None:
            reasons[file.stem] = table.text("reason") or ""
            table.finish()
            if file.stem in controls:
                findings.append(Finding(file, f"says why there is no control, but {controls[file.stem][0]} is one"))
    _refuse(findings)
    return controls, reasons


def _refuse(findings: list[Finding]) -> None:
    if findings:
        count = "one problem" if len(findings) == 1 else f"{len(findings)} problems"
        details = tuple(finding.render() for finding in findings)
        raise SeriesError(f"the scenarios have {count}", details=details, remedy="mend the lines shown")
