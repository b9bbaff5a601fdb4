"""Components, their bases and the sources of a base: values of what `component.toml` and `base.toml` record.

A source is one way to bring a base's tree into the object store. Each kind of source is one class in
`patchset.sources` and one line in `patchset.sources.kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from patchset.store.git import Git
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter
from toolkit.tables import Table

if TYPE_CHECKING:
    from packaging.version import Version


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


@dataclass(frozen=True)
class Wheel:
    """An official prebuilt wheel that an overlay may start from; `platform` is its platform tag."""

    variant: str
    platform: str
    project: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class Base:
    """One upstream release, with the sources of its tree (one of a kind, the preferred first)."""

    name: str
    folder: Path
    sources: tuple[Source, ...] = ()
    wheels: tuple[Wheel, ...] = ()

    @property
    def recorded(self) -> bool:
        """True if a `base.toml` names the upstream tree."""
        return bool(self.sources)

    @property
    def commit(self) -> str | None:
        """Upstream's commit, None if it is not known."""
        return next((item.upstream_commit for item in self.sources if item.upstream_commit is not None), None)

    @property
    def index_project(self) -> str | None:
        """The project of the package index that lists upstream's releases, None if it is not known."""
        return next((item.index_project for item in self.sources if item.index_project is not None), None)

    def source(self, kind: str) -> Source | None:
        """Return the source of one kind, or None where none is recorded."""
        return next((item for item in self.sources if item.kind == kind), None)

    def with_source(self, source: Source) -> Base:
        """Return the base with a source in the place of the one of that kind, or beside the others."""
        others = tuple(item for item in self.sources if item.kind != source.kind)
        return replace(self, sources=(*others, source))


# What a source build can need of the machine.
NEEDS = ("compiler", "cuda", "memory")


@dataclass(frozen=True)
class Packaging:
    """The build of a component's wheel.

    `packages` are the globs of the files that the wheel ships, `compiled` those of the sources of compiled or generated
    content. `version_file` is the file inside the wheel that holds the version, if any. `environment` is set for a
    source build, with `{version}` replaced; the build needs `build_files` in the tree. `variants` are the source
    builds, the default first, each with its NEEDS; upstream's build reads the variant from the variable
    `variant_variable`. `job_memory` is the memory that one compile job needs, in GiB.
    """

    project: str
    packages: tuple[str, ...]
    compiled: tuple[str, ...]
    version_file: str | None
    environment: tuple[tuple[str, str], ...]
    build_files: tuple[str, ...]
    variant_variable: str | None
    variants: tuple[tuple[str, tuple[str, ...]], ...]
    job_memory: int


@dataclass(frozen=True)
class Component:
    """An upstream project; `path` is where its tree stands, relative to the project's root."""

    name: str
    path: str
    url: str | None
    pinned: str | None
    packaging: Packaging | None
    bases: tuple[Base, ...]

    def base(self, name: str) -> Base | None:
        """Return the base of that name; a leading `v` may be left out or added."""
        version = name.removeprefix("v")
        return next((base for base in self.bases if base.name.removeprefix("v") == version), None)

    def title(self, base: Base) -> str:
        """Return the name of a series, as commands take it: COMPONENT@BASE, or COMPONENT for a nameless base."""
        return f"{self.name}@{base.name}" if base.name else self.name
