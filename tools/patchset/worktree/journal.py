"""Changing a work tree in one step: everything is staged beside it, journaled, and then only renamed.

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

from patchset.store.git import Git
from toolkit.errors import EnvironmentProblem, PatchsetError

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


def commit(journal: Journal, git: Git, private: Path) -> None:
    """Write the journal and carry it out.

    Raises:
        EnvironmentProblem: a step was refused; the work tree is as it was before.
    """
    file = private / NAME
    _write(file, json.dumps(asdict(journal)).encode())
    try:
        _detached(lambda: carry_out(journal, git, file))
    finally:
        # While the journal is there the change is not over, and what is staged is still needed.
        if not file.exists():
            clean(private, Path(journal.stage))


def recover(git: Git, private: Path, stage: Path) -> bool:
    """Finish the change that an earlier run left behind; returns whether there was one.

    The caller holds the lock. What was staged for a change whose journal never appeared is removed.
    """
    file = private / NAME
    found = file.is_file()
    if found:
        values = json.loads(file.read_bytes())
        for key in ("moves", "backups"):
            values[key] = tuple(tuple(pair) for pair in values[key])
        for key in ("folders", "removes", "index", "before", "after", "state"):
            values[key] = tuple(values[key])
        values["stale"] = tuple(values["stale"]) if values["stale"] else None
        carry_out(Journal(**values), git, file)
    elif (private / "index-lock").exists():
        # Ours, since we hold the tool's lock: the run that made it died before its journal was complete.
        (git.gitdir / "index.lock").unlink(missing_ok=True)
    if found or private.is_dir():
        clean(private, stage)
    return found


def left_over(private: Path, stage: Path) -> bool:
    """Whether a run that was stopped left anything that `recover` has to see to."""
    return (private / NAME).exists() or stage.exists()


def clean(private: Path, stage: Path) -> None:
    """Remove what was staged."""
    (private / "index-lock").unlink(missing_ok=True)
    if stage.exists():
        shutil.rmtree(stage)


def carry_out(journal: Journal, git: Git, file: Path) -> None:
    """Do what the journal says; every step may have been done before.

    Raises:
        EnvironmentProblem, GitError: a step was refused, and everything was put back.
    """
    note = f"patchset: {journal.message}"
    branch, tip = journal.after
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
        if branch is None:
            git.run("update-ref", "--no-deref", "-m", note, "HEAD", tip)
        else:
            git.run("update-ref", "-m", note, branch, tip)
            git.run("symbolic-ref", "-m", note, "HEAD", branch)
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


def _write(file: Path, data: bytes) -> None:
    temporary = file.with_suffix(".new")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)


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
            _tell(writer, [error.message, error.remedy, *error.details])
        except BaseException as error:
            _tell(writer, [f"{type(error).__name__}: {error}", "run again: the change goes on where it stopped"])
        finally:
            os._exit(code)
    os.close(writer)
    with _patient():
        said = b"".join(iter(lambda: os.read(reader, 65536), b""))
        os.close(reader)
        _, status = os.waitpid(child, 0)
    if status:
        message, remedy, *details = json.loads(said) if said else ["the change was stopped", "run again"]
        raise EnvironmentProblem(message, remedy=remedy, details=tuple(details))


def _tell(writer: int, lines: Sequence[str]) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, json.dumps(list(lines)).encode())


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Hold Ctrl-C back until the renames are through: they take a moment, and cannot be undone half way."""
    held: list[int] = []
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda signum, frame: held.append(signum))
    except ValueError:
        pass  # not the main thread: signals do not come here
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for held_back in held:
            signal.raise_signal(held_back)
