"""The user's own work in a work tree, which no command may overwrite."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from patchset.store.difference import Changes
from patchset.store.git import Git
from patchset.store.index import index_entries
from patchset.store.objects import GITLINK, SYMLINK, TreeEntry, blob_id
from patchset.worktree.location import Location
from toolkit.errors import LocalChanges

_UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or `git am`",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
}


def refuse_under_way(location: Location) -> None:
    """Raise `LocalChanges` if git is in the middle of something in the work tree."""
    for name, what in _UNDER_WAY.items():
        if (location.gitdir / name).exists():
            raise LocalChanges(
                f"{what} is under way in {location.work_tree}", remedy="finish or abort it, then run again"
            )
    if (location.gitdir / "index.lock").exists():
        raise LocalChanges(
            f"git is at work in {location.work_tree}",
            remedy=f"wait for it; if no git is running, remove {location.gitdir / 'index.lock'}",
        )


def refuse_local(location: Location, changes: Changes) -> None:
    """Raise `LocalChanges` with every path of `changes` at which there is work of the user's."""
    obstacles = sorted(_obstacles(location, changes))
    if obstacles:
        raise LocalChanges(
            f"{location.work_tree} has work of yours in the way",
            details=tuple(f"{path}: {why}" for path, why in obstacles),
            remedy="commit it on a branch, stash or remove it, then run again; nothing was changed",
        )


def _obstacles(location: Location, changes: Changes) -> Iterator[tuple[str, str]]:
    """Yield each path with work of the user's, and what it is."""
    index = index_entries(Git(location.gitdir, location.work_tree), changes)
    for path, (before, after) in changes.items():
        file = location.work_tree / path
        if above := obstacle(location.work_tree, path):
            # What stands there may be a file or link that goes itself; it is looked at in its turn.
            if changes.get(above, (None, None))[0] is None:
                kind = "symbolic link" if (location.work_tree / above).is_symlink() else "file"
                yield path, f"{above} is a {kind} here"
            continue
        if before is None:
            if file.is_dir() and not file.is_symlink():
                if after is not None and after.mode == GITLINK:
                    continue
                yield from ((name, "an untracked file") for name in _staying(location.work_tree, file, changes))
            elif os.path.lexists(file):
                yield path, "an untracked file" if path not in index else "added and not committed"
        elif not os.path.lexists(file):
            if before.mode != GITLINK:
                yield path, "removed and not committed"
        elif not _same(location, file, path, before):
            yield path, "changed and not committed"
        if index.get(path) != before and not (before is None and os.path.lexists(file)):
            yield path, "staged and not committed"


def obstacle(top: Path, path: str) -> str | None:
    """Return the file or link that stands where a folder above `path` should be: never write through it."""
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = top.joinpath(*parts[:depth])
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            return "/".join(parts[:depth])
        if not folder.exists():
            return None
    return None


def _staying(top: Path, folder: Path, changes: Changes) -> Iterator[str]:
    """Yield the files that do not go, of a folder in whose place a file is to be."""
    for above, folders, files in os.walk(folder):
        links = [name for name in folders if Path(above, name).is_symlink()]
        for name in (*files, *links):
            path = Path(above, name).relative_to(top).as_posix()
            before, after = changes.get(path, (None, None))
            if before is None or after is not None:
                yield path


def _same(location: Location, file: Path, path: str, entry: TreeEntry) -> bool:
    """Return whether the work tree's file is the blob, with line ends and filters as the user's git has them."""
    status = file.lstat()
    if entry.mode == GITLINK:
        return stat.S_ISDIR(status.st_mode)  # what is in it is another repository's
    if entry.mode == SYMLINK:
        return stat.S_ISLNK(status.st_mode) and blob_id(os.fsencode(file.readlink())) == entry.oid
    if not stat.S_ISREG(status.st_mode) or bool(status.st_mode & 0o100) != (entry.mode == 0o100755):
        return False
    if blob_id(file.read_bytes()) == entry.oid:
        return True
    git = Git(location.gitdir, location.work_tree)
    code, out, _ = git.attempt("hash-object", f"--path={path}", "--", str(file))
    return code == 0 and out.decode().strip() == entry.oid
