"""Components and bases: frozen values of what `component.toml` and `base.toml` record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from patchset.model.source import Source


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
    """How the component becomes a wheel.

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
