"""A base from its git host: the submodule is registered, and just the one commit is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from patchset.model.component import Base, Destination, NotObtained, Release, Source
from patchset.sources.urls import redacted
from patchset.store import remote
from patchset.store.git import Git, GitError
from patchset.store.remote import answers, list_tags
from patchset.store.superproject import gitdir_of, init_submodule, recorded_commit, submodule_at
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter
from toolkit.tables import Table
from toolkit.toml_edit import write_values

__all__ = ["answers", "fetch", "list_tags", "recorded_commit", "register", "registered_url"]


def registered_url(root: Path, path: str) -> str | None:
    """Return the URL of the submodule at `path`, or None where the project's repository has none."""
    registered = submodule_at(root, path) if gitdir_of(root) is not None else None
    return registered.url if registered is not None else None


def register(root: Path, path: str, git: Git, url: str) -> None:
    """Initialise the submodule at `path`, as `git submodule init` does, and set its remote."""
    # `git submodule update` gives it a work tree, and git takes none for a bare repository.
    git.run("config", "core.bare", "false")
    git.run("config", "remote.origin.url", url)
    git.run("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    init_submodule(root, path)


def fetch(git: Git, url: str, commit: str, reporter: Reporter, title: str) -> None:
    """Fetch one commit, without history, into the component's repository, whose remote has `url`.

    Raises:
        SourceUnavailable: the host does not answer, stalls (over http), or does not have the commit.
    """
    try:
        with reporter.task(f"fetch {title}", None, "objects") as task:
            remote.fetch(git, commit, task)
    except GitError as error:
        raise SourceUnavailable(
            f"{redacted(url)} did not give {title} ({commit})",
            details=tuple(redacted(line) for line in error.details),
            remedy="check the network, or use --source archive",
        ) from None


@dataclass(frozen=True)
class Submodule(Source):
    """Upstream's commit, fetched from the git host of the component's submodule."""

    kind: ClassVar[str] = "submodule"
    record: ClassVar[str] = "commit"
    has_history: ClassVar[bool] = True
    stored_why: ClassVar[str] = "its commit is here"
    fetched_why: ClassVar[str] = "its host answers"

    commit: str
    tree: str | None = None
    patched_tree: str | None = None
    covers: tuple[str, ...] = ()

    @classmethod
    def parse(cls, table: Table) -> Self | None:
        commit, tree, patched_tree = (
            table.text(key, "hex40", required=False) for key in ("commit", "tree", "patched-tree")
        )
        return cls(commit, tree, patched_tree) if commit is not None else None

    def write(self, text: str) -> str:
        return write_values(text, {"commit": self.commit, "tree": self.tree, "patched-tree": self.patched_tree})

    @classmethod
    def erase(cls, text: str) -> str:
        return write_values(text, {"commit": None, "tree": None, "patched-tree": None})

    @classmethod
    def of_release(cls, release: Release) -> Self | None:
        return cls(release.commit) if release.commit is not None else None

    @classmethod
    def stored_releases(cls, git: Git, model: Base) -> Iterator[tuple[str, Self]]:
        out = git.run("for-each-ref", "--format=%(refname)%00%(objectname)%00%(*objectname)", "refs/tags/")
        for line in out.decode(errors="replace").splitlines():
            ref, oid, peeled = line.split("\0")
            yield ref.removeprefix("refs/tags/"), cls(peeled or oid)

    def commit_in(self, git: Git) -> str | None:
        return self.commit if git.tree_of(self.commit) is not None else None

    def fetch(self, destination: Destination) -> str:
        url = destination.url
        if url is None:
            message = f"neither .gitmodules nor component.toml names a URL for {destination.path}"
            raise NotObtained(message, why="no git host is named")
        if destination.offline:
            raise NotObtained("the git host is not asked (--offline)", why="its git host is not asked")
        if (reason := answers(url)) is not None:
            raise NotObtained(f"{redacted(url)} does not answer: {reason}", why="its git host does not answer")
        destination.prepare()
        try:
            fetch(destination.git, url, self.commit, destination.reporter, destination.label)
        except SourceUnavailable as error:
            why = "its git host did not give the commit"
            raise NotObtained(error.message, why=why, remedy=error.remedy, details=error.details) from error
        return self.commit

    @property
    def title(self) -> str:
        return f"the commit {self.commit[:12]}"

    @property
    def upstream_commit(self) -> str | None:
        return self.commit
