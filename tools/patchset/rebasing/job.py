"""A rebase as a value: the workspace at the old base, the new base, and the patches to skip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from patchset.engine.replay import Releases
from patchset.model.component import Base
from patchset.model.series import Series
from patchset.rebasing.conflicts import ConflictTree, conflict_tree
from patchset.rebasing.resolutions import Resolutions
from patchset.sources.acquire import present
from patchset.workflow.steps import StoredReleases, stored_releases
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location


@dataclass(frozen=True)
class RebaseJob:
    """The series of a workspace that is replayed on `base`; `skips` are the patches to leave out, with the reasons."""

    workspace: Workspace
    location: Location
    base: Base
    skips: Mapping[str, str] = field(default_factory=dict)

    @property
    def series(self) -> Series:
        return self.workspace.series

    @property
    def private(self) -> Path:
        """The folder in which an unfinished rebase is kept."""
        return self.location.private / "rebase"

    @property
    def conflict_tree(self) -> ConflictTree:
        return conflict_tree(self.workspace.root, self.location)

    @property
    def resolutions(self) -> Resolutions:
        return Resolutions(self.location.private / "resolutions")

    def intermediate_releases(self, kind: str) -> Releases:
        """Return the stored releases between the two bases, the one nearest to the old base first."""
        return self._stored(kind).trees_towards(self.base.name)

    def stored_releases(self, kind: str) -> list[tuple[Base, str]]:
        """Return the stored releases after the old base, up to the new one, with their trees."""
        new = present(self.location.git, self.base, kind)
        return [*self._stored(kind).towards(self.base.name), *([(self.base, new.tree)] if new else [])]

    def _stored(self, kind: str) -> StoredReleases:
        return stored_releases(self.workspace.component, self.workspace.base, self.location.git, kind)
