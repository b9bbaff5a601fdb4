"""Series and releases as the engine needs them: steps from tree to tree, and trees to replay them on."""

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

    def step(self, name: str) -> PatchStep:
        """Return the step of a patch."""
        return next(step for step in self.steps if step.name == name)

    def earlier(self, name: str) -> tuple[PatchStep, ...]:
        """Return the steps before that of a patch."""
        return self.steps[: self.steps.index(self.step(name))]

    def patch(self, name: str) -> Patch:
        """Return a patch of the series."""
        return self.series.patch(name)


def stack_of(location: Location, series: Series, base: StoredBase) -> Stack:
    """Compute a series on its base, without regard to the recorded patched tree, and return its steps.

    Raises:
        SeriesError, PatchConflict, IntegrityError: see `compute`.
    """
    patched = compute(location, series, base.unproven())
    tree = base.tree
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
class StoredReleases:
    """The releases in the repository from one kind of source, (base, tree), oldest first.

    `start` is the version of the series.
    """

    start: Version | None
    releases: tuple[tuple[Base, str], ...]

    def towards(self, release: str) -> list[tuple[Base, str]]:
        """Return those between the series' base and a release, the one nearest to the base first."""
        end = releases.version_of(release)
        if self.start is None or end is None:
            return []
        low, high = min(self.start, end), max(self.start, end)
        between = [(base, tree) for base, tree in self.releases if low < Version(base.name) < high]
        return between if self.start < end else between[::-1]

    def trees_towards(self, release: str) -> list[tuple[str, str]]:
        """Return the same as (name, tree): the intermediate releases that `engine.replay` merges along."""
        return [(base.name, tree) for base, tree in self.towards(release)]


def stored_releases(component: Component, base: Base, git: Git, kind: str) -> StoredReleases:
    """Return the releases that the repository has from one kind of source."""
    start = releases.version_of(base.name)
    if start is None:
        return StoredReleases(None, ())
    bases = releases.stored(component, releases.model_of(component, base), git)
    stored = ((item, present(git, item, kind)) for item in bases)
    return StoredReleases(start, tuple((item, at.tree) for item, at in stored if at is not None))
