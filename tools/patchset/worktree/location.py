"""Where a component's work tree and git directory are.

A component is a git submodule: its git directory lies in the superproject's (`modules/<name>`), as
`git submodule` puts it, whatever its objects came from. Where the project itself is not in git, it lies in
`.patchset/` beside `patches/`. All of this is read from files, without git: it is asked at every start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchset.model.component import Component
from patchset.store.git import Git
from toolkit.errors import LocalChanges


@dataclass(frozen=True)
class Location:
    """A component's work tree, its git directory, and whether the work tree is there.

    `scratch` is a folder of the tool's own outside the work tree; the lock is there, and new work trees are
    made there.
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
    def state_file(self) -> Path:
        return self.private / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.scratch / f"{self.name}.lock"


def locate(root: Path, component: Component) -> Location:
    """Return where the component's tree is, or will be.

    Raises:
        LocalChanges: something that is not a git work tree stands in its place.
    """
    work_tree = root / component.path if component.path != "." else root
    above = superproject_gitdir(root)
    own = above if above is not None else root / ".patchset"
    scratch = own / "patchset" if above is not None else own
    dot_git = work_tree / ".git"
    if dot_git.is_dir():
        return Location(component.name, work_tree, dot_git, scratch, True)
    if dot_git.is_file():
        return Location(component.name, work_tree, _follow(dot_git), scratch, True)
    if work_tree.is_symlink() or (work_tree.exists() and not work_tree.is_dir()):
        raise LocalChanges(f"{work_tree} is not a folder", remedy="move it away")
    if work_tree.is_dir() and any(work_tree.iterdir()):
        raise LocalChanges(
            f"{work_tree} holds files, but is no git work tree",
            remedy="move it away; the tool populates the folder itself",
        )
    gitdir = own / "modules" / (submodule_name(root, component.path) or component.path)
    return Location(component.name, work_tree, gitdir, scratch, False)


def superproject_gitdir(root: Path) -> Path | None:
    """Return the git directory of the project itself, or None where it is not in git."""
    dot_git = root / ".git"
    if dot_git.is_dir():
        return dot_git
    return _follow(dot_git) if dot_git.is_file() else None


def submodule_name(root: Path, path: str) -> str | None:
    """Return the name under which `.gitmodules` registers `path`, or None."""
    file = root / ".gitmodules"
    if not file.is_file():
        return None
    name = None
    for line in file.read_text("utf-8").splitlines():
        text = line.strip()
        if text.startswith("[submodule "):
            name = text.removeprefix("[submodule ").rstrip("]").strip().strip('"')
        elif name and text.partition("=")[0].strip() == "path" and text.partition("=")[2].strip() == path:
            return name
    return None


def _follow(dot_git: Path) -> Path:
    target = dot_git.read_text("utf-8").removeprefix("gitdir:").strip()
    return (dot_git.parent / target).resolve()
