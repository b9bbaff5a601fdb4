"""Series and releases as the engine wants them: steps from tree to tree, and trees to replay them on."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

from patchset.engine.replay import PatchStep
from patchset.model.component import Base, Component
from patchset.model.patch import Patch
from patchset.model.series import Series
from patchset.sources import releases
from patchset.sources.acquire import StoredBase, present
from patchset.store.git import Git
from patchset.workflow.compute import PatchedTree, compute
from patchset.worktree.location import Location


@dataclass(frozen=True)
class Stack:
    """A series as steps on its base; `outside` are the paths, by patch, that the base's source does not cover."""

    series: Series
    base: StoredBase
    patched: PatchedTree
    steps: tuple[PatchStep, ...]
    outside: dict[str, tuple[str, ...]]

    def is_outside(self, name: str) -> bool:
        """Return True for a patch of which the source covers no file at all."""
        return name in self.outside and all(step.name != name for step in self.steps)

    def earlier(self, name: str) -> tuple[PatchStep, ...]:
        """Return the steps before that of a patch."""
        names = [step.name for step in self.steps]
        return self.steps[: names.index(name)]

    def patch(self, name: str) -> Patch:
        return self.series.patch(name)


def stack_of(location: Location, series: Series, base: StoredBase) -> Stack:
    """Compute a series on its base, whatever tree is recorded, and return its steps.

    Raises:
        SeriesError, PatchConflict, IntegrityError: see `compute`.
    """
    patched = compute(location, series, base.unproven())
    tree = location.git.tree_of(base.commit) or ""
    steps, outside = [], {}
    for patch in patched.patches:
        if patch.outside:
            outside[patch.name] = patch.outside
        if patch.commit is not None:
            after = location.git.tree_of(patch.commit) or ""
            steps.append(PatchStep(patch.name, tree, after))
            tree = after
    return Stack(series, base, patched, tuple(steps), outside)


@dataclass(frozen=True)
class StoredRelease:
    """A release whose tree is in the repository."""

    version: Version
    base: Base
    tree: str


@dataclass(frozen=True)
class StoredReleases:
    """The releases in the repository from one kind of source, oldest first; `start` is that of the series."""

    start: Version | None
    releases: tuple[StoredRelease, ...]

    def towards(self, release: str) -> list[StoredRelease]:
        """Return those between the series' base and a release, the one nearest to the base first."""
        end = releases.version_of(release)
        if self.start is None or end is None:
            return []
        low, high = min(self.start, end), max(self.start, end)
        between = [item for item in self.releases if low < item.version < high]
        return between if self.start < end else between[::-1]

    def trees_towards(self, release: str) -> list[tuple[str, str]]:
        """Return the same as (name, tree): the intermediate releases that `engine.replay` merges along."""
        return [(item.base.name, item.tree) for item in self.towards(release)]


def stored_releases(component: Component, base: Base, git: Git, kind: str) -> StoredReleases:
    """Return the releases that the repository has from one kind of source."""
    start, model = releases.version_of(base.name), releases.model_of(component, base)
    if start is None or model is None:
        return StoredReleases(None, ())
    stored_trees = []
    for item in releases.stored(component, model, git):
        version, stored = releases.version_of(item.name), present(git, item, kind)
        if version is not None and stored is not None:
            stored_trees.append(StoredRelease(version, item, git.tree_of(stored.commit) or ""))
    return StoredReleases(start, tuple(stored_trees))
