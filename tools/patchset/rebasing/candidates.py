"""The releases of a component at which `matrix` and `bisect` can look at a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import Version

from patchset.model.component import Base
from patchset.sources import releases
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import UsageError


@dataclass(frozen=True)
class Candidates:
    """Releases, oldest first: `stored` in the repository; `known` these, the recorded and the listed ones.

    `start` is the version of the series' base.
    """

    start: Version
    stored: list[Base]
    known: list[Base]


def candidates(workspace: Workspace, location: Location, *, offline: bool) -> Candidates:
    """Return the releases of the workspace's component; `offline` takes the package index's remembered listing.

    Raises:
        UsageError: the series' base is not a release.
    """
    component, base, git = workspace.component, workspace.base, location.git
    start = releases.version_of(base.name)
    if start is None:
        name = base.name or component.name
        raise UsageError(f"{name} is not a release", remedy="name the series' folder after its release")
    model = releases.model_of(component, base)
    files: Mapping[str, str] = {}
    if model.index_project is not None:
        files = releases.list_files(model.index_project, location.private, workspace.reporter, offline=offline)
    return Candidates(start, releases.stored(component, model, git), releases.known(component, model, git, files))
