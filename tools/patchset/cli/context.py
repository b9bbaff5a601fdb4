"""The context of every command of `patchset`: the project, and the workspaces that arguments name.

It is imported with `patchset` itself: what reads a project is imported later, so that `completion` starts fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.console import Terminal
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from patchset.project.project import Project
    from patchset.workflow.workspace import Workspace


@dataclass
class Context:
    """The root given on the command line, or None to look for it from the current folder upwards."""

    root: Path | None

    def find_root(self) -> Path:
        from patchset.project.project import find_root

        return self.root.resolve() if self.root is not None else find_root(Path.cwd())

    def project(self) -> Project:
        """Read the project.

        Raises:
            UsageError, SeriesError: there is none, or its TOML files break their format.
        """
        from patchset.project.project import load

        return load(self.find_root())

    def workspaces(self, specs: tuple[str, ...], source: str = "auto", offline: bool = False) -> list[Workspace]:
        """Return the workspaces of COMPONENT[@BASE] arguments; all components at their pinned bases without any."""
        from patchset.workflow.workspace import Workspace

        project = self.project()
        return [
            Workspace(project, component, base, Terminal(), source, offline)
            for component, base in project.select(specs)
        ]

    def workspace_with(
        self, patch: str, spec: str | None, source: str = "auto", offline: bool = False
    ) -> tuple[Workspace, str]:
        """Return the workspace whose series has a patch, and the patch's name without `.patch`.

        Raises:
            UsageError: none has it; names the known patches.
        """
        name = patch.removesuffix(".patch")
        known: list[str] = []
        for workspace in self.workspaces((spec,) if spec else (), source, offline):
            known += workspace.series.names
            if name in workspace.series.names:
                return workspace, name
        raise UsageError(f"there is no patch {name!r}", remedy=f"known patches: {', '.join(known) or 'none'}")
