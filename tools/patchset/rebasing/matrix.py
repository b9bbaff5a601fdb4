"""`matrix`: every patch of a series at every known release, each on top of the patches before it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from packaging.version import Version

from patchset.engine.replay import ReplayConflict, ReplayedStep, merger, replay_many
from patchset.model.component import Base
from patchset.model.series import Series
from patchset.rebasing.candidates import candidates
from patchset.sources.acquire import StoredBase, common_kind
from patchset.sources.releases import version_of
from patchset.store import merge as merging
from patchset.store.difference import Comparer, comparer
from patchset.workflow.steps import Stack, StoredReleases, stack_of, stored_releases
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import IntegrityError, SourceUnavailable, UsageError
from toolkit.files import replace_file

CellState = Literal["clean", "merged", "upstreamed", "conflict", "unknown", "outside"]
LEGEND: dict[CellState, str] = {
    "clean": "applies as it stands",  # upstream's files are the ones that the patch was written for
    "merged": "applies by a three-way merge",
    "upstreamed": "upstream has it",
    "conflict": "conflicts",
    "unknown": "not evaluated: an earlier patch conflicts",
    "outside": "its files are not in the archive",
}
# Part of the cache's key: to be raised when the cells change their meaning.
_SCHEMA = 2


@dataclass(frozen=True)
class Cell:
    """One patch at one release; `paths` are the files in conflict, or outside the archive.

    `intermediate_releases` are those along which it is merged, where it conflicts in a single merge.
    """

    state: CellState
    paths: tuple[str, ...] = ()
    intermediate_releases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One release; `problem` is the reason for which it has no cells: it cannot be had."""

    release: str
    cells: tuple[Cell, ...]
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """One patch; `breaks` and `upstreamed` are the first newer releases that conflict with it, and that have it."""

    patch: str
    breaks: str | None
    upstreamed: str | None


