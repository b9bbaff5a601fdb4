"""The scenarios and defects of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from patchset.errors import SeriesError, UsageError
from patchset.model.finding import Finding
from regression.model.scenario import Planted, Scenario, parse_defect, parse_scenario


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
    if findings:
        count = "one problem" if len(findings) == 1 else f"{len(findings)} problems"
        details = tuple(finding.render() for finding in findings)
        raise SeriesError(f"the scenarios have {count}", details=details, remedy="mend the lines shown")
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


def controlled(scenarios: Sequence[Scenario]) -> set[str]:
    """Return the patches that some scenario leaves out: its negative control."""
    left_out = {side.without for scenario in scenarios for side in scenario.sides}
    left_out |= {scenario.without_modelopt for scenario in scenarios}
    return {name for name in left_out if name is not None}
