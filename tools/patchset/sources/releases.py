"""Which releases a component has: recorded as bases, here in its repository, or listed by a package index.

A release is described as a base is, after the model of one that is recorded: the same project, file name and
excluded members, with the version in them replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from patchset.model.component import Base, Component, Release, Wheel
from patchset.sources.acquire import present
from patchset.sources.kinds import kinds
from patchset.store.git import Git
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter

if TYPE_CHECKING:
    from patchset.sources.registry import RemoteFile

NAME = "releases.json"


@dataclass(frozen=True)
class Listing:
    """What the package indexes list of one project: file name -> sha256. `fresh`: just asked, not remembered."""

    files: Mapping[str, str]
    fresh: bool


def version_of(name: str) -> Version | None:
    """Return a release's version, or None where its name is none, or is of a pre-release."""
    try:
        version = Version(name)
    except InvalidVersion:
        return None
    return None if version.is_prerelease or version.is_devrelease or version.local else version


def list_files(project: str, private: Path, reporter: Reporter, *, offline: bool) -> Listing:
    """Ask the package indexes what files `project` has; remember it for when there is no network.

    With `offline`, or where no index answers, that is what was remembered (nothing where nothing was).
    """
    file = private / NAME
    remembered: dict[str, dict[str, str]] = {}
    with contextlib.suppress(OSError, ValueError):
        remembered = json.loads(file.read_bytes())
    if offline:
        return Listing(remembered.get(project, {}), False)
    # Imported here: what talks to a network takes longer to load than a series to rebase.
    from patchset.sources.registry import Registry

    with reporter.task(f"ask for the releases of {project}"):
        try:
            listed = Registry(note=reporter.note).listed(project)
        except SourceUnavailable as error:
            known = "what was listed before is taken" if project in remembered else "known releases only"
            reporter.note(f"{error.message}; {known}")
            return Listing(remembered.get(project, {}), False)
    found = {item.filename: item.sha256 or _hashed(item) for item in listed}
    found = {filename: sha256 for filename, sha256 in found.items() if sha256}
    private.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps({**remembered, project: dict(sorted(found.items()))}, indent=1))
    os.replace(temporary, file)
    return Listing(found, True)


def _hashed(file: RemoteFile) -> str:
    """Return the sha256 of a file in a folder of links, which names none; "" where it is not on this machine."""
    from patchset.sources.download import sha256_of
    from patchset.sources.transport import local_path

    path = local_path(file.url)
    return sha256_of(path) if path is not None and path.is_file() else ""


def model_of(component: Component, base: Base | None = None) -> Base | None:
    """Return the base after which other releases are described: `base`, or the newest that the index lists."""
    if base is not None and base.index_project is not None:
        return base
    listed = [item for item in component.bases if item.index_project is not None and version_of(item.name)]
    return max(listed, key=lambda item: Version(item.name), default=base)


def named(model: Base, version: Version) -> str:
    """Return a release's name in the style of another's, with or without `v`."""
    return f"{'v' if model.name.startswith('v') else ''}{version}"


def describe(model: Base, version: Version, files: Mapping[str, str], commit: str | None = None) -> Base | None:
    """Return a release as a base, or None where no source of it is known."""
    release = Release(model, version, files, commit)
    sources = tuple(source for kind in kinds() if (source := kind.of_release(release)) is not None)
    name = named(model, version)
    return Base(name, model.folder.parent / name, sources) if sources else None


def wheels_of(model: Base, version: Version, files: Mapping[str, Mapping[str, str]]) -> tuple[Wheel, ...]:
    """Return the official wheels of a release that correspond to those of `model`; `files` are by project."""
    release = Release(model, version, {}, None)
    wheels = []
    for wheel in model.wheels:
        filename = release.renamed(wheel.filename)
        if filename in files.get(wheel.project, {}):
            wheels.append(replace(wheel, filename=filename, sha256=files[wheel.project][filename]))
    return tuple(wheels)


def published(component: Component, model: Base, files: Mapping[str, str]) -> list[Base]:
    """Return the final releases that the index lists and that `model` can describe, oldest first."""
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    versions = set()
    for filename in files:
        try:
            if filename.endswith(".whl"):
                versions.add(parse_wheel_filename(filename)[1])
            else:
                versions.add(parse_sdist_filename(filename)[1])
        except (InvalidSdistFilename, InvalidWheelFilename):
            continue
    found = []
    for version in sorted(versions):
        if version_of(str(version)) is None:
            continue
        recorded = component.base(str(version))
        base = recorded if recorded is not None else describe(model, version, files)
        if base is not None:
            found.append(base)
    return found


def stored(component: Component, model: Base, git: Git) -> list[Base]:
    """Return the releases whose trees the repository has, oldest first: recorded, imported, or tagged in it."""
    if not (git.gitdir / "HEAD").exists():
        return []
    releases: dict[Version, Base] = {}
    for base in component.bases:
        version = version_of(base.name)
        if version is not None and present(git, base) is not None:
            releases[version] = base
    recorded = frozenset(releases)
    for kind in kinds():
        for name, source in kind.stored_releases(git, model):
            version = version_of(name)
            if version is not None and version not in recorded:
                base = releases.get(version, Base(named(model, version), model.folder.parent / named(model, version)))
                releases[version] = base.with_source(source)
    return [releases[version] for version in sorted(releases)]


def tagged_commit(url: str, name: str) -> str | None:
    """Ask a git host for the commit of a release's tag, with or without `v`; None where it gives none."""
    from patchset.sources.submodule import list_tags

    plain = name.removeprefix("v")
    found = list_tags(url, (plain, f"v{plain}"))
    return found.get(name) or found.get(plain) or found.get(f"v{plain}")


def known(component: Component, model: Base, git: Git, files: Mapping[str, str]) -> list[Base]:
    """Return every final release that is stored or listed, oldest first; with what is known of it from both."""
    releases = {Version(base.name): base for base in published(component, model, files)}
    for base in stored(component, model, git):
        listed = releases.get(Version(base.name), base)
        missing = (source for source in base.sources if listed.source(source.kind) is None)
        releases[Version(base.name)] = reduce(Base.with_source, missing, listed)
    for base in component.bases:
        version = version_of(base.name)
        if version is not None and base.recorded:
            releases.setdefault(version, base)
    return [releases[version] for version in sorted(releases)]
