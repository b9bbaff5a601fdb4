"""`rebase`: a series for another release, patch by patch, and a line for the outcome of each."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal

from patchset.engine.message import author_and_message
from patchset.engine.replay import ReplayConflict, ReplayedStep, replay
from patchset.model.series import PatchFile
from patchset.project.base_toml import NAME as BASE_TOML
from patchset.project.base_toml import base_text, parse_base, read_text
from patchset.rebasing import conflicts, explain, new_base, session
from patchset.rebasing.job import RebaseJob
from patchset.rebasing.outcomes import NewSeries, PatchOutcome
from patchset.rebasing.session import RebaseSession, open_session
from patchset.sources.acquire import StoredBase
from patchset.store import merge as merging
from patchset.store.difference import Comparer, comparer
from patchset.store.git import Git
from patchset.store.objects import NewCommit, blobs, new_file, write_commits
from patchset.workflow import changelog, folder
from patchset.workflow.checkout import Checkout
from patchset.workflow.compute import compute
from patchset.workflow.series_file import series_text
from patchset.workflow.steps import Stack, stack_of
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import IntegrityError, UsageError
from toolkit.files import replace_file
from toolkit.finding import Finding, refuse


@dataclass(frozen=True)
class RebaseReport:
    """The result of a rebase: `folder` is the new series, or with a conflict `work_tree` is where to resolve it.

    `remaining` are the patches after the one that conflicts, which are not replayed yet.
    """

    component: str
    from_base: str
    base: str
    outcome: Literal["rebased", "conflict"]
    source: str
    why: str
    folder: str | None
    tree: str
    patched_tree: str | None
    patches: tuple[PatchOutcome, ...]
    conflict: explain.ConflictReport | None = None
    work_tree: str | None = None
    remaining: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def start(workspace: Workspace, wanted: str) -> RebaseReport:
    """Make the series of the workspace's base a series for release `wanted`.

    A conflict is laid out in a work tree of its own, and is no error: the report describes it. Where the same rebase
    is under way already, its conflict is reported once more.

    Raises:
        UsageError: the release is not to be had, or has a series; another rebase of the component is under way.
        PatchsetError: see `acquire` and `compute`. Nothing was changed then.
    """
    component, old = workspace.component, workspace.base
    with workspace.open() as (location, series):
        if (unfinished := session.load(location)) is not None:
            if component.base(wanted) is None and unfinished.base.removeprefix("v") == wanted.removeprefix("v"):
                return _run(_resumed(workspace, location, unfinished), waiting=unfinished.conflict)
            raise session.under_way(component, unfinished)
        if not old.name:
            raise UsageError(
                f"the series of {component.name} names no release",
                remedy="put it into a folder of the release's name: patches/COMPONENT/RELEASE",
            )
        if (base := component.base(wanted)) is not None:
            raise UsageError(
                f"{component.name} has a series for {base.name} already",
                remedy=f"to make it anew, remove {base.folder.relative_to(workspace.root)} first; "
                "it is in git's history",
            )
        return _run(RebaseJob(workspace, location, series, new_base.find(workspace, location, wanted)))


def proceed(workspace: Workspace) -> RebaseReport:
    """Take the resolution from the work tree and go on.

    Raises:
        UsageError: no rebase is under way.
        PatchConflict: the conflict is not resolved yet.
    """
    with open_session(workspace) as (location, unfinished):
        job = _resumed(workspace, location, unfinished)
        if unfinished.conflict is not None:
            _record_resolution(job, unfinished.conflict)
        return _run(job)


def skip(workspace: Workspace, reason: str) -> RebaseReport:
    """Leave the patch that conflicts out of the new series, and go on.

    Raises:
        UsageError: no rebase is under way, or it has no conflict.
    """
    with open_session(workspace) as (location, unfinished):
        if unfinished.conflict is None:
            raise UsageError("no patch conflicts at the moment", remedy="run --continue")
        skips = {**unfinished.skips, unfinished.conflict: reason}
        unfinished = replace(unfinished, skips=skips, conflict=None)
        session.save(location, unfinished)
        return _run(_resumed(workspace, location, unfinished))


def abort(workspace: Workspace) -> RebaseSession:
    """End a rebase; its work tree goes, everything else is as it was before. Resolutions stay remembered."""
    with open_session(workspace) as (location, unfinished):
        session.clean(workspace.root, location)
        return unfinished


def _resumed(workspace: Workspace, location: Location, unfinished: RebaseSession) -> RebaseJob:
    """Return the job of a rebase that is under way."""
    old = workspace.component.base(unfinished.from_base)
    if old is None:
        raise UsageError(
            f"{workspace.component.name} has no base {unfinished.from_base} any more",
            remedy="--abort, then start anew",
        )
    workspace = replace(workspace, base=old, source=unfinished.mode)
    refuse(workspace.series.findings, workspace.series.title)
    findings: list[Finding] = []
    draft = parse_base(location.private / "rebase" / unfinished.base, findings)
    base = replace(draft, folder=old.folder.parent / unfinished.base)
    return RebaseJob(workspace, location, workspace.series, base, unfinished.skips)


def _run(job: RebaseJob, waiting: str | None = None) -> RebaseReport:
    """Replay the series: write the new one, or lay out the first conflict.

    The work tree of the conflict of patch `waiting` is left as the user has it.
    """
    theirs, ours = _bases(job)
    stack = stack_of(job.location, job.series, theirs)
    onto = job.location.git.tree_of(ours.commit) or ""
    with merging.scratch(job.location.git, job.location.private) as git, comparer(git) as compare:
        steps, stopped = _replay(job, stack, git, onto)
        series = NewSeries(job, stack, git, compare, steps)
        outcomes = series.outcomes()
        if stopped is not None:
            conflict = explain.explain(job, stack, git, stopped)
            if waiting != stopped.step.name or not job.conflict_tree.folder.is_dir():
                commit = _write_commits(job, git, compare, ours, steps)
                _lay_out(job, stack, stopped, ours, commit)
            return _report(job, ours, onto, outcomes, conflict)
        tree = steps[-1].after if steps else onto
        files, parked = series.files(), series.parked
    _write(job, ours, tree, outcomes, files, parked)
    session.clean(job.workspace.root, job.location)
    report = _report(job, ours, onto, outcomes, None)
    return replace(report, patched_tree=tree, folder=str(job.base.folder.relative_to(job.workspace.root)))


def _bases(job: RebaseJob) -> tuple[StoredBase, StoredBase]:
    """Return the two bases, in the store; where base.toml records none, the old one is what the work tree holds."""
    if job.series.base.recorded:
        theirs, ours = job.workspace.acquire_alike((job.series.base, job.base))
        return theirs, ours
    theirs = Checkout(job.location).worktree_base()
    return theirs, job.workspace.acquire(job.base, theirs.comparable)


def _replay(job: RebaseJob, stack: Stack, git: Git, onto: str) -> tuple[list[ReplayedStep], ReplayConflict | None]:
    find, releases = job.resolutions.find, partial(_intermediate, job, stack)
    merge = partial(merging.merge, git)
    return replay(stack.steps, onto, merge, lambda merged: find(git, merged), job.skips, releases)


def _intermediate(job: RebaseJob, stack: Stack) -> list[tuple[str, str]]:
    return [(item.base.name, item.tree) for item in job.intermediate(stack.base.comparable)]


def _lay_out(job: RebaseJob, stack: Stack, stopped: ReplayConflict, ours: StoredBase, commit: str) -> None:
    """Write the session and the conflict's work tree on `commit`; once that is complete, the session names it."""
    location, name = job.location, stopped.step.name
    unfinished = RebaseSession(job.series.base.name, job.base.name, job.workspace.source, dict(job.skips), None)
    replace_file(job.private / job.base.name / BASE_TOML, base_text(job.base, read_text(job.series.base)))
    session.save(location, unfinished)
    # Git needs these objects for as long as the user works: they go into the repository itself.
    permanent = replace(location.git, scratch=location.git.objects)
    step = next(step for step in stack.steps if step.name == name)
    tree, releases = location.git.tree_of(commit) or "", partial(_intermediate, job, stack)
    _, again = replay([step], tree, partial(merging.merge, permanent), releases=releases)
    assert again is not None
    conflicts.lay_out(job.conflict_tree, commit, again.merged)
    session.save(location, replace(unfinished, conflict=name))


