"""A base from its archive: verified, then imported straight into the object store as one commit."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from patchset.model.component import Base, Destination, Release, Source, Wheel
from patchset.store.git import Git
from patchset.store.objects import Signature, import_files
from toolkit.errors import IntegrityError
from toolkit.finding import Finding
from toolkit.progress import Reporter
from toolkit.tables import Table
from toolkit.toml_edit import erase_table, write_table

_REFS = "refs/patchset/archive/"


@dataclass(frozen=True)
class Archive(Source):
    """The registry file that stands in for the base's commit.

    `exclude` are globs of generated members, which upstream's tree does not have.
    """

    kind: ClassVar[str] = "archive"
    record: ClassVar[str] = "archive"
    stored_why: ClassVar[str] = "it is imported already"
    fetched_why: ClassVar[str] = "requested"

    project: str
    filename: str
    sha256: str
    exclude: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    tree: str | None = None
    patched_tree: str | None = None

    @classmethod
    def parse(cls, table: Table) -> Self | None:
        archives = []
        for item in table.tables("archive"):
            archives.append(
                cls(
                    project=item.text("project") or "",
                    filename=item.text("file") or "",
                    sha256=item.text("sha256", "hex64") or "",
                    exclude=item.strings("exclude"),
                    covers=item.strings("covers"),
                    tree=item.text("tree", "hex40", required=False),
                    patched_tree=item.text("patched-tree", "hex40", required=False),
                )
            )
            item.finish()
        if len(archives) > 1:
            table.findings.append(Finding(table.file, "has more than one [archive]"))
        return archives[0] if archives else None

    def write(self, text: str) -> str:
        values = {
            "project": self.project,
            "file": self.filename,
            "sha256": self.sha256,
            "tree": self.tree,
            "patched-tree": self.patched_tree,
            "exclude": list(self.exclude) or None,
            "covers": list(self.covers) or None,
        }
        return write_table(text, "archive", values)

    @classmethod
    def erase(cls, text: str) -> str:
        return erase_table(text, "archive")

    @classmethod
    def of_release(cls, release: Release) -> Self | None:
        model = release.model.source(cls.kind)
        if not isinstance(model, cls):
            return None
        filename = release.renamed(model.filename)
        if filename not in release.files:
            return None
        exclude = tuple(release.renamed(item) for item in model.exclude)
        return cls(model.project, filename, release.files[filename], exclude, model.covers)

    @classmethod
    def stored_releases(cls, git: Git, model: Base) -> Iterator[tuple[str, Self]]:
        pattern = model.source(cls.kind)
        if not isinstance(pattern, cls):
            return
        head, version, tail = pattern.filename.partition(model.name.removeprefix("v"))
        out = git.run("for-each-ref", "--format=%(refname)%00%(contents:subject)", _REFS)
        for line in out.decode(errors="replace").splitlines():
            refname, filename = line.split("\0")
            if version and filename.startswith(head) and filename.endswith(tail):
                name = filename[len(head) : len(filename) - len(tail)]
                exclude = tuple(item.replace(version, name) for item in pattern.exclude)
                yield name, cls(pattern.project, filename, refname.removeprefix(_REFS), exclude, pattern.covers)

    def commit_in(self, git: Git) -> str | None:
        return git.resolve(f"{_REFS}{self.sha256}")

    def fetch(self, destination: Destination) -> str:
        file = download(self, destination.reporter, destination.offline)
        destination.prepare()
        return import_archive(destination.git, self, file, destination.reporter)

    @property
    def title(self) -> str:
        return f"the archive {self.filename}"

    @property
    def index_project(self) -> str | None:
        return self.project


def download(archive: Archive | Wheel, reporter: Reporter, offline: bool = False) -> Path:
    """Return the verified archive from the user's cache, fetching it if it is not there.

    Raises:
        SourceUnavailable, IntegrityError, EnvironmentProblem: see `cache.fetch`.
    """
    from patchset.sources import cache

    return cache.fetch(archive.project, archive.filename, archive.sha256, reporter, offline=offline)


def import_archive(git: Git, archive: Archive, file: Path, reporter: Reporter) -> str:
    """Import a verified archive; the same archive gives the same commit on every machine.

    The commit's date is the newest in the archive; the members that `exclude` names are left out.

    Raises:
        IntegrityError: a member cannot stand in a git tree, or the tree is not the recorded one.
    """
    from patchset.sources.members import newest_mtime

    author = Signature("patchset", "patchset@localhost", f"{newest_mtime(file)} +0000")
    message = f"{archive.filename}\n\nsha256: {archive.sha256}\n"
    scratch = f"refs/patchset/import/{archive.sha256}"
    with reporter.task(f"import {archive.filename}", None, "files") as task:
        written = import_files(git, scratch, author, message, _kept_members(archive, file), task.update)
    if archive.tree is not None and written.tree != archive.tree:
        git.run("update-ref", "-d", scratch)
        raise IntegrityError(
            f"{archive.filename} gives tree {written.tree}, recorded is {archive.tree}",
            remedy="check the `archive` table in base.toml against the release",
        )
    git.run("update-ref", f"{_REFS}{archive.sha256}", written.commit)
    git.run("update-ref", "-d", scratch)
    return written.commit


def _kept_members(archive: Archive, file: Path) -> Iterator[tuple[str, int, bytes]]:
    from patchset.sources.members import members

    for member in members(file):
        if not any(fnmatch.fnmatchcase(member.path, pattern) for pattern in archive.exclude):
            yield member.path, member.mode, member.data
