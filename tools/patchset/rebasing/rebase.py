"""`rebase`: a series for another release, patch by patch, and an outcome for each.

`start`, `proceed` and `skip` all lead to `_run`: it brings both bases into the repository, replays the series on the
new one, and writes the new series, or lays out the first conflict in a work tree. It begins anew each time: skipped
patches and remembered resolutions take it further than before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from patchset.engine.replay import ReplayConflict, ReplayedStep, merger, replay
from patchset.rebasing import conflicts, new_base, session
from patchset.rebasing.explain import ConflictReport, explain
from patchset.rebasing.job import RebaseJob
from patchset.rebasing.new_series import NewPatch, PatchOutcome, new_patches, write_series
from patchset.rebasing.session import RebaseSession, open_session
from patchset.sources.acquire import StoredBase
from patchset.store import merge as merging
from patchset.store.difference import comparer
from patchset.store.git import Git
from patchset.workflow.checkout import Checkout
from patchset.workflow.steps import Stack, stack_of
from patchset.workflow.workspace import Workspace
from toolkit.errors import UsageError


@dataclass(frozen=True)
class RebaseReport:
    """The result of a rebase: `folder` is that of the new series, `work_tree` that of a conflict to be resolved.

    `patches` are those that are replayed, `remaining` those after the conflicting one.
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
    conflict: ConflictReport | None = None
    work_tree: str | None = None
    remaining: tuple[str, ...] = ()


def start(workspace: Workspace, wanted: str) -> RebaseReport:
    """Make a series for release `wanted` from the series of the workspace's base.

    A conflict is laid out in a work tree of its own and is not an error: the report describes it. Where the same
    rebase is under way already, its conflict is reported once more.

    Raises:
        UsageError: the release cannot be had, or has a series; another rebase of the component is under way.
        PatchsetError: see `acquire` and `compute`; nothing was changed.
    """
    component, old = workspace.component, workspace.base
    with workspace.open() as (location, _):
        if (unfinished := session.load(location)) is not None:
            if component.base(wanted) is None and unfinished.base.removeprefix("v") == wanted.removeprefix("v"):
                return _run(session.resume(workspace, location, unfinished), waiting=unfinished.conflict)
            raise UsageError(
                f"a rebase of {component.name} from {unfinished.from_base} to {unfinished.base} is under way",
                remedy=f"patchset rebase {component.name} --continue, --skip REASON or --abort",
            )
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
        return _run(RebaseJob(workspace, location, new_base.find(workspace, location, wanted)))


def proceed(workspace: Workspace) -> RebaseReport:
    """Take the resolution from the conflict's work tree and go on.

    Raises:
        UsageError: no rebase is under way.
        PatchConflict: the conflict is not resolved yet.
    """
    with open_session(workspace) as (location, unfinished):
        job = session.resume(workspace, location, unfinished)
        if unfinished.conflict is not None:
            _record_resolution(job, unfinished.conflict)
        return _run(job)


def skip(workspace: Workspace, reason: str) -> RebaseReport:
    """Leave the conflicting patch out of the new series, and go on.

    Raises:
        UsageError: no rebase is under way, or it has no conflict.
    """
    with open_session(workspace) as (location, unfinished):
        if unfinished.conflict is None:
            raise UsageError("no patch conflicts at the moment", remedy="run --continue")
        job = session.resume(workspace, location, unfinished)
        job = replace(job, skips={**job.skips, unfinished.conflict: reason})
        session.save(job)
        return _run(job)


def abort(workspace: Workspace) -> RebaseSession:
    """End a rebase: remove its work tree; everything else is as before. Resolutions stay remembered."""
    with open_session(workspace) as (location, unfinished):
        session.clean(workspace.root, location)
        return unfinished


