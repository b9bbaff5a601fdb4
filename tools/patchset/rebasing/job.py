"""A rebase as a value: the series, the new base, and how bases are brought here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from patchset.model.component import Base
from patchset.model.series import Series
from patchset.rebasing.conflicts import ConflictTree, conflict_tree
from patchset.rebasing.resolutions import Resolutions
from patchset.workflow.steps import StoredRelease, stored_releases
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location


@dataclass(frozen=True)
class RebaseJob:
    """A series that is replayed on another base; `skips` are the patches that are left out, with the reasons."""

    workspace: Workspace
    location: Location
    series: Series
    base: Base
    skips: Mapping[str, str] = field(default_factory=dict)

    @property
    def private(self) -> Path:
        """Where an unfinished rebase is kept."""
        return self.location.private / "rebase"

    @property
    def conflict_tree(self) -> ConflictTree:
        return conflict_tree(self.workspace.root, self.location)

    @property
    def resolutions(self) -> Resolutions:
        return Resolutions(self.location.private / "resolutions")

    def intermediate(self, kind: str) -> list[StoredRelease]:
        """Return the releases in the repository between the two bases, the one nearest to the old base first."""
        releases = stored_releases(self.workspace.component, self.series.base, self.location.git, kind)
        return releases.towards(self.base.name)