def _write_commits(job: RebaseJob, git: Git, compare: Comparer, ours: StoredBase, steps: list[ReplayedStep]) -> str:
    """Write the replayed patches as commits, so that the work tree's log shows them; return the last one."""
    patches = {patch.name: patch for patch in job.series.patches}
    commits = []
    for item in steps:
        if item.after == item.before:
            continue
        changes = compare.compare(item.before, item.after)
        contents = blobs(git, (entry.oid for _, entry in changes.values() if entry))
        files = {
            path: new_file(entry.mode, contents[entry.oid]) if entry else None for path, (_, entry) in changes.items()
        }
        commits.append(NewCommit(*author_and_message(patches[item.step.name]), files))
    if not commits:
        return ours.commit
    return write_commits(job.location.git, "refs/patchset/rebase", ours.commit, commits)[-1].commit


def _record_resolution(job: RebaseJob, name: str) -> None:
    """Remember how the user has resolved the conflict of patch `name`."""
    if not job.conflict_tree.folder.is_dir():
        return
    theirs, ours = _bases(job)
    stack = stack_of(job.location, job.series, theirs)
    with merging.scratch(job.location.git, job.location.private) as git:
        _, stopped = _replay(job, stack, git, job.location.git.tree_of(ours.commit) or "")
        if stopped is None or stopped.step.name != name:
            return
        tree = conflicts.resolved_tree(job.conflict_tree, git, stopped.merged)
        job.resolutions.record(git, stopped.merged, tree)


