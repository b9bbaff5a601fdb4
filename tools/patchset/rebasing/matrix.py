"""`matrix`: every patch of a series against every known release, in order and cumulative."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from packaging.version import Version

from patchset.engine.rebase import Replayed, Stopped, replay_many
from patchset.model.component import Base, Component
from patchset.model.project import Project
from patchset.model.series import Series
from patchset.rebasing.bisect import common_mode
from patchset.sources import releases
from patchset.sources.acquire import Acquired, Mode, acquire
from patchset.store import merge as merging
from patchset.store.difference import Comparer, comparer
from patchset.store.git import require
from patchset.workflow.apply import read_series
from patchset.workflow.steps import Stones, stack_of, stones_here, unproved
from patchset.worktree import lock
from patchset.worktree.location import Location, locate
from toolkit.errors import IntegrityError, SourceUnavailable, UsageError
from toolkit.finding import refuse
from toolkit.progress import Reporter

# clean: upstream's files are just those that the patch was made for; merged: they are not, and it fits all the same;
# unknown: an earlier patch of the series conflicts, so that nothing can be said.
State = Literal["clean", "merged", "upstreamed", "conflict", "unknown", "outside"]
# Part of the cache's key: another meaning of the cells makes old ones useless.
_SCHEMA = 2


@dataclass(frozen=True)
class Cell:
    """What one patch meets at one release; `paths` are the files in conflict, or outside the archive.

    `by_way_of` are the releases in between along which it is merged, where it conflicts in one merge.
    """

    state: State
    paths: tuple[str, ...] = ()
    by_way_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One release; `problem` tells why it could not be looked at, and then there are no cells."""

    release: str
    cells: tuple[Cell, ...]
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """One patch; `breaks` and `upstreamed` are the first newer releases that it conflicts with, or that have it."""

    patch: str
    breaks: str | None
    upstreamed: str | None


