"""A base from its archive: verified, then imported straight into the object store as one commit."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from patchset.model.component import Archive, Wheel
from patchset.store.git import Git
from patchset.store.objects import Signature, import_files
from toolkit.errors import IntegrityError
from toolkit.progress import Reporter, Task


def imported(git: Git, archive: Archive) -> str | None:
    """Return the commit that the archive became, or None where it is not in the store."""
    return git.resolve(ref(archive))


def ref(archive: Archive) -> str:
    return f"refs/patchset/archive/{archive.sha256}"


def download(archive: Archive | Wheel, reporter: Reporter, offline: bool = False) -> Path:
    """Return the verified archive from the user's cache, fetching it if it is not there.

    Raises:
        SourceUnavailable, IntegrityError, EnvironmentProblem: see `cache.fetch`.
    """
    from patchset.sources import cache

    with ExitStack() as stack:
        show = _Show(reporter, stack)
        return cache.fetch(archive.project, archive.filename, archive.sha256, show, offline=offline)


class _Show:
    """The downloader's progress as a task of the reporter, opened when the first byte is expected."""

    def __init__(self, reporter: Reporter, stack: ExitStack) -> None:
        self._reporter = reporter
        self._stack = stack
        self._task: Task | None = None
        self._done = 0
        self._total: int | None = None

    def start(self, filename: str, total: int | None, done: int) -> None:
        self._done, self._total = done, total
        if self._task is None:
            self._task = self._stack.enter_context(self._reporter.task(f"download {filename}", total, "bytes"))
        self.advance(0)

    def advance(self, count: int) -> None:
        self._done += count
        if self._task is not None:
            self._task.update(self._done, self._total)

    def note(self, message: str) -> None:
        self._reporter.note(message)


def import_archive(git: Git, archive: Archive, file: Path, reporter: Reporter) -> str:
    """Import a verified archive; the same archive gives the same commit on every machine.

    The commit's date is the newest that the archive holds; generated members are left out, as the base tells.

    Raises:
        IntegrityError: the archive holds what no tree may hold, or gives another tree than is recorded.
    """
    from patchset.sources.members import newest_mtime

    author = Signature("patchset", "patchset@localhost", f"{newest_mtime(file)} +0000")
    message = f"{archive.filename}\n\nsha256: {archive.sha256}\n"
    scratch = f"refs/patchset/import/{archive.sha256}"
    with reporter.task(f"import {archive.filename}", None, "files") as task:
        written = import_files(git, scratch, author, message, _wanted(archive, file), task.update)
    if archive.tree is not None and written.tree != archive.tree:
        git.run("update-ref", "-d", scratch)
        raise IntegrityError(
            f"{archive.filename} gives tree {written.tree}, recorded is {archive.tree}",
            remedy="check the `archive` table in base.toml against the release",
        )
    git.run("update-ref", ref(archive), written.commit)
    git.run("update-ref", "-d", scratch)
    return written.commit


def _wanted(archive: Archive, file: Path) -> Iterator[tuple[str, int, bytes]]:
    from patchset.sources.members import members

    for member in members(file):
        if not any(fnmatch.fnmatchcase(member.path, pattern) for pattern in archive.exclude):
            yield member.path, member.mode, member.data
