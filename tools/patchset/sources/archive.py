"""A base from its archive: verified, then imported straight into the object store as one commit."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import Path

from patchset.model.component import Archive, Wheel
from patchset.store.git import Git
from patchset.store.objects import Signature, import_files
from toolkit.errors import IntegrityError
from toolkit.progress import Reporter


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

    return cache.fetch(archive.project, archive.filename, archive.sha256, reporter, offline=offline)


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