def _write(
    job: RebaseJob,
    ours: StoredBase,
    tree: str,
    outcomes: tuple[PatchOutcome, ...],
    files: list[PatchFile],
    parked: frozenset[str],
) -> None:
    """Prove the new series by computing it, and let its folder appear."""
    old, source = job.series, ours.source
    assert source is not None
    base = job.base.with_source(source.with_trees(job.location.git.tree_of(ours.commit) or "", tree))
    series = replace(old, base=base, folder=base.folder, patch_files=tuple(files))
    refuse(series.findings, series.title)
    patched = compute(job.location, series, ours.unproven())
    if patched.tree != tree:
        raise IntegrityError(
            f"the exported patches give tree {patched.tree}, the merge gave {tree}",
            remedy="report this: the patches of the new series were not written",
        )
    contents = {BASE_TOML: base_text(base, read_text(old.base)).encode()}
    contents["series"] = series_text(old, series.entries, parked).encode()
    carried = [*old.disabled, *(entry.name for entry in old.entries if entry.patch_name in parked)]
    contents |= {name: (old.folder / name).read_bytes() for name in carried}
    contents |= {entry.name: content for entry, content in files}
    lines = [item.changelog_line for item in outcomes]
    lines += [f"{name}: commented out in `series`, and carried over as it is" for name in old.disabled]
    heading = f"Rebased from {old.base.name}" if old.base.name else "Rebased"
    text = changelog.title(job.workspace.component.name, base.name) + "\n" + changelog.section(heading, lines)
    contents[changelog.NAME] = text.encode()
    folder.write(base.folder, contents)


def _report(
    job: RebaseJob,
    ours: StoredBase,
    onto: str,
    outcomes: tuple[PatchOutcome, ...],
    conflict: explain.ConflictReport | None,
) -> RebaseReport:
    names = [entry.patch_name for entry in job.series.entries]
    return RebaseReport(
        component=job.workspace.component.name,
        from_base=job.series.base.name,
        base=job.base.name,
        outcome="rebased" if conflict is None else "conflict",
        source=ours.kind,
        why=ours.why,
        folder=None,
        tree=onto,
        patched_tree=None,
        patches=outcomes,
        conflict=conflict,
        work_tree=None if conflict is None else os.path.relpath(job.conflict_tree.folder, job.workspace.root),
        remaining=() if conflict is None else tuple(names[names.index(conflict.patch) + 1 :]),
    )