def _run(job: RebaseJob, waiting: str | None = None) -> RebaseReport:
    """Replay the series: write the new one, or lay out the first conflict.

    The work tree of the conflict of patch `waiting` is left as the user has it.
    """
    old, new = _bases(job)
    stack = stack_of(job.location, job.series, old)
    with merging.scratch(job.location.git, job.location.private) as git, comparer(git) as compare:
        steps, stopped = _replay(job, stack, git, new)
        patches = new_patches(job, stack, git, compare, steps)
        if stopped is not None:
            conflict = explain(job, stack, git, stopped)
            if waiting != stopped.step.name or not job.conflict_tree.folder.is_dir():
                tip = conflicts.commit_steps(job.series, git, compare, job.location.git, new.commit, steps)
                _lay_out(job, stack, stopped, tip)
            return _report(job, new, patches, conflict=conflict)
    tree = steps[-1].after if steps else new.tree
    write_series(job, new, tree, patches)
    session.clean(job.workspace.root, job.location)
    return _report(job, new, patches, patched_tree=tree)


def _bases(job: RebaseJob) -> tuple[StoredBase, StoredBase]:
    """Return the old and the new base, in the store; an old one without a base.toml is what the work tree holds."""
    if job.series.base.recorded:
        old, new = job.workspace.acquire_alike((job.series.base, job.base))
        return old, new
    old = Checkout(job.location).worktree_base()
    return old, job.workspace.acquire(job.base, old.comparable)


def _replay(
    job: RebaseJob, stack: Stack, git: Git, new: StoredBase
) -> tuple[list[ReplayedStep], ReplayConflict | None]:
    """Replay the series on the new base; skips and remembered resolutions are used."""
    resolve, releases = partial(job.resolutions.find, git), partial(job.intermediate_releases, stack.base.comparable)
    return replay(stack.steps, new.tree, merger(git), resolve, job.skips, releases)


def _lay_out(job: RebaseJob, stack: Stack, stopped: ReplayConflict, tip: str) -> None:
    """Lay out a conflict in its work tree, on the commit of the patch before it.

    The session names the conflict once the work tree is complete: a run that is killed before that lays it out again.
    """
    session.save(job)
    # Git needs the objects of this merge for as long as the user works: they go into the repository itself.
    permanent = replace(job.location.git, scratch=job.location.git.objects)
    step, releases = stack.step(stopped.step.name), partial(job.intermediate_releases, stack.base.comparable)
    _, again = replay([step], stopped.before, merger(permanent), releases=releases)
    assert again is not None
    conflicts.lay_out(job.conflict_tree, tip, again.merged)
    session.save(job, step.name)


def _record_resolution(job: RebaseJob, name: str) -> None:
    """Remember the user's resolution of the conflict of patch `name`.

    Raises:
        PatchConflict: it is not complete.
    """
    if not job.conflict_tree.folder.is_dir():
        return
    old, new = _bases(job)
    stack = stack_of(job.location, job.series, old)
    with merging.scratch(job.location.git, job.location.private) as git:
        _, stopped = _replay(job, stack, git, new)
        if stopped is not None and stopped.step.name == name:
            tree = conflicts.resolved_tree(job.conflict_tree, git, stopped.merged)
            job.resolutions.record(git, stopped.merged, tree)


def _report(
    job: RebaseJob,
    new: StoredBase,
    patches: Sequence[NewPatch],
    *,
    patched_tree: str | None = None,
    conflict: ConflictReport | None = None,
) -> RebaseReport:
    """Return the report of a finished rebase, or of one that stopped at a conflict."""
    root, names = job.workspace.root, [entry.patch_name for entry in job.series.entries]
    return RebaseReport(
        component=job.workspace.component.name,
        from_base=job.series.base.name,
        base=job.base.name,
        outcome="rebased" if conflict is None else "conflict",
        source=new.kind,
        why=new.why,
        folder=str(job.base.folder.relative_to(root)) if conflict is None else None,
        tree=new.tree,
        patched_tree=patched_tree,
        patches=tuple(item.outcome for item in patches),
        conflict=conflict,
        work_tree=None if conflict is None else os.path.relpath(job.conflict_tree.folder, root),
        remaining=() if conflict is None else tuple(names[names.index(conflict.patch) + 1 :]),
    )
