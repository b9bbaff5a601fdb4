"""`build`: a series becomes a wheel, as an overlay of the official one or compiled from the patched tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from patchset.model.component import Base, Component, Packaging, Wheel
from patchset.model.series import Series
from patchset.sources import archive
from patchset.store.difference import diff
from patchset.store.objects import File, blobs
from patchset.wheels import overlay as overlays
from patchset.wheels import routes, sbom
from patchset.wheels.version import DIGITS, patched_version
from patchset.workflow.compute import Computed, compute
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import BuildRefused, UsageError
from toolkit.files import sha256_of

Route = Literal["auto", "overlay", "source"]


@dataclass(frozen=True)
class BuildOptions:
    """The options of a build.

    `platform` and `variant` are None for this machine and the base's first; `cuda_arch` (`12.0` or
    `9.0;12.0`) and `jobs` are for source builds, None to leave them to the environment.
    """

    route: Route = "auto"
    out: Path = Path("dist")
    platform: str | None = None
    variant: str | None = None
    cuda_arch: str | None = None
    jobs: int | None = None


@dataclass(frozen=True)
class BuildReport:
    """A wheel and how it was built; `why` is the reason for the route, `changed` the files of the wheel that differ.

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


def build(workspace: Workspace, options: BuildOptions) -> BuildReport:
    """Build the wheel of a series.

    Raises:
        BuildRefused: the requested route cannot make it; names the patch and the other route.
        BuildFailed: the component's own build system failed.
        PatchsetError: see `acquire` and `compute`.
    """
    packaging = workspace.component.packaging
    if packaging is None:
        raise UsageError(
            f"{workspace.component.name} has no [wheel] table in component.toml",
            remedy="describe how it becomes a wheel (docs/formats.md)",
        )
    with workspace.open() as (location, series):
        digits = series.digest[:DIGITS]
        before = {file.name: sha256_of(file) for file in options.out.glob(f"*patchset.{digits}-*.whl")}
        report = _build(_BuildJob(workspace, location, series, packaging, options))
        replaced = before.get(Path(report.wheel).name, report.sha256)
        return replace(report, replaced=replaced) if replaced != report.sha256 else report


@dataclass(frozen=True)
class _BuildJob:
    workspace: Workspace
    location: Location
    series: Series
    packaging: Packaging
    options: BuildOptions


def _build(job: _BuildJob) -> BuildReport:
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


def _official(component: Component, base: Base, options: BuildOptions) -> Wheel:
    from packaging.tags import platform_tags

    variant = routes.variant_of(component, base, options.variant)
    return routes.official_wheel(base, variant, options.platform, tuple(platform_tags()))


@dataclass(frozen=True)
class OverlayPlan:
    """An overlay before it is written: the official wheel, what changes in it, and the patched tree."""

    wheel: Wheel
    graft: overlays.Graft
    identity: sbom.Identity
    tree: str


def plan_overlay(workspace: Workspace, location: Location, packaging: Packaging, wheel: Wheel) -> OverlayPlan:
    """Plan the overlay of `wheel`; the component's lock is held.

    A series that leaves source-only patches out has no recorded tree: its blobs prove it.

    Raises:
        BuildRefused: a patch changes what is compiled.
    """
    series = workspace.series
    selection = routes.for_overlay(series, packaging)
    dropped = {item.name for item in selection.left_out if item.reason == routes.SOURCE_ONLY}
    base = workspace.acquire()
    patched = compute(location, without(series, dropped), base.unproven() if dropped else base)
    changes = shipped_changes(location, patched, packaging)
    name = overlays.wheel_name(wheel.filename)
    version = patched_version(name.version, series.digest)
    identity = sbom.identity_of(series, selection.patches, selection.left_out, (wheel.filename, wheel.sha256))
    document = sbom.document(wheel.project, version, name.version, identity, selection.patches)
    return OverlayPlan(
        wheel, overlays.Graft(changes, version, document, packaging.version_file), identity, patched.tree
    )


def shipped_changes(location: Location, patched: Computed, packaging: Packaging) -> Mapping[str, overlays.WheelChange]:
    """Return every shipped file that differs between a base and its patched tree."""
    changes = {
        path: pair
        for path, pair in diff(location.git, patched.base_commit, patched.tip).items()
        if routes.matches(path, packaging.packages)
    }
    contents = blobs(location.git, (after.oid for _, after in changes.values() if after))
    return {
        path: overlays.WheelChange(
            before.oid if before else None,
            File(after.mode, after.oid, contents[after.oid]) if after else None,
        )
        for path, (before, after) in changes.items()
    }


def without(series: Series, names: set[str]) -> Series:
    """Return the series less some patches."""
    if not names:
        return series
    kept = [at for at, entry in enumerate(series.entries) if entry.patch_name not in names]
    return replace(
        series, entries=tuple(series.entries[at] for at in kept), files=tuple(series.files[at] for at in kept)
    )


def _overlay(job: _BuildJob, wheel: Wheel, why: str) -> BuildReport:
    workspace = job.workspace
    plan = plan_overlay(workspace, job.location, job.packaging, wheel)
    official = archive.download(wheel, workspace.reporter, workspace.offline)
    overlay = overlays.overlay(official, plan.graft, job.options.out, workspace.reporter)
    return BuildReport(
        component=job.series.component.name,
        base=job.series.base.name,
        route="overlay",
        why=why,
        wheel=str(overlay),
        sha256=sha256_of(overlay),
        version=plan.graft.version,
        official=wheel.filename,
        tree=plan.tree,
        patches=tuple(name for name, _ in plan.identity.patches),
        left_out=plan.identity.left_out,
        changed=tuple(sorted(plan.graft.changes)),
    )


def _source(job: _BuildJob, why: str) -> BuildReport:
    from patchset.wheels import source

    series, packaging, options, location = job.series, job.packaging, job.options, job.location
    base = job.workspace.acquire()
    patched = compute(location, series, base)
    upstream_version = series.base.name.removeprefix("v")
    version = patched_version(upstream_version, series.digest)
    order = source.SourceBuild(
        title=series.title,
        git=location.git,
        commit=patched.tip,
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
    wheel = source.build(order, document, options.out, job.workspace.reporter)
    return BuildReport(
        component=series.component.name,
        base=series.base.name,
        route="source",
        why=why,
        wheel=str(wheel),
        sha256=sha256_of(wheel),
        version=version,
        official=None,
        tree=patched.tree,
        patches=tuple(patch.name for patch in selection.patches),
        left_out=selection.left_out,
        changed=tuple(sorted(diff(location.git, patched.base_commit, patched.tip))),
    )
