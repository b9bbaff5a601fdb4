"""The step of a work tree from one commit to another, refused where it would cost the user work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.store.difference import Changes
from patchset.store.git import Git
from patchset.store.index import update_index
from patchset.store.objects import GITLINK, SYMLINK, blobs
from patchset.store.text import encode
from patchset.worktree import journal
from patchset.worktree.local import obstacle, refuse_local, refuse_under_way
from patchset.worktree.location import Location
from patchset.worktree.state import Stat, WorktreeState, dump, stat_of, stats
from toolkit.errors import EnvironmentProblem
from toolkit.files import replace_file


def populate(location: Location, commit: str, branch: str | None, state: WorktreeState, message: str) -> Location:
    """Check `commit` out as the work tree, in one step, where there was an empty folder.

    `branch` is a full ref name, or None for a detached HEAD. Nothing is visible until the folder, complete,
    is renamed into its place.

    Raises:
        GitError, EnvironmentProblem: git failed, or the disk is full; the folder is as it was.
    """
    target = location.work_tree
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = _emptied(location.scratch / f"checkout-{location.name}")
    if folder.stat().st_dev != target.parent.stat().st_dev:
        folder.rmdir()
        folder = _emptied(target.parent / f".{target.name}.patchset")
    private = location.private
    private.mkdir(parents=True, exist_ok=True)
    index = private / "index.new"
    index.unlink(missing_ok=True)
    try:
        checkout = Git(location.gitdir, folder)
        checkout.run("read-tree", "--reset", "-u", commit, env={"GIT_INDEX_FILE": str(index)})
        gitdir = os.path.relpath(location.gitdir.resolve(), target.resolve())
        (folder / ".git").write_text(f"gitdir: {gitdir}\n")
        git = location.git
        git.run("config", "core.bare", "false")
        git.run("config", "core.worktree", os.path.relpath(target.resolve(), location.gitdir.resolve()))
        journal.set_head(git, branch, commit, message)
        os.replace(index, location.gitdir / "index")
        replace_file(location.state_file, dump(replace(state, stats=stats(folder, state.stats))))
        # rename(2) replaces an empty folder.
        os.rename(folder, target)
    except OSError as error:
        raise EnvironmentProblem(
            f"{error.filename or target}: {error.strerror}",
            remedy="see that the disk has room and is writable",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return replace(location, populated=True)


def _emptied(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def switch(
    location: Location,
    before: tuple[str | None, str],
    new: str,
    branch: str | None,
    state: WorktreeState,
    message: str,
    *,
    changes: Changes,
    stale: tuple[str, str] | None = None,
) -> None:
    """Take the work tree from HEAD to commit `new`; files that do not differ are not touched.

    `before` is HEAD (branch's full name or None if detached; commit), `branch` the one to be on afterwards,
    `changes` the difference of the two commits. `state.stats` names the paths whose lstat(2) the state keeps.

    Raises:
        LocalChanges: the user's work is in the way; everything that is, is named.
        EnvironmentProblem: the disk is full, or a file cannot be replaced.
    """
    git, index = location.git, location.gitdir / "index"
    refuse_under_way(location)
    refuse_local(location, changes)
    location.private.mkdir(parents=True, exist_ok=True)
    stage = location.stage
    # Until the journal is there, every failure leaves only the stage behind, and that goes.
    try:
        files = _stage(location, stage, changes, git)
        staged_state = stage / "state.json"
        staged_state.write_bytes(dump(replace(state, stats=_staged_stats(location, files, state.stats))))
        lock = _stage_index(location, stage, changes, git)
        journal.commit(
            journal.Journal(
                work_tree=str(location.work_tree),
                stage=str(stage),
                folders=files.folders,
                moves=files.moves,
                removes=files.removes,
                backups=(*files.backups, (str(stage / "backup" / "index"), str(index))),
                index=(str(lock), str(index)),
                before=before,
                after=(branch, new),
                stale=stale,
                state=(str(staged_state), str(location.state_file)),
                message=message,
            ),
            location,
        )
    except OSError as error:
        raise EnvironmentProblem(
            f"{error.filename or 'the disk'}: {error.strerror}",
            remedy="see that the disk has room and is writable; nothing was changed",
        ) from error
    finally:
        journal.clean(location)
    # The index has no stat data for the new files yet; git would find it out by itself, but slowly.
    tree = Git(location.gitdir, location.work_tree)
    paths = "".join(f"{path}\0" for path, (_, after) in changes.items() if after)
    tree.attempt("update-index", "-z", "--stdin", stdin=encode(paths))


@dataclass(frozen=True)
class _StagedFiles:
    folders: tuple[str, ...]
    moves: tuple[tuple[str, str], ...]
    removes: tuple[str, ...]
    backups: tuple[tuple[str, str], ...]


def _stage(location: Location, stage: Path, changes: Changes, git: Git) -> _StagedFiles:
    """Write every new file beside the work tree and link what they replace; returns the journal's lists."""
    stage.mkdir(parents=True)
    backup = stage / "backup"
    backup.mkdir()
    contents = blobs(git, (after.oid for _, after in changes.values() if after and after.mode != GITLINK))
    umask = os.umask(0)
    os.umask(umask)
    folders: dict[str, None] = {}
    moves, removes, backups = [], [], []
    for number, (path, (before, after)) in enumerate(changes.items()):
        target = location.work_tree / path
        if before is not None and before.mode != GITLINK:
            os.link(target, backup / str(number), follow_symlinks=False)
            backups.append((str(backup / str(number)), str(target)))
        if after is None:
            removes.append(str(target))
            continue
        if after.mode == GITLINK:  # git makes an empty folder, and leaves the rest to `git submodule`
            folders[str(target)] = None
            continue
        if not target.parent.is_dir() or obstacle(location.work_tree, path):
            folders[str(target.parent)] = None
        staged = stage / str(number)
        if after.mode == SYMLINK:
            staged.symlink_to(os.fsdecode(contents[after.oid]))
        else:
            staged.write_bytes(contents[after.oid])
            staged.chmod((0o777 if after.mode == 0o100755 else 0o666) & ~umask)
        moves.append((str(staged), str(target)))
    return _StagedFiles(tuple(folders), tuple(moves), tuple(removes), tuple(backups))


def _stage_index(location: Location, stage: Path, changes: Changes, git: Git) -> Path:
    """Write the new index under git's own lock name, so that no git can change the old one meanwhile."""
    lock, index = location.gitdir / "index.lock", location.gitdir / "index"
    journal.lock_marker(location).touch()
    try:
        with lock.open("xb") as stream:
            stream.write(index.read_bytes())
    except FileExistsError:
        # Another git's, taken since we looked: not ours to remove.
        journal.lock_marker(location).unlink()
        refuse_under_way(location)
        raise
    (stage / "backup" / "index").write_bytes(index.read_bytes())
    update_index(git, {path: after for path, (_, after) in changes.items()}, index=lock)
    return lock


def _staged_stats(location: Location, files: _StagedFiles, paths: Iterable[str]) -> dict[str, Stat | None]:
    """Return lstat's later answers for `paths`: a rename keeps inode, size, mode and modification time."""
    later = {target: stat_of(Path(source)) for source, target in files.moves} | dict.fromkeys(files.removes)
    targets = {path: location.work_tree / path for path in paths}
    return {path: later[str(file)] if str(file) in later else stat_of(file) for path, file in targets.items()}
