"""The releases of a component: recorded as bases, stored in its repository, or listed by a package index.

A release is described as a base is, after the model of one that is recorded: the same project, file name and
excluded members, with the version in them replaced.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from patchset.model.component import Base, Component, Release, Wheel
from patchset.sources.acquire import present
from patchset.sources.kinds import kinds
from patchset.store.git import Git
from toolkit.errors import SourceUnavailable
from toolkit.files import replace_file, sha256_of
from toolkit.progress import Reporter

if TYPE_CHECKING:
    from patchset.sources.registry import RemoteFile

NAME = "releases.json"


def version_of(name: str) -> Version | None:
    """Return a release's version, or None for a name that is no version, or that of a pre-release."""
    try:
        version = Version(name)
    except InvalidVersion:
        return None
    return None if version.is_prerelease or version.is_devrelease or version.local else version


def list_files(project: str, private: Path, reporter: Reporter, *, offline: bool) -> Mapping[str, str]:
    """Return the files of `project` on the package indexes, name -> sha256, and remember them for other runs.

    With `offline`, or where no index answers, return the remembered listing, which may be empty.
    """
    file = private / NAME
    remembered: dict[str, dict[str, str]] = {}
    with contextlib.suppress(OSError, ValueError):
        remembered = json.loads(file.read_bytes())
    if offline:
        return remembered.get(project, {})
    # Imported here: what talks to a network takes longer to load than a series to rebase.
    from patchset.sources.registry import Registry

    with reporter.task(f"ask for the releases of {project}"):
        try:
            listed = Registry(note=reporter.note).listed(project)
        except SourceUnavailable as error:
            known = "the remembered listing is used" if project in remembered else "local releases only"
            reporter.note(f"{error.message}; {known}")
            return remembered.get(project, {})
    files = {item.filename: sha256 for item in listed if (sha256 := item.sha256 or _hashed(item))}
    replace_file(file, json.dumps({**remembered, project: dict(sorted(files.items()))}, indent=1))
    return files


def _hashed(file: RemoteFile) -> str:
    """Return the sha256 of a file on this machine whose link names none, or "" for a file elsewhere."""
    from patchset.sources.urls import local_path

    path = local_path(file.url)
    return sha256_of(path) if path is not None and path.is_file() else ""


def model_of(component: Component, base: Base) -> Base:
    """Return the base after which other releases are described: `base`, or the newest one with a package index."""
    if base.index_project is not None:
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
    final = (version for version in sorted(versions) if version_of(str(version)) is not None)
    bases = (component.base(str(version)) or describe(model, version, files) for version in final)
    return [base for base in bases if base is not None]


def stored(component: Component, model: Base, git: Git) -> list[Base]:
    """Return the releases whose trees the repository has, oldest first: bases, and those that a source stored there."""
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
    """Return the commit of a release's tag, with or without `v`, on a git host; None where the host gives none."""
    from patchset.sources.submodule import list_tags

    plain = name.removeprefix("v")
    commits = list_tags(url, (plain, f"v{plain}"))
    return commits.get(name) or commits.get(plain) or commits.get(f"v{plain}")


def known(component: Component, model: Base, git: Git, files: Mapping[str, str]) -> list[Base]:
    """Return every final release that is recorded, stored or listed, oldest first, with its sources from all three."""
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
