"""The change of a work tree in one step: everything is staged beside it, journaled, and then only renamed.

The order is that of a write-ahead log. New files, the new index and the new state are complete on the disk
before the journal appears; from then on the change can only go forward, and every step may be done twice. The
renames run in a process of their own session, so that neither a signal to the tool nor its sudden end stops
them half way; if that process is lost too (a power cut), the next run finds the journal and finishes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from patchset.store.git import Git
from patchset.worktree.location import Location
from toolkit.errors import EnvironmentProblem, PatchsetError
from toolkit.files import replace_file

NAME = "journal.json"


@dataclass(frozen=True)
class Journal:
    """One change of a work tree, complete enough to be finished by anybody.

    `moves` are (staged file, file) pairs of absolute paths; `backups` hard links to what they replace, to go
    back if a step is refused; `removes` the files that go, and submodules' folders; `folders` the folders to make
    first. `before` and `after` are HEAD as (branch's full name, or None for a detached HEAD; commit). `stale` is a
    branch to delete, with the commit that it must still have.
    """

    work_tree: str
    stage: str
    folders: tuple[str, ...]
    moves: tuple[tuple[str, str], ...]
    removes: tuple[str, ...]
    backups: tuple[tuple[str, str], ...]
    index: tuple[str, str]
    before: tuple[str | None, str]
    after: tuple[str | None, str]
    stale: tuple[str, str] | None
    state: tuple[str, str]
    message: str


def commit(journal: Journal, location: Location) -> None:
    """Write the journal and carry it out.

    Raises:
        EnvironmentProblem: a step was refused; the work tree is as it was before.
    """
    file = location.private / NAME
    with _signals_held_back():
        replace_file(file, json.dumps(asdict(journal)), durable=True)
        _detached(lambda: carry_out(journal, location.git, file))


def recover(location: Location) -> None:
    """Finish the change that an earlier run left behind, or remove what it had staged; the caller holds the lock."""
    file = location.private / NAME
    if file.is_file():
        values = {key: _tuples(value) for key, value in json.loads(file.read_bytes()).items()}
        carry_out(Journal(**values), location.git, file)
    clean(location)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def left_over(location: Location) -> bool:
    """Return whether a run that was stopped left anything for `recover`."""
    return (location.private / NAME).exists() or location.stage.exists()


def lock_marker(location: Location) -> Path:
    """Return the file that says that git's index.lock is ours, until the journal does."""
    return location.private / "index-lock"


def clean(location: Location) -> None:
    """Remove what was staged, and our lock on the index; not while a journal still needs them."""
    if (location.private / NAME).exists():
        return
    if lock_marker(location).exists():
        (location.gitdir / "index.lock").unlink(missing_ok=True)
        lock_marker(location).unlink()
    (location.private / "journal.new").unlink(missing_ok=True)  # an earlier version's
    for name in (NAME, location.state_file.name):
        for temporary in location.private.glob(f".{name}.*.new"):
            temporary.unlink()
    if location.stage.exists():
        shutil.rmtree(location.stage)


def set_head(git: Git, branch: str | None, commit: str, message: str) -> None:
    """Set HEAD to a commit: by a branch (its full name), or detached (None).

    Raises:
        GitError: git refused.
    """
    note = f"patchset: {message}"
    if branch is None:
        git.run("update-ref", "--no-deref", "-m", note, "HEAD", commit)
    else:
        git.run("update-ref", "-m", note, branch, commit)
        git.run("symbolic-ref", "-m", note, "HEAD", branch)


def carry_out(journal: Journal, git: Git, file: Path) -> None:
    """Take the journal's steps; each may have been taken before.

    Raises:
        EnvironmentProblem, GitError: a step was refused, and everything was put back.
    """
    # The journal answers for git's lock now. A marker that outlived the lock would claim another git's.
    file.with_name("index-lock").unlink(missing_ok=True)
    try:
        # First what goes: a file may take the place of a folder, and a folder that of a file or link.
        for path in journal.removes:
            _remove(Path(path), Path(journal.work_tree))
        for folder in journal.folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
        for source, target in (*journal.moves, journal.index):
            if os.path.lexists(source):
                _clear(Path(target))
                os.replace(source, target)
        set_head(git, *journal.after, journal.message)
        if journal.stale is not None:
            git.attempt("update-ref", "-d", *journal.stale)
        with contextlib.suppress(FileNotFoundError):
            os.replace(*journal.state)
    except OSError as error:
        _go_back(journal, git, file)
        raise EnvironmentProblem(
            f"{error.filename2 or error.filename}: {error.strerror}",
            remedy="make the file replaceable and run again; the work tree is as it was",
        ) from error
    except PatchsetError:
        _go_back(journal, git, file)
        raise
    for path in journal.removes:
        with contextlib.suppress(OSError):
            Path(path).rmdir()  # a submodule's folder
        _prune(Path(path).parent, Path(journal.work_tree))
    file.unlink()


def _go_back(journal: Journal, git: Git, file: Path) -> None:
    """Put the replaced files back and drop the change; new files are taken away again."""
    kept = {target for _, target in journal.backups}
    for source, target in journal.moves:
        if target not in kept and not os.path.lexists(source):
            with contextlib.suppress(OSError):
                os.unlink(target)
    for folder in reversed(journal.folders):
        _prune(Path(folder), Path(journal.work_tree))
    for backup, target in journal.backups:
        with contextlib.suppress(OSError):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(backup, target)
    branch, commit = journal.before
    if branch is None:
        git.attempt("update-ref", "--no-deref", "HEAD", commit)
    else:
        git.attempt("update-ref", branch, commit)
        git.attempt("symbolic-ref", "HEAD", branch)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(journal.index[0])
    file.unlink()


def _remove(path: Path, top: Path) -> None:
    """Remove a file that may be gone already, with a folder in its place, or a link in that of a folder above it."""
    if any(folder.is_symlink() for folder in path.parents if folder.is_relative_to(top) and folder != top):
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        path.unlink()


def _clear(target: Path) -> None:
    """Remove the empty folders that stand where a file goes.

    Raises:
        OSError: one is not empty.
    """
    if target.is_dir() and not target.is_symlink():
        for folder, _, _ in os.walk(target, topdown=False):
            Path(folder).rmdir()


def _prune(folder: Path, top: Path) -> None:
    """Remove folders that became empty, as git does, up to the work tree itself."""
    while folder != top:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _detached(work: Callable[[], None]) -> None:
    """Run `work` in a child of its own session that no signal to us reaches, and wait for it."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.close(reader)
            work()
            code = 0
        except PatchsetError as error:
            _report(writer, [error.message, error.remedy, *error.details])
        except BaseException as error:
            _report(writer, [f"{type(error).__name__}: {error}", "run again: the change goes on where it stopped"])
        finally:
            os._exit(code)
    os.close(writer)
    answer = b"".join(iter(lambda: os.read(reader, 65536), b""))
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if status:
        message, remedy, *details = json.loads(answer) if answer else ["the change was stopped", "run again"]
        raise EnvironmentProblem(message, remedy=remedy, details=tuple(details))


def _report(writer: int, lines: Sequence[str]) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, json.dumps(list(lines)).encode())


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Hold Ctrl-C back until the renames are through: they take a moment, and cannot be undone half way."""
    held: list[int] = []
    handlers = {}
    # In another thread than the main one no signal arrives, and no handler can be set.
    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, lambda signum, frame: held.append(signum))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for signum in held:
            signal.raise_signal(signum)