@dataclass(frozen=True)
class Matrix:
    """A series against releases, oldest first. `computed` cells took `seconds`; the others were known already.

    The seconds are those of the cells alone; nothing was merged for cells that are unknown or outside.
    """

    component: str
    base: str
    source: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    computed: int
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return it as JSON values; without the times, which differ from run to run."""
        values = asdict(self)
        del values["computed"], values["seconds"]
        return values


@dataclass(frozen=True)
class Choice:
    """Which releases: `known` those in the repository, `every` all listed from the oldest base on; else those in
    the repository, the bases, and what is listed that is newer than the series' base. `first` and `last` bound them.
    """

    known: bool = False
    every: bool = False
    first: str | None = None
    last: str | None = None


def matrix(
    project: Project, component: Component, base: Base, choice: Choice, mode: Mode, reporter: Reporter
) -> Matrix:
    """Compute the matrix of a series; cells that were computed before are read from the cache.

    Raises:
        UsageError: there is no release to look at.
        PatchsetError: the series itself does not apply, see `compute`.
    """
    require()
    series = read_series(component, base)
    refuse(series.findings, series.title)
    location = locate(project.root, component)
    with lock.hold(location.lock_file, component.name):
        merging.clear(location.private)
        chosen = choose(component, base, location, choice, reporter)
        if not chosen:
            return Matrix(component.name, base.name, "", (), _rows(series, base, ()), 0, 0.0)
        mode = common_mode(location.git, base, chosen, mode)
        source = acquire(project.root, component, base, location.git, mode, reporter, offline=choice.known)
        columns: dict[str, Column] = {}
        trees: dict[str, Acquired] = {}
        for item in chosen:
            try:
                trees[item.name] = acquire(
                    project.root, component, item, location.git, mode, reporter, offline=choice.known
                )
            except (SourceUnavailable, IntegrityError) as error:
                columns[item.name] = Column(item.name, (), "; ".join((error.message, *error.details)))
        stones = stones_here(component, base, location.git, source.kind)
        files = {name: _file(location, series, source, found, stones.towards(name)) for name, found in trees.items()}
        known = {name: _load(file) for name, file in files.items()}
        missing = {name: found for name, found in trees.items() if known[name] is None}
        made, seconds = _compute(location, series, source, missing, stones) if missing else ({}, 0.0)
        for name, file in files.items():
            cells = known[name] or made[name]
            columns[name] = Column(name, cells)
            if name in missing:
                _save(file, cells)
    ordered = tuple(columns[item.name] for item in chosen)
    rows = _rows(series, base, ordered)
    computed = sum(cell.state not in ("unknown", "outside") for cells in made.values() for cell in cells)
    return Matrix(component.name, base.name, source.kind, ordered, rows, computed, seconds)


def choose(component: Component, base: Base, location: Location, choice: Choice, reporter: Reporter) -> list[Base]:
    """Return the releases that a choice means, oldest first.

    Raises:
        UsageError: it means none, though any may be fetched.
    """
    model = releases.model_of(component, base)
    start = releases.version_of(base.name)
    if model is None or start is None:
        raise UsageError(f"{base.name or component.name} is no release", remedy="give the series' folder its name")
    here = releases.here(component, model, location.git)
    names = {item.name for item in here} | {item.name for item in component.bases if item.recorded}
    project = model.archive.project if model.archive else None
    listing = releases.list_files(project, location.private, reporter, offline=choice.known) if project else None
    every = releases.known(component, model, location.git, listing.files if listing else {})
    oldest = min((version for item in component.bases if (version := releases.version_of(item.name))), default=start)
    first = Version(choice.first) if choice.first else None
    last = Version(choice.last) if choice.last else None
    found = []
    for item in every:
        version = Version(item.name)
        if choice.known:
            wanted = any(item.name == other.name for other in here)
        elif choice.every or first is not None:
            wanted = version >= (first or oldest)
        else:
            wanted = item.name in names or version > start
        if wanted and (first is None or version >= first) and (last is None or version <= last):
            found.append(item)
    if not found and not choice.known:
        raise UsageError(f"no release of {component.name} is meant", remedy="widen --from and --to")
    return found


def _compute(
    location: Location, series: Series, source: Acquired, targets: dict[str, Acquired], stones: Stones
) -> tuple[dict[str, tuple[Cell, ...]], float]:
    """Return the cells of each release, and the seconds that they took."""
    stack = stack_of(location, series, unproved(source))
    trees = [location.git.tree_of(found.commit) or "" for found in targets.values()]
    start = time.perf_counter()
    with merging.scratch(location.git, location.private) as git, comparer(git) as compare:
        names = list(targets)
        done = replay_many(stack.steps, trees, partial(merging.merge, git), lambda at: stones.towards(names[at]))
        made = {}
        for name, results in zip(targets, done, strict=True):
            cells = {item.step.name: _cell(item, compare) for item in results}
            made[name] = tuple(_named(entry.patch_name, cells, stack.outside, stack.steps) for entry in series.entries)
    return made, time.perf_counter() - start


def _named(name: str, cells: dict[str, Cell], outside: dict[str, tuple[str, ...]], steps: Sequence[object]) -> Cell:
    if name in cells:
        return cells[name]
    if name in outside and all(getattr(step, "name", "") != name for step in steps):
        return Cell("outside", outside[name])
    return Cell("unknown")


def _cell(item: Replayed | Stopped, compare: Comparer) -> Cell:
    if isinstance(item, Stopped):
        return Cell("conflict", item.merged.paths)
    way = item.way.stones if item.way is not None else ()
    if item.after == item.before:
        return Cell("upstreamed", by_way_of=way)
    # The very blobs that the patch goes from, and to: its text applies as it stands.
    same = compare.compare(item.before, item.after) == compare.compare(item.step.before, item.step.after)
    return Cell("clean" if same else "merged", by_way_of=way)


def _rows(series: Series, base: Base, columns: tuple[Column, ...]) -> tuple[Row, ...]:
    return tuple(_row(at, entry.patch_name, base, columns) for at, entry in enumerate(series.entries))


def _row(at: int, name: str, base: Base, columns: Sequence[Column]) -> Row:
    start = Version(base.name)
    newer = [column for column in columns if column.cells and Version(column.release) > start]

    def first(state: State) -> str | None:
        return next((column.release for column in newer if column.cells[at].state == state), None)

    return Row(name, first("conflict"), first("upstreamed"))


def _file(
    location: Location, series: Series, source: Acquired, target: Acquired, stones: Sequence[tuple[str, str]]
) -> Path:
    way = (tree for _, tree in stones)
    parts = (str(_SCHEMA), series.digest, source.commit, target.commit, *source.covers, *way)
    return location.private / "matrix" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.json"


def _load(file: Path) -> tuple[Cell, ...] | None:
    try:
        return tuple(Cell(state, tuple(paths), tuple(way)) for state, paths, way in json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _save(file: Path, cells: tuple[Cell, ...]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps([(cell.state, cell.paths, cell.by_way_of) for cell in cells]))
    os.replace(temporary, file)
