"""`build`: the wheel of a series, an overlay of the official wheel or compiled from the patched tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from packaging.tags import platform_tags

from patchset.model.component import Packaging, Wheel
from patchset.sources import archive
from patchset.store.difference import diff
from patchset.store.objects import File, blobs
from patchset.wheels import overlay as overlays
from patchset.wheels import routes, sbom, source
from patchset.wheels.version import DIGITS, patched_version
from patchset.workflow.compute import PatchedTree, compute
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import BuildRefused, UsageError
from toolkit.files import sha256_of

Route = Literal["auto", "overlay", "source"]


@dataclass(frozen=True)
class BuildOptions:
    """The options of a build.

    `platform` and `variant` are None for this machine and the base's first variant. `cuda_arch` (`12.0` or
    `9.0;12.0`) and `jobs` are for source builds; None leaves them to the environment.
    """

    route: Route = "auto"
    out: Path = Path("dist")
    platform: str | None = None
    variant: str | None = None
    cuda_arch: str | None = None
    jobs: int | None = None


@dataclass(frozen=True)
class BuildReport:
    """A wheel and its origin; `why` is the reason for the route, `changed` the files of the wheel that differ.

    `replaced` is the sha256 of another wheel of the same name that it replaces: a series has one version, so its
    overlay and its source build for one platform have one name.
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


def build(workspace: Workspace, options: BuildOptions) -> BuildReport:
    """Build the wheel of a series.

    Raises:
        BuildRefused: the requested route cannot build it; names the patch and the other route.
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
        pattern = f"*patchset.{series.digest[:DIGITS]}-*.whl"
        before = {file.name: sha256_of(file) for file in options.out.glob(pattern)}
        job = _BuildJob(workspace, location, packaging, options)
        report = _source(job, "requested") if options.route == "source" else _overlay_or_source(job)
        old = before.get(Path(report.wheel).name, report.sha256)
        return replace(report, replaced=old) if old != report.sha256 else report


@dataclass(frozen=True)
class _BuildJob:
    workspace: Workspace
    location: Location
    packaging: Packaging
    options: BuildOptions


@dataclass(frozen=True)
class OverlayPlan:
    """An overlay before it is written: the official wheel, its changes, and the patched tree."""

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
    omitted = {item.name for item in selection.left_out if item.reason == routes.SOURCE_ONLY}
    base = workspace.acquire()
    patched = compute(location, series.without(omitted), base.unproven() if omitted else base)
    changes = shipped_changes(location, patched, packaging)
    name = overlays.wheel_name(wheel.filename)
    version = patched_version(name.version, series.digest)
    identity = sbom.identity_of(series, selection.patches, selection.left_out, (wheel.filename, wheel.sha256))
    document = sbom.document(wheel.project, version, name.version, identity, selection.patches)
    graft = overlays.Graft(changes, version, document, packaging.version_file)
    return OverlayPlan(wheel, graft, identity, patched.tree)


def shipped_changes(
    location: Location, patched: PatchedTree, packaging: Packaging
) -> Mapping[str, overlays.WheelChange]:
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


def _overlay_or_source(job: _BuildJob) -> BuildReport:
    """Build the overlay; with route `auto` build from source where no overlay can be built."""
    workspace, options = job.workspace, job.options
    try:
        routes.for_overlay(workspace.series, job.packaging)
        variant = routes.variant_of(workspace.component, workspace.base, options.variant)
        wheel = routes.official_wheel(workspace.base, variant, options.platform, tuple(platform_tags()))
    except BuildRefused as error:
        if options.route == "overlay":
            raise
        return _source(job, "; ".join((error.message, *error.details)))
    plan = plan_overlay(workspace, job.location, job.packaging, wheel)
    official = archive.download(wheel, workspace.reporter, workspace.offline)
    overlay = overlays.overlay(official, plan.graft, options.out, workspace.reporter)
    why = "requested" if options.route == "overlay" else "no patch changes what is compiled"
    return _report(why, overlay, plan.graft.version, plan.identity, plan.tree, plan.graft.changes)


def _source(job: _BuildJob, why: str) -> BuildReport:
    workspace, packaging, options, git = job.workspace, job.packaging, job.options, job.location.git
    series, base = workspace.series, workspace.acquire()
    patched = compute(job.location, series, base)
    upstream_version = series.base.name.removeprefix("v")
    version = patched_version(upstream_version, series.digest)
    order = source.SourceBuild(
        title=series.title,
        git=git,
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
    wheel = source.build(order, document, options.out, workspace.reporter)
    return _report(why, wheel, version, identity, patched.tree, diff(git, patched.base_commit, patched.tip))


def _report(
    why: str, wheel: Path, version: str, identity: sbom.Identity, tree: str, changes: Iterable[str]
) -> BuildReport:
    return BuildReport(
        component=identity.component,
        base=identity.base,
        route=identity.route,
        why=why,
        wheel=str(wheel),
        sha256=sha256_of(wheel),
        version=version,
        official=identity.official[0] if identity.official else None,
        tree=tree,
        patches=tuple(name for name, _ in identity.patches),
        left_out=identity.left_out,
        changed=tuple(sorted(changes)),
    )
