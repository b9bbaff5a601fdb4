"""Taking a work tree from one commit to another, refusing whatever would cost the user work."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.store.git import Git
from patchset.store.objects import GITLINK, SYMLINK, Entry, blob_id, blobs
from patchset.worktree import journal
from patchset.worktree.location import Location
from patchset.worktree.state import State, dump, stat_of, stats
from toolkit.errors import EnvironmentProblem, LocalChanges

Changes = Mapping[str, tuple[Entry | None, Entry | None]]

_UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or `git am`",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
}


def populate(location: Location, commit: str, branch: str | None, state: State, message: str) -> Location:
    """Make the work tree, with `commit` checked out, appear in one step where there was an empty folder.

    `branch` is a full ref name, or None for a detached HEAD. Nothing is visible until the folder, complete,
    is renamed into its place.

    Raises:
        GitError, EnvironmentProblem: git failed, or the disk is full; the folder is as it was.
    """
    made = location.scratch / f"checkout-{location.name}"
    if made.exists():
        shutil.rmtree(made)
    made.mkdir(parents=True)
    target = location.work_tree
    target.parent.mkdir(parents=True, exist_ok=True)
    if made.stat().st_dev != target.parent.stat().st_dev:
        made.rmdir()
        made = target.parent / f".{target.name}.patchset"
        if made.exists():
            shutil.rmtree(made)
        made.mkdir()
    private = location.private
    private.mkdir(parents=True, exist_ok=True)
    index = private / "index.new"
    index.unlink(missing_ok=True)
    try:
        build = Git(location.gitdir, made)
        build.run("read-tree", "--reset", "-u", commit, env={"GIT_INDEX_FILE": str(index)})
        gitdir = os.path.relpath(location.gitdir.resolve(), target.resolve())
        (made / ".git").write_text(f"gitdir: {gitdir}\n")
        git = location.git
        git.run("config", "core.bare", "false")
        git.run("config", "core.worktree", os.path.relpath(target.resolve(), location.gitdir.resolve()))
        if branch is None:
            git.run("update-ref", "--no-deref", "-m", f"patchset: {message}", "HEAD", commit)
        else:
            git.run("update-ref", "-m", f"patchset: {message}", branch, commit)
            git.run("symbolic-ref", "HEAD", branch)
        os.replace(index, location.gitdir / "index")
        written = private / "state.new"
        written.write_bytes(dump(replace(state, stats=stats(made, state.stats))))
        os.replace(written, location.state_file)
        # rename(2) replaces an empty folder.
        os.rename(made, target)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise EnvironmentProblem(
            f"{error.filename or target}: {error.strerror}",
            remedy="see that the disk has room and is writable",
        ) from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return replace(location, populated=True)


def switch(
    location: Location,
    before: tuple[str | None, str],
    new: str,
    branch: str | None,
    state: State,
    message: str,
    *,
    changes: Changes,
    stale: tuple[str, str] | None = None,
) -> None:
    """Take the work tree from HEAD to commit `new`; files that do not differ are not touched.

    `before` is HEAD (branch's full name or None if detached; commit), `branch` the one to be on afterwards,
    `changes` what differs between the two commits. `state.stats` names the paths whose looks the state shall keep.

    Raises:
        LocalChanges: the user's work is in the way; everything that is, is named.
        EnvironmentProblem: the disk is full, or a file cannot be replaced.
    """
    git = location.git
    refuse_under_way(location)
    refuse_local(location, changes)
    private = location.private
    private.mkdir(parents=True, exist_ok=True)
    stage = stage_folder(location)
    # Until the journal is there, whatever fails leaves only the stage behind, and that goes.
    try:
        planned = _stage(location, stage, changes, git)
        lock = _stage_index(location, stage, changes, git)
        staged_state = stage / "state.json"
        staged_state.write_bytes(dump(replace(state, stats=_staged_stats(location, planned, state.stats))))
    except OSError as error:
        journal.clean(private, stage)
        raise _disk(error) from error
    except BaseException:
        journal.clean(private, stage)
        raise
    index = location.gitdir / "index"
    plan = journal.Journal(
        work_tree=str(location.work_tree),
        stage=str(stage),
        folders=planned.folders,
        moves=planned.moves,
        removes=planned.removes,
        backups=(*planned.backups, (str(stage / "backup" / "index"), str(index))),
        index=(str(lock), str(index)),
        before=before,
        after=(branch, new),
        stale=stale,
        state=(str(staged_state), str(location.state_file)),
        message=message,
    )
    try:
        journal.commit(plan, git, private)
    except OSError as error:
        lock.unlink(missing_ok=True)
        journal.clean(private, stage)
        raise _disk(error) from error
    # The index has no stat data for the new files yet; git would find it out by itself, but slowly.
    tree = Git(location.gitdir, location.work_tree)
    paths = "".join(f"{path}\0" for path, (_, after) in changes.items() if after)
    tree.attempt("update-index", "-z", "--stdin", stdin=paths.encode("utf-8", errors="surrogateescape"))


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
    found = sorted(_local(location, changes))
    if found:
        raise LocalChanges(
            f"{location.work_tree} has work of yours in the way",
            details=tuple(f"{path}: {why}" for path, why in found),
            remedy="commit it on a branch, stash or remove it, then run again; nothing was changed",
        )


def _local(location: Location, changes: Changes) -> Iterable[tuple[str, str]]:
    index = _index_entries(location, changes)
    for path, (before, after) in changes.items():
        file = location.work_tree / path
        if blocked := _blocked(location.work_tree, path):
            # What stands there may be a file or link that goes itself; it is looked at in its turn.
            if changes.get(blocked, (None, None))[0] is None:
                kind = "symbolic link" if (location.work_tree / blocked).is_symlink() else "file"
                yield path, f"{blocked} is a {kind} here"
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


def _blocked(top: Path, path: str) -> str | None:
    """The file or link that stands where a folder above `path` should be: never write through it."""
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = top.joinpath(*parts[:depth])
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            return "/".join(parts[:depth])
        if not folder.exists():
            return None
    return None


def _staying(top: Path, folder: Path, changes: Changes) -> Iterable[str]:
    """The files of a folder, in whose place a file is to be, that do not go."""
    for above, folders, files in os.walk(folder):
        links = [name for name in folders if Path(above, name).is_symlink()]
        for name in (*files, *links):
            path = Path(above, name).relative_to(top).as_posix()
            before, after = changes.get(path, (None, None))
            if before is None or after is not None:
                yield path


def _same(location: Location, file: Path, path: str, entry: Entry) -> bool:
    """Whether the work tree's file is the blob, with line ends and filters as the user's git has them."""
    found = file.lstat()
    if entry.mode == GITLINK:
        return stat.S_ISDIR(found.st_mode)  # what is in it is another repository's
    if entry.mode == SYMLINK:
        return stat.S_ISLNK(found.st_mode) and blob_id(os.fsencode(file.readlink())) == entry.oid
    if not stat.S_ISREG(found.st_mode) or bool(found.st_mode & 0o100) != (entry.mode == 0o100755):
        return False
    if blob_id(file.read_bytes()) == entry.oid:
        return True
    git = Git(location.gitdir, location.work_tree)
    code, out, _ = git.attempt("hash-object", f"--path={path}", "--", str(file))
    return code == 0 and out.decode().strip() == entry.oid


def _index_entries(location: Location, paths: Iterable[str]) -> dict[str, Entry]:
    wanted = list(paths)
    if not wanted:
        return {}
    git = Git(location.gitdir, location.work_tree)
    out = git.run("--literal-pathspecs", "ls-files", "-z", "--stage", "--", *wanted)
    found: dict[str, Entry] = {}
    for record in out.split(b"\0"):
        if record:
            head, _, name = record.partition(b"\t")
            mode, oid, number = head.split()
            # An unmerged entry has no stage 0; any other stage is work of the user's.
            oid_text = oid.decode() if number == b"0" else "unmerged"
            found[name.decode("utf-8", errors="surrogateescape")] = Entry(int(mode, 8), oid_text)
    return {path: found[path] for path in wanted if path in found}


def stage_folder(location: Location) -> Path:
    """Where new files are made: on the work tree's file system, as hard links and renames need it."""
    private = location.private
    if private.is_dir() and private.stat().st_dev != location.work_tree.stat().st_dev:
        return location.work_tree.parent / f".{location.work_tree.name}.patchset"
    return private / "stage"


@dataclass(frozen=True)
class _Planned:
    folders: tuple[str, ...]
    moves: tuple[tuple[str, str], ...]
    removes: tuple[str, ...]
    backups: tuple[tuple[str, str], ...]


def _stage(location: Location, stage: Path, changes: Changes, git: Git) -> _Planned:
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
        if not target.parent.is_dir() or _blocked(location.work_tree, path):
            folders[str(target.parent)] = None
        staged = stage / str(number)
        if after.mode == SYMLINK:
            staged.symlink_to(os.fsdecode(contents[after.oid]))
        else:
            staged.write_bytes(contents[after.oid])
            staged.chmod((0o777 if after.mode == 0o100755 else 0o666) & ~umask)
        moves.append((str(staged), str(target)))
    return _Planned(tuple(folders), tuple(moves), tuple(removes), tuple(backups))


def _stage_index(location: Location, stage: Path, changes: Changes, git: Git) -> Path:
    """Make the new index under git's own lock name, so that no git can change the old one meanwhile."""
    lock = location.gitdir / "index.lock"
    index = location.gitdir / "index"
    (location.private / "index-lock").touch()
    try:
        with lock.open("xb") as stream:
            stream.write(index.read_bytes())
    except FileExistsError:
        # Another git's, taken since we looked: not ours to remove.
        (location.private / "index-lock").unlink()
        refuse_under_way(location)
        raise
    try:
        (stage / "backup" / "index").write_bytes(index.read_bytes())
        lines = []
        # What goes comes first: a file may take the place of a folder whose files go, and the other way round.
        for path, (_, after) in sorted(changes.items(), key=lambda item: item[1][1] is not None):
            raw = path.encode("utf-8", errors="surrogateescape")
            entry = b"%o %b" % (after.mode, after.oid.encode()) if after else b"0 " + b"0" * 40
            lines.append(entry + b"\t" + raw + b"\0")
        env = {"GIT_INDEX_FILE": str(lock)}
        git.run("update-index", "-z", "--index-info", stdin=b"".join(lines), env=env)
    except BaseException:
        lock.unlink(missing_ok=True)
        raise
    return lock


def _staged_stats(
    location: Location, planned: _Planned, paths: Iterable[str]
) -> dict[str, tuple[int, int, int, int] | None]:
    """What lstat will say of `paths` afterwards: a rename keeps inode, size, mode and modification time."""
    staged = {target: source for source, target in planned.moves}
    found = {}
    for path in paths:
        target = str(location.work_tree / path)
        found[path] = None if target in planned.removes else stat_of(Path(staged.get(target, target)))
    return found


def _disk(error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{error.filename or 'the disk'}: {error.strerror}",
        remedy="see that the disk has room and is writable; nothing was changed",
    )
