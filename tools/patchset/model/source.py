"""A source of a base: one way in which the base's tree comes into the object store.

Each kind of source is one class in `patchset.sources` and one line in `patchset.sources.kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from patchset.store.git import Git
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter
from toolkit.tables import Table

if TYPE_CHECKING:
    from packaging.version import Version

    from patchset.model.component import Base


@dataclass(frozen=True)
class Destination:
    """The repository into which a base is brought, and what a source needs on the way.

    `label` names component and base in messages. `path` is the component's tree, relative to the project's root.
    `url` is its git host's, None where none is named. `prepare` initialises the repository, and registers the
    submodule where the project has one: call it before writing objects.
    """

    label: str
    path: str
    url: str | None
    git: Git
    reporter: Reporter
    offline: bool
    prepare: Callable[[], None]


@dataclass(frozen=True)
class Release:
    """An upstream release that base.toml does not record, described after `model`, a base of another release.

    `files` (name -> sha256) are its project's on the package index; `commit` is that of its tag, where it is known.
    """

    model: Base
    version: Version
    files: Mapping[str, str]
    commit: str | None

    def renamed(self, text: str) -> str:
        """Return a text of the model with this release's version in it."""
        return text.replace(self.model.name.removeprefix("v"), str(self.version))


class NotObtained(SourceUnavailable):
    """This source cannot give the base; `why` is the reason in a few words, for reports on the source used instead."""

    def __init__(self, message: str, *, why: str = "", remedy: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy=remedy, details=details)
        self.why = why or message


class Source(ABC):
    """One entry of base.toml from which the base's tree comes into the object store.

    `covers` are globs of the paths that this source has (empty: all). `tree` and `patched_tree` are the recorded
    git tree ids before and after the series, None where none is recorded.

    The way of a source: `parse` reads it from base.toml, or `of_release` and `stored_releases` describe another
    release's; `commit_in` looks for its commit in the repository, and `fetch` brings it there; `write` and `erase`
    keep base.toml.
    """

    kind: ClassVar[str]
    """The name in `--source`, in reports and in the state of a work tree."""
    record: ClassVar[str]
    """The noun for the thing that base.toml records: `commit`, `archive`."""
    has_history: ClassVar[bool] = False
    """True where its commits have upstream's commits as ancestors."""
    stored_why: ClassVar[str]
    """The reason, in a few words, for taking a base that the repository has already."""
    fetched_why: ClassVar[str]
    """The reason, in a few words, for taking a base that was fetched from this source."""

    covers: tuple[str, ...]
    tree: str | None
    patched_tree: str | None

    @classmethod
    @abstractmethod
    def parse(cls, table: Table) -> Self | None:
        """Return the source that a base.toml records, or None; errors of format become findings of the table."""

    @classmethod
    @abstractmethod
    def erase(cls, text: str) -> str:
        """Return the text of a base.toml without this kind of source."""

    @classmethod
    @abstractmethod
    def of_release(cls, release: Release) -> Self | None:
        """Return the source of another release, or None where the release has none of this kind."""

    @classmethod
    @abstractmethod
    def stored_releases(cls, git: Git, model: Base) -> Iterable[tuple[str, Self]]:
        """Return the releases in the repository as (name, source), whether or not a base.toml records them."""

    @abstractmethod
    def write(self, text: str) -> str:
        """Return the text of a base.toml with this source; its comments and order stay."""

    def with_trees(self, tree: str, patched_tree: str) -> Self:
        """Return the source with other recorded trees."""
        assert is_dataclass(self)
        return replace(self, tree=tree, patched_tree=patched_tree)

    @abstractmethod
    def commit_in(self, git: Git) -> str | None:
        """Return the base's commit if the repository has it, else None; uses no network."""

    @abstractmethod
    def fetch(self, destination: Destination) -> str:
        """Bring the base's commit into the repository and return its id.

        Raises:
            NotObtained: this source cannot give it; the next kind of source is tried.
            PatchsetError: its content must not be used, or the machine lacks something; no other kind is tried.
        """

    @property
    @abstractmethod
    def title(self) -> str:
        """The source in words: "the commit 0123456789ab", for a message that it is used."""

    @property
    def upstream_commit(self) -> str | None:
        """Upstream's own commit of the base, or None where the source does not record it."""
        return None

    @property
    def index_project(self) -> str | None:
        """The project of the package index whose files list upstream's releases, or None."""
        return None
