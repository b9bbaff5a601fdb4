"""`upstream`: the upstream status of every patch, by its trailers, and its history."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from patchset.model.component import Base, Component
from patchset.model.patch import split
from patchset.model.series import status_of
from patchset.model.trailers import ReleaseRange, UpstreamStatus, release_range, status_in, value
from patchset.project.project import Project
from patchset.store.superproject import git_of
from patchset.store.text import records
from patchset.workflow.workspace import read_series

# Forwarded: upstream knows of it.
FORWARDED = frozenset({"Submitted", "Backport", "Denied"})


@dataclass(frozen=True)
class PatchStanding:
    """The upstream status of one patch.

    `forwarded` is True if upstream knows of it. `goes` is the reason to take it out of its series, or the release from
    which it is not needed ("" if no trailer names one); `can_go` is True if that holds for this base.
    """

    component: str
    base: str
    patch: str
    status: str
    reason: str
    forwarded: bool
    applies_to: str
    goes: str
    can_go: bool


@dataclass(frozen=True)
class TrendPoint:
    """The patches of a series by status at the end of a day (ISO 8601) on which the project's history changed them."""

    component: str
    base: str
    day: str
    statuses: dict[str, int]


@dataclass(frozen=True)
class UpstreamReport:
    """The standing of every patch, and its history if requested."""

    patches: tuple[PatchStanding, ...]
    trend: tuple[TrendPoint, ...]


def upstream(project: Project, selection: Sequence[tuple[Component, Base]], *, trend: bool) -> UpstreamReport:
    """Return the upstream status of the patches of some series; with `trend`, over the project's history too."""
    standings = []
    for component, base in selection:
        for patch in read_series(component, base).patches:
            status = status_of(patch) or UpstreamStatus("unknown", "")
            applies = value(patch.header, "Applies-To") or ""
            goes, can_go = _goes(status, _range(applies), base.name)
            standings.append(
                PatchStanding(
                    component.name,
                    base.name,
                    patch.name,
                    status.status,
                    status.reason,
                    status.status in FORWARDED,
                    applies,
                    goes,
                    can_go,
                )
            )
    points = [point for component, base in selection for point in _trend(project, component, base)] if trend else []
    return UpstreamReport(tuple(standings), tuple(points))


def _range(text: str) -> ReleaseRange | None:
    try:
        return release_range(text)
    except ValueError:
        return None


def _goes(status: UpstreamStatus, applies: ReleaseRange | None, base: str) -> tuple[str, bool]:
    """Return the reason to take a patch out of its series, and True if it holds for release `base`."""
    if status.status == "Backport":
        release = next((word for word in re.findall(r"v?\d+(?:\.\d+)+[\w.+]*", status.reason)), None)
        if release is None:
            return f"upstream has it: {status.reason}", False
        return f"upstream has it in {release}", _reached(base, release)
    if applies is not None and applies.end is not None:
        return f"not evaluated from {applies.end} on" if status.status != "Inappropriate" else "", False
    return "", False


def _reached(base: str, release: str) -> bool:
    try:
        return Version(base) >= Version(release)
    except InvalidVersion:
        return False


def _trend(project: Project, component: Component, base: Base) -> list[TrendPoint]:
    git = git_of(project.root)
    if git is None:
        return []
    folder = base.folder.relative_to(project.root).as_posix()
    code, out, _ = git.attempt("log", "--reverse", "--format=%H %cs", "--", folder)
    days: dict[str, str] = {}
    for line in out.decode().splitlines() if code == 0 else []:
        commit, day = line.split()
        days[day] = commit
    points: list[TrendPoint] = []
    for day, commit in days.items():
        names = records(git.run("ls-tree", "-z", "--name-only", f"{commit}:{folder}", allowed=(0, 128)))
        patches = (f"{commit}:{folder}/{name}" for name in names if name.endswith(".patch"))
        statuses = Counter(_status(git.contents(patch) or b"") for patch in patches)
        point = TrendPoint(component.name, base.name, day, dict(sorted(statuses.items())))
        if not points or points[-1].statuses != point.statuses:
            points.append(point)
    return points


def _status(data: bytes) -> str:
    status = status_in(split(data)[0].decode("utf-8", errors="replace"))
    return status.status if status else "unknown"
