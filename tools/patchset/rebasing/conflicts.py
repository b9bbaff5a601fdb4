"""A conflict on disk: a work tree with markers, apart from `extern/`, to be resolved with plain git."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.engine.conflict import marked_lines
from patchset.engine.message import author_and_message
from patchset.engine.replay import ReplayedStep
from patchset.model.series import Series
from patchset.store.difference import Comparer
from patchset.store.git import Git
from patchset.store.index import update_index
from patchset.store.merge import MergeResult
from patchset.store.objects import NewCommit, blobs, entries, new_file, write_commits
from patchset.store.text import records
from patchset.worktree.location import Location
from toolkit.errors import PatchConflict


@dataclass(frozen=True)
class ConflictTree:
    """The work tree in which a component's conflicts are resolved."""

    folder: Path
    git: Git

    @property
    def inner(self) -> Git:
        """Git in the work tree itself, which must exist."""
        gitdir = Path((self.folder / ".git").read_text().strip().removeprefix("gitdir: "))
        return Git(self.folder / gitdir if not gitdir.is_absolute() else gitdir, self.folder)


def conflict_tree(root: Path, location: Location) -> ConflictTree:
    """Return the work tree in which a component's conflicts are resolved; it need not exist."""
    return ConflictTree(root / ".patchset" / "rebase" / location.name, location.git)


def commit_steps(
    series: Series, git: Git, compare: Comparer, store: Git, base: str, steps: Sequence[ReplayedStep]
) -> str:
    """Write replayed patches as commits on commit `base`, so that the log of a work tree shows them.

    Returns the last commit. `store` is the repository, which gets them under `refs/patchset/rebase`; `git` is the
    scratch beside it that has the steps' trees.
    """
    patches = {patch.name: patch for patch in series.patches}
    commits = []
    for item in steps:
        if item.after == item.before:
            continue
        changes = compare.compare(item.before, item.after)
        contents = blobs(git, (entry.oid for _, entry in changes.values() if entry))
        files = {
            path: new_file(entry.mode, contents[entry.oid]) if entry else None for path, (_, entry) in changes.items()
        }
        commits.append(NewCommit(*author_and_message(patches[item.step.name]), files))
    return write_commits(store, "refs/patchset/rebase", base, commits)[-1].commit if commits else base


def lay_out(tree: ConflictTree, commit: str, merged: MergeResult) -> None:
    """Make the work tree: HEAD is `commit`, the files are the merge's, and the index has its conflicts.

    All objects are in the repository itself: git needs them there for as long as the user works. The work tree of an
    earlier conflict is filled anew, not removed: the user's shell may stand in it.
    """
    folder = tree.folder
    if not _emptied(tree):
        remove(tree)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (folder.parent / ".gitignore").write_text("*\n")
        tree.git.run("worktree", "add", "--no-checkout", "--detach", "--force", str(folder), commit)
    inner = tree.inner
    inner.run("update-ref", "--no-deref", "HEAD", commit)
    inner.run("read-tree", "--reset", "-u", merged.tree)
    update_index(inner, dict.fromkeys(merged.paths), merged.stages)


def _emptied(tree: ConflictTree) -> bool:
    """Empty the work tree and its index; return False for a folder that is not a work tree."""
    if not (tree.folder / ".git").is_file() or not tree.inner.gitdir.is_dir():
        return False
    _step_out(tree.folder)
    # With the old index, git would take the removed files for present.
    (tree.inner.gitdir / "index").unlink(missing_ok=True)
    for path in tree.folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ".git":
            path.unlink()
    return True


def _step_out(folder: Path) -> None:
    """Leave a folder that is about to be removed: git runs in the current folder, which must exist."""
    try:
        inside = Path.cwd().is_relative_to(folder.resolve())
    except FileNotFoundError:
        inside = True
    if inside:
        os.chdir(folder.parent)


def remove(tree: ConflictTree) -> None:
    """Remove the work tree, and git's record of it."""
    _step_out(tree.folder)
    if tree.folder.exists():
        shutil.rmtree(tree.folder)
    if (tree.git.gitdir / "worktrees").is_dir():
        tree.git.run("worktree", "prune")


def resolved_tree(tree: ConflictTree, git: Git, merged: MergeResult) -> str:
    """Return the tree of the work tree as the user has left it; its objects go where `git` writes.

    Raises:
        PatchConflict: a file still has conflict markers, or a conflict without markers was not decided.
    """
    inner = tree.inner
    conflicted = entries(git, merged.tree, merged.paths)
    contents = blobs(git, [entry.oid for entry in conflicted.values()])
    unmerged = {record.partition("\t")[2] for record in records(inner.run("ls-files", "-z", "--unmerged"))}
    unresolved = []
    for path in merged.paths:
        entry = conflicted.get(path)
        marked = entry is not None and bool(marked_lines(contents[entry.oid]))
        file = tree.folder / path
        if marked and file.is_file() and not file.is_symlink():
            unresolved += [f"{path}:{line}: a conflict marker" for line in marked_lines(file.read_bytes())[:1]]
        elif not marked and path in unmerged:
            unresolved.append(f"{path}: not decided (git add it, or git rm it)")
    if unresolved:
        raise PatchConflict(
            "the conflict is not resolved yet",
            details=tuple(unresolved),
            remedy=f"edit the files in {tree.folder}, then --continue; or --skip REASON, or --abort",
        )
    index = git.scratch / "index-resolved" if git.scratch else tree.folder / "index-resolved"
    shutil.copyfile(inner.gitdir / "index", index)
    tool = replace(inner, scratch=git.scratch)
    env = {"GIT_INDEX_FILE": os.fspath(index)}
    tool.run("add", "-A", ".", env=env)
    return tool.run("write-tree", env=env).decode().strip()
