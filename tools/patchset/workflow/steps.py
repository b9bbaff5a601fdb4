"""Series and releases as the engine wants them: steps from tree to tree, and trees to take them to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import Version

from patchset.engine.rebase import Step
from patchset.model.component import Base, Component
from patchset.model.series import Series
from patchset.sources import releases
from patchset.sources.acquire import Acquired, Mode, acquire, present
from patchset.store.git import Git
from patchset.workflow.compute import Computed, compute
from patchset.worktree.location import Location
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter


@dataclass(frozen=True)
class Stack:
    """A series as steps; `outside` are its patches that the source has no files of, `source` where its base is from."""

    series: Series
    source: Acquired
    made: Computed
    steps: tuple[Step, ...]
    outside: dict[str, tuple[str, ...]]


def stack_of(location: Location, series: Series, source: Acquired) -> Stack:
    """Compute a series on its base and return its steps.

    Raises:
        SeriesError, PatchConflict, IntegrityError: see `compute`.
    """
    made = compute(location, series, source)
    tree = location.git.tree_of(source.commit) or ""
    steps, outside = [], {}
    for patch in made.patches:
        if patch.outside:
            outside[patch.name] = patch.outside
        if patch.commit is not None:
            after = location.git.tree_of(patch.commit) or ""
            steps.append(Step(patch.name, tree, after))
            tree = after
    return Stack(series, source, made, tuple(steps), outside)


def acquire_alike(
    root: Path,
    component: Component,
    bases: tuple[Base, ...],
    git: Git,
    mode: Mode,
    reporter: Reporter,
    *,
    offline: bool = False,
) -> tuple[Acquired, ...]:
    """Bring several bases into the store, all from the same kind of source: an archive is not all of a commit's tree.

    `auto` takes commits where all have one that is here or can be fetched, else the archives.

    Raises:
        SourceUnavailable: there is no kind of which all can be had.
    """
    refused: list[str] = []
    kinds: tuple[Mode, ...] = ("submodule", "archive") if mode == "auto" else (mode,)
    for kind in kinds:
        missing = [base.name for base in bases if not (base.commit if kind == "submodule" else base.archive)]
        if missing:
            refused.append(f"no {'commit' if kind == 'submodule' else 'archive'} is known of {', '.join(missing)}")
            continue
        here = [present(git, base, kind) for base in bases]
        if all(here):
            return tuple(replace(item, why=refused[0] if refused else item.why) for item in here if item is not None)
        try:
            found = [acquire(root, component, base, git, kind, reporter, offline=offline) for base in bases]
            return tuple(replace(item, why=refused[0]) if refused else item for item in found)
        except SourceUnavailable as error:
            refused += [error.message, *error.details]
            if kind == "submodule" and len(kinds) > 1:
                reporter.note(
                    f"{component.name}: {error.details[0] if error.details else error.message}; archives then"
                )
    names = " and ".join(base.name for base in bases)
    raise SourceUnavailable(
        f"{component.name} {names} cannot be had from one kind of source",
        details=tuple(refused),
        remedy="check the network, or name another --source",
    )


@dataclass(frozen=True)
class Stones:
    """The releases in the repository, as trees that a series can be taken along; oldest first."""

    start: Version | None
    found: tuple[tuple[Version, str, str], ...]

    def towards(self, release: str) -> list[tuple[str, str]]:
        """Return those between the series' base and a release, (name, tree), the one nearest to the base first."""
        end = releases.version_of(release)
        if self.start is None or end is None:
            return []
        low, high = min(self.start, end), max(self.start, end)
        between = [(name, tree) for version, name, tree in self.found if low < version < high]
        return between if self.start < end else between[::-1]


def stones_here(component: Component, base: Base, git: Git, kind: str) -> Stones:
    """Return the releases that are here from one kind of source."""
    start, model = releases.version_of(base.name), releases.model_of(component, base)
    if start is None or model is None:
        return Stones(None, ())
    mode: Mode = "archive" if kind == "archive" else "submodule"
    found = []
    for item in releases.here(component, model, git):
        version, source = releases.version_of(item.name), present(git, item, mode)
        if version is not None and source is not None:
            found.append((version, item.name, git.tree_of(source.commit) or ""))
    return Stones(start, tuple(found))


def unproved(source: Acquired) -> Acquired:
    """Return a base whose patched tree is what is to be found out."""
    return replace(source, patched_tree=None)