@dataclass(frozen=True)
class Matrix:
    """A series at releases, oldest first. `computed` cells took `seconds`; the others are from the cache.

    Cells that are unknown or outside take no merge, and are not counted.
    """

    component: str
    base: str
    source: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    computed: int
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return JSON values, without the times, which differ from run to run."""
        values = asdict(self)
        del values["computed"], values["seconds"]
        return values


@dataclass(frozen=True)
class ReleaseChoice:
    """The releases of a matrix: `known` those in the repository, `every` all listed from the oldest base on.

    Without either: those in the repository, the bases, and the listed ones that are newer than the series' base.
    `first` and `last` bound them.
    """

    known: bool = False
    every: bool = False
    first: str | None = None
    last: str | None = None


def matrix(workspace: Workspace, choice: ReleaseChoice) -> Matrix:
    """Compute the matrix of a series; cells that were computed before are read from the cache.

    Raises:
        UsageError: no release is chosen.
        PatchsetError: the series itself does not apply, see `compute`.
    """
    component, base = workspace.component, workspace.base
    with workspace.open() as (location, series):
        chosen = _choose(workspace, location, choice)
        if not chosen:
            return Matrix(component.name, base.name, "", (), _rows(series, base, ()), 0, 0.0)
        kind = common_kind(location.git, (base, *chosen), workspace.source)
        workspace = replace(workspace, source=kind, offline=choice.known)
        start = workspace.acquire()
        targets, problems = _acquire(workspace, chosen)
        stored = stored_releases(component, base, location.git, start.kind)
        files = {
            name: _file(location, series, start, target, stored.trees_towards(name)) for name, target in targets.items()
        }
        cells = {name: cached for name, file in files.items() if (cached := _load(file)) is not None}
        missing = {name: target for name, target in targets.items() if name not in cells}
        computed, seconds = _compute(location, series, start, missing, stored) if missing else ({}, 0.0)
        for name, column in computed.items():
            _save(files[name], column)
    cells |= computed
    columns = tuple(Column(item.name, cells.get(item.name, ()), problems.get(item.name, "")) for item in chosen)
    count = sum(cell.state not in ("unknown", "outside") for column in computed.values() for cell in column)
    return Matrix(component.name, base.name, start.kind, columns, _rows(series, base, columns), count, seconds)


def _choose(workspace: Workspace, location: Location, choice: ReleaseChoice) -> list[Base]:
    """Return the chosen releases, oldest first.

    Raises:
        UsageError: there is none, though any may be fetched.
    """
    component = workspace.component
    releases = candidates(workspace, location, offline=choice.known)
    stored = {item.name for item in releases.stored}
    local = stored | {item.name for item in component.bases if item.recorded}
    first, last = (Version(name) if name else None for name in (choice.first, choice.last))
    oldest = min((version for item in component.bases if (version := version_of(item.name))), default=releases.start)
    chosen = []
    for item in releases.known:
        version = Version(item.name)
        if choice.known:
            wanted = item.name in stored
        elif choice.every or first is not None:
            wanted = version >= (first or oldest)
        else:
            wanted = item.name in local or version > releases.start
        if wanted and (first is None or version >= first) and (last is None or version <= last):
            chosen.append(item)
    if not chosen and not choice.known:
        raise UsageError(f"no release of {component.name} is chosen", remedy="widen --from and --to")
    return chosen


def _acquire(workspace: Workspace, chosen: Sequence[Base]) -> tuple[dict[str, StoredBase], dict[str, str]]:
    """Bring releases into the repository; return them, and why the others cannot be had, both by name."""
    targets, problems = {}, {}
    for item in chosen:
        try:
            targets[item.name] = workspace.acquire(item)
        except (SourceUnavailable, IntegrityError) as error:
            problems[item.name] = "; ".join((error.message, *error.details))
    return targets, problems


def _compute(
    location: Location, series: Series, base: StoredBase, targets: dict[str, StoredBase], stored: StoredReleases
) -> tuple[dict[str, tuple[Cell, ...]], float]:
    """Return the cells of each release, and the seconds that they took."""
    stack = stack_of(location, series, base)
    names, trees = list(targets), [target.tree for target in targets.values()]
    start = time.perf_counter()
    with merging.scratch(location.git, location.private) as git, comparer(git) as compare:
        columns = replay_many(stack.steps, trees, merger(git), lambda at: stored.trees_towards(names[at]))
        cells = {
            name: tuple(_cells(stack, {item.step.name: _cell(item, compare) for item in results}))
            for name, results in zip(names, columns, strict=True)
        }
    return cells, time.perf_counter() - start


def _cells(stack: Stack, cells: dict[str, Cell]) -> Iterator[Cell]:
    """Yield the cells of all patches of a series; `cells` are those of the patches that were replayed."""
    for entry in stack.series.entries:
        name = entry.patch_name
        outside = Cell("outside", stack.outside[name]) if stack.is_outside(name) else Cell("unknown")
        yield cells.get(name, outside)


def _cell(item: ReplayedStep | ReplayConflict, compare: Comparer) -> Cell:
    if isinstance(item, ReplayConflict):
        return Cell("conflict", item.merged.paths)
    along = item.chain.releases if item.chain is not None else ()
    if item.after == item.before:
        return Cell("upstreamed", (), along)
    # The very blobs that the patch goes from, and to: its text applies as it stands.
    same = compare.compare(item.before, item.after) == compare.compare(item.step.before, item.step.after)
    return Cell("clean" if same else "merged", (), along)


def _rows(series: Series, base: Base, columns: Sequence[Column]) -> tuple[Row, ...]:
    newer = [column for column in columns if column.cells and Version(column.release) > Version(base.name)]

    def first(at: int, state: CellState) -> str | None:
        return next((column.release for column in newer if column.cells[at].state == state), None)

    names = [entry.patch_name for entry in series.entries]
    return tuple(Row(name, first(at, "conflict"), first(at, "upstreamed")) for at, name in enumerate(names))


def _file(
    location: Location, series: Series, base: StoredBase, target: StoredBase, between: Sequence[tuple[str, str]]
) -> Path:
    trees = (tree for _, tree in between)
    parts = (str(_SCHEMA), series.digest, base.commit, target.commit, *base.covers, *trees)
    return location.private / "matrix" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.json"


def _load(file: Path) -> tuple[Cell, ...] | None:
    try:
        return tuple(Cell(state, tuple(paths), tuple(along)) for state, paths, along in json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _save(file: Path, cells: tuple[Cell, ...]) -> None:
    replace_file(file, json.dumps([(cell.state, cell.paths, cell.intermediate_releases) for cell in cells]))
