"""The places of a component: its work tree, its git directory, and the tool's own folders.

A component is a git submodule: its git directory lies in the superproject's (`modules/<name>`), as
`git submodule` puts it, whatever source its objects have. Where the project itself is not in git, it lies in
`.patchset/` beside `patches/`. All of this is read from files, without git: it is needed at every start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchset.model.component import Component
from patchset.store.git import Git
from patchset.store.superproject import gitdir_of, submodule_at
from toolkit.errors import LocalChanges


@dataclass(frozen=True)
class Location:
    """A component's work tree, its git directory, and whether the work tree is there.

    `scratch` is a folder of the tool's own outside the work tree, for the lock and for new work trees.
    """

    name: str
    work_tree: Path
    gitdir: Path
    scratch: Path
    populated: bool

    @property
    def git(self) -> Git:
        return Git(self.gitdir)

    @property
    def private(self) -> Path:
        """The folder in which the tool keeps its own state."""
        return self.gitdir / "patchset"

    @property
    def stage(self) -> Path:
        """The folder for new files: on the work tree's file system, as hard links and renames need it."""
        if self.private.is_dir() and self.private.stat().st_dev != self.work_tree.stat().st_dev:
            return self.work_tree.parent / f".{self.work_tree.name}.patchset"
        return self.private / "stage"

    @property
    def state_file(self) -> Path:
        return self.private / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.scratch / f"{self.name}.lock"


def locate(root: Path, component: Component) -> Location:
    """Return the location of a component's tree, whether it is there or not.

    Raises:
        LocalChanges: something that is not a git work tree stands in its place.
    """
    work_tree = root / component.path if component.path != "." else root
    above = gitdir_of(root)
    own = above if above is not None else root / ".patchset"
    scratch = own / "patchset" if above is not None else own
    gitdir = gitdir_of(work_tree)
    if gitdir is not None:
        return Location(component.name, work_tree, gitdir, scratch, True)
    if work_tree.is_symlink() or (work_tree.exists() and not work_tree.is_dir()):
        raise LocalChanges(f"{work_tree} is not a folder", remedy="move it away")
    if work_tree.is_dir() and any(work_tree.iterdir()):
        raise LocalChanges(
            f"{work_tree} holds files, but is no git work tree",
            remedy="move it away; the tool populates the folder itself",
        )
    submodule = submodule_at(root, component.path)
    gitdir = own / "modules" / (submodule.name if submodule is not None else component.path)
    return Location(component.name, work_tree, gitdir, scratch, False)
