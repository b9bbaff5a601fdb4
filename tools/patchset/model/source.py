"""A source of a base: one way to bring the base's tree into the object store.

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
    """The component's repository, into which a base is brought, and the means to do so.

    `label` names component and base in messages. `path` is the component's folder, relative to the project. `url` is
    its git host's, None if none is named. `prepare` creates the repository, and registers the submodule.
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
    """An upstream release: `files` (name -> sha256) are those of the package index.

    `model` is a base of another release, whose description this one follows.
    """

    model: Base
    version: Version
    files: Mapping[str, str]
    commit: str | None

    def renamed(self, text: str) -> str:
        """Return a text of the model with this release's version in it."""
        return text.replace(self.model.name.removeprefix("v"), str(self.version))


class NotObtained(SourceUnavailable):
    """This source cannot give the base; `why` is a short reason, for the report of the source used instead."""

    def __init__(self, message: str, *, why: str = "", remedy: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy=remedy, details=details)
        self.why = why or message


class Source(ABC):
    """One entry of base.toml that gives the base's tree.

    `covers` are globs of the paths that this source has (empty: all). `tree` and `patched_tree` are the recorded
    git tree ids before and after the series, None if none is recorded.
    """

    kind: ClassVar[str]
    """The name in `--source`, in reports and in the state of a work tree."""
    record: ClassVar[str]
    """The noun for its entry in base.toml: `commit`, `archive`."""
    has_history: ClassVar[bool] = False
    """True if its commits have upstream's commits as ancestors."""

    covers: tuple[str, ...]
    tree: str | None
    patched_tree: str | None

    @classmethod
    @abstractmethod
    def parse(cls, table: Table) -> Self | None:
        """Return the source that a base.toml records, or None; breaches become findings of the table."""

    @classmethod
    @abstractmethod
    def erase(cls, text: str) -> str:
        """Return the text of a base.toml without this kind of source."""

    @classmethod
    @abstractmethod
    def of_release(cls, release: Release) -> Self | None:
        """Return the source of another release, or None if the release has none of this kind."""

    @classmethod
    @abstractmethod
    def stored_releases(cls, git: Git, model: Base) -> Iterable[tuple[str, Self]]:
        """Return the releases, (name, source), that the repository holds although no base.toml records them."""

    @abstractmethod
    def write(self, text: str) -> str:
        """Return the text of a base.toml with this source; its comments and order stay."""

    def with_trees(self, tree: str, patched_tree: str) -> Self:
        """Return the source with other recorded trees."""
        assert is_dataclass(self)
        return replace(self, tree=tree, patched_tree=patched_tree)

    @abstractmethod
    def commit_in(self, git: Git) -> str | None:
        """Return the base's commit in the repository, or None if it is not there; uses no network."""

    @abstractmethod
    def fetch(self, destination: Destination) -> str:
        """Bring the base's commit into the repository and return its id.

        Raises:
            NotObtained: it is not available; the next kind of source may have it.
            PatchsetError: it must not be used, or the machine lacks something.
        """

    @property
    @abstractmethod
    def stored_why(self) -> str:
        """The reason, in a few words, to take a base that is already in the repository from there."""

    @property
    @abstractmethod
    def fetched_why(self) -> str:
        """The reason, in a few words, to fetch a base from this source."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The source in words, for messages."""

    @property
    def upstream_commit(self) -> str | None:
        """Upstream's own commit of the base, or None if the source does not record it."""
        return None

    @property
    def index_project(self) -> str | None:
        """The project of the package index whose files list upstream's releases, or None."""
        return None
