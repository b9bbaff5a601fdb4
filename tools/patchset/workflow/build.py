"""`build`: a series becomes a wheel, as an overlay of the official one or compiled from the patched tree."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from patchset.model.component import Base, Component, Packaging, Wheel
from patchset.model.project import Project
from patchset.model.series import Series
from patchset.sources import archive
from patchset.sources.acquire import Acquired, Mode, acquire
from patchset.store.difference import diff
from patchset.store.git import require
from patchset.store.objects import File, blobs
from patchset.wheels import overlay as overlays
from patchset.wheels import routes, sbom
from patchset.wheels.version import DIGITS, patched_version
from patchset.workflow.apply import read_series
from patchset.workflow.compute import Computed, compute
from patchset.worktree import lock
from patchset.worktree.location import Location, locate
from toolkit.errors import BuildRefused, UsageError
from toolkit.finding import refuse
from toolkit.progress import Reporter

Route = Literal["auto", "overlay", "source"]


@dataclass(frozen=True)
class Options:
    """What a build is asked for.

    `platform` and `variant` are None for this machine and the base's first; `cuda_arch` (`12.0` or
    `9.0;12.0`) and `jobs` are for source builds, None to leave them to the environment.
    """

    route: Route = "auto"
    out: Path = Path("dist")
    platform: str | None = None
    variant: str | None = None
    source: Mode = "auto"
    offline: bool = False
    cuda_arch: str | None = None
    jobs: int | None = None


@dataclass(frozen=True)
class Built:
    """A wheel that was built; `why` tells why this route, `changed` the files of the wheel that differ.

    `replaced` is the sha256 of the other wheel that lay under the same name: a series has one version, so its overlay
    and its source build for one platform are called the same.
    """

    component: str
    base: str
    route: str
    why: str
    wheel: str
    sha256: str
    version: str
    official: str | None
    tree: str
    patches: tuple[str, ...]
    left_out: tuple[sbom.LeftOut, ...]
    changed: tuple[str, ...]
    replaced: str | None = None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def build(project: Project, component: Component, base: Base, options: Options, reporter: Reporter) -> Built:
    """Build the wheel of a series.

    Raises:
        BuildRefused: the asked route cannot make it; names the patch and the other route.
        BuildFailed: the component's own build system failed.
        PatchsetError: see `acquire` and `compute`.
    """
    require()
    packaging = component.packaging
    if packaging is None:
        raise UsageError(
            f"{component.name} has no [wheel] table in component.toml",
            remedy="describe how it becomes a wheel (docs/formats.md)",
        )
    series = read_series(component, base)
    refuse(series.findings, series.title)
    location = locate(project.root, component)
    get = Get(options.source, options.offline, reporter)
    job = _Job(project, location, series, packaging, options, get)
    with lock.hold(location.lock_file, component.name):
        there = {file.name: _sha256(file) for file in options.out.glob(f"*patchset.{series.digest[:DIGITS]}-*.whl")}
        made = _build(job)
        before = there.get(Path(made.wheel).name, made.sha256)
        return replace(made, replaced=before) if before != made.sha256 else made


@dataclass(frozen=True)
class Get:
    """How a base is brought into the store."""

    source: Mode
    offline: bool
    reporter: Reporter

    def base(self, project: Project, location: Location, series: Series) -> Acquired:
        return acquire(
            project.root, series.component, series.base, location.git, self.source, self.reporter, offline=self.offline
        )


@dataclass(frozen=True)
class _Job:
    project: Project
    location: Location
    series: Series
    packaging: Packaging
    options: Options
    get: Get


def _build(job: _Job) -> Built:
    options, series = job.options, job.series
    if options.route == "source":
        return _source(job, "asked for")
    try:
        routes.for_overlay(series, job.packaging)
        wheel = _official(series.component, series.base, options)
    except BuildRefused as error:
        if options.route == "overlay":
            raise
        return _source(job, "; ".join((error.message, *error.details)))
    return _overlay(job, wheel, "asked for" if options.route == "overlay" else "no patch changes what is compiled")


def _official(component: Component, base: Base, options: Options) -> Wheel:
    from packaging.tags import platform_tags

    variant = routes.variant_of(component, base, options.variant)
    return routes.official_wheel(base, variant, options.platform, tuple(platform_tags()))


@dataclass(frozen=True)
class Plan:
    """An overlay before it is written: the official wheel, what changes in it, and the patched tree."""

    wheel: Wheel
    graft: overlays.Graft
    identity: sbom.Identity
    tree: str


def plan_overlay(
    project: Project, location: Location, series: Series, packaging: Packaging, wheel: Wheel, get: Get
) -> Plan:
    """Work out the overlay of `wheel`; the component's lock is held.

    A series that leaves source-only patches out has no recorded tree: its blobs prove it.

    Raises:
        BuildRefused: a patch changes what is compiled.
    """
    selection = routes.for_overlay(series, packaging)
    dropped = {item.name for item in selection.left_out if item.reason == routes.SOURCE_ONLY}
    base = get.base(project, location, series)
    made = compute(location, without(series, dropped), replace(base, patched_tree=None) if dropped else base)
    changes = shipped_changes(location, made, packaging)
    name = overlays.wheel_name(wheel.filename)
    version = patched_version(name.version, series.digest)
    identity = sbom.identity_of(series, selection.patches, selection.left_out, (wheel.filename, wheel.sha256))
    document = sbom.document(wheel.project, version, name.version, identity, selection.patches)
    return Plan(wheel, overlays.Graft(changes, version, document, packaging.version_file), identity, made.tree)


def shipped_changes(location: Location, made: Computed, packaging: Packaging) -> Mapping[str, overlays.WheelChange]:
    """Return every shipped file that differs between a base and its patched tree."""
    found = {
        path: pair
        for path, pair in diff(location.git, made.base_commit, made.tip).items()
        if routes.matches(path, packaging.packages)
    }
    contents = blobs(location.git, (after.oid for _, after in found.values() if after))
    return {
        path: overlays.WheelChange(
            before.oid if before else None,
            File(after.mode, after.oid, contents[after.oid]) if after else None,
        )
        for path, (before, after) in found.items()
    }


def without(series: Series, names: set[str]) -> Series:
    """Return the series less some patches."""
    if not names:
        return series
    kept = [at for at, entry in enumerate(series.entries) if entry.patch_name not in names]
    return replace(
        series, entries=tuple(series.entries[at] for at in kept), files=tuple(series.files[at] for at in kept)
    )


def _overlay(job: _Job, wheel: Wheel, why: str) -> Built:
    plan = plan_overlay(job.project, job.location, job.series, job.packaging, wheel, job.get)
    official = archive.download(wheel, job.get.reporter, job.get.offline)
    made = overlays.overlay(official, plan.graft, job.options.out, job.get.reporter)
    return Built(
        component=job.series.component.name,
        base=job.series.base.name,
        route="overlay",
        why=why,
        wheel=str(made),
        sha256=_sha256(made),
        version=plan.graft.version,
        official=wheel.filename,
        tree=plan.tree,
        patches=tuple(name for name, _ in plan.identity.patches),
        left_out=plan.identity.left_out,
        changed=tuple(sorted(plan.graft.changes)),
    )


def _source(job: _Job, why: str) -> Built:
    from patchset.wheels import source

    series, packaging, options, location = job.series, job.packaging, job.options, job.location
    base = job.get.base(job.project, location, series)
    made = compute(location, series, base)
    upstream_version = series.base.name.removeprefix("v")
    version = patched_version(upstream_version, series.digest)
    order = source.SourceBuild(
        title=series.title,
        git=location.git,
        commit=made.tip,
        kind=base.kind,
        packaging=packaging,
        version=version,
        variant=options.variant,
        cuda_arch=options.cuda_arch,
        jobs=options.jobs,
    )
    selection = routes.for_source(series, packaging)
    identity = sbom.identity_of(series, selection.patches, selection.left_out, None)
    document = sbom.document(packaging.project, version, upstream_version, identity, selection.patches)
    wheel = source.build(order, document, options.out, job.get.reporter)
    return Built(
        component=series.component.name,
        base=series.base.name,
        route="source",
        why=why,
        wheel=str(wheel),
        sha256=_sha256(wheel),
        version=version,
        official=None,
        tree=made.tree,
        patches=tuple(patch.name for patch in selection.patches),
        left_out=selection.left_out,
        changed=tuple(sorted(diff(location.git, made.base_commit, made.tip))),
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
