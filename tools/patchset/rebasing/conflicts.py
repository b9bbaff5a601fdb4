"""A conflict on disk: a work tree with markers, apart from `extern/`, in which it is resolved with plain git."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.engine.conflict import marked_lines
from patchset.store.git import Git
from patchset.store.merge import MergeResult
from patchset.store.objects import blobs, entries
from patchset.worktree.location import Location
from toolkit.errors import PatchConflict


@dataclass(frozen=True)
class Place:
    """Where a component's conflicts are resolved."""

    folder: Path
    git: Git

    @property
    def inner(self) -> Git:
        """Git in the work tree itself; it is there."""
        gitdir = Path((self.folder / ".git").read_text().strip().removeprefix("gitdir: "))
        return Git(self.folder / gitdir if not gitdir.is_absolute() else gitdir, self.folder)


def place_of(root: Path, location: Location) -> Place:
    return Place(root / ".patchset" / "rebase" / location.name, location.git)


def lay_out(place: Place, commit: str, merged: MergeResult) -> None:
    """Make the work tree: HEAD is `commit`, the files are the merge's, and the index has its conflicts.

    All objects are in the repository itself: git needs them there for as long as the user works. A work tree that is
    there, of the conflict before, is filled anew: the user's shell may stand in it.
    """
    folder = place.folder
    if not _emptied(place):
        remove(place)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (folder.parent / ".gitignore").write_text("*\n")
        place.git.run("worktree", "add", "--no-checkout", "--detach", "--force", str(folder), commit)
    inner = place.inner
    inner.run("update-ref", "--no-deref", "HEAD", commit)
    inner.run("read-tree", "--reset", "-u", merged.tree)
    lines = []
    for path in merged.paths:
        lines.append(b"0 " + b"0" * 40 + b"\t" + _raw(path) + b"\0")
    for stage in merged.stages:
        entry = f"{stage.entry.mode:o} {stage.entry.oid} {stage.number}\t".encode()
        lines.append(entry + _raw(stage.path) + b"\0")
    inner.run("update-index", "-z", "--index-info", stdin=b"".join(lines))


def _emptied(place: Place) -> bool:
    """Empty the work tree and its index, if it is one; return whether it is."""
    if not (place.folder / ".git").is_file() or not place.inner.gitdir.is_dir():
        return False
    _step_out(place.folder)
    # With an index of what was there, git would take the files for present.
    (place.inner.gitdir / "index").unlink(missing_ok=True)
    for path in place.folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ".git":
            path.unlink()
    return True


def _step_out(folder: Path) -> None:
    """Leave a folder that is about to go: git, which is run from here, would find itself nowhere."""
    try:
        inside = Path.cwd().is_relative_to(folder.resolve())
    except FileNotFoundError:
        inside = True
    if inside:
        os.chdir(folder.parent)


def remove(place: Place) -> None:
    """Remove the work tree, and git's knowledge of it."""
    _step_out(place.folder)
    if place.folder.exists():
        shutil.rmtree(place.folder)
    if (place.git.gitdir / "worktrees").is_dir():
        place.git.run("worktree", "prune")


def resolved_tree(place: Place, git: Git, merged: MergeResult) -> str:
    """Return the tree of the work tree as the user has left it; `git` is where its objects go.

    Raises:
        PatchConflict: a file still has conflict markers, or a conflict without markers was not decided.
    """
    inner = place.inner
    conflicted = entries(git, merged.tree, merged.paths)
    contents = blobs(git, [entry.oid for entry in conflicted.values()])
    unmerged = {
        record.partition(b"\t")[2].decode("utf-8", errors="surrogateescape")
        for record in inner.run("ls-files", "-z", "--unmerged").split(b"\0")
        if record
    }
    left = []
    for path in merged.paths:
        entry = conflicted.get(path)
        marked = entry is not None and bool(marked_lines(contents[entry.oid]))
        file = place.folder / path
        if marked and file.is_file() and not file.is_symlink():
            left += [f"{path}:{line}: a conflict marker" for line in marked_lines(file.read_bytes())[:1]]
        elif not marked and path in unmerged:
            left.append(f"{path}: not decided (git add it, or git rm it)")
    if left:
        raise PatchConflict(
            "the conflict is not resolved yet",
            details=tuple(left),
            remedy=f"edit the files in {place.folder}, then --continue; or --skip REASON, or --abort",
        )
    index = git.scratch / "index-resolved" if git.scratch else place.folder / "index-resolved"
    shutil.copyfile(inner.gitdir / "index", index)
    tool = replace(inner, scratch=git.scratch)
    env = {"GIT_INDEX_FILE": os.fspath(index)}
    tool.run("add", "-A", ".", env=env)
    return tool.run("write-tree", env=env).decode().strip()


def _raw(path: str) -> bytes:
    return path.encode("utf-8", errors="surrogateescape")
