"""`rebase`: a series for another release, patch by patch, and a line for whatever became of each."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal

from patchset.engine.message import author_and_message
from patchset.engine.rebase import Replayed, Stopped, replay
from patchset.model.component import Base, Component, parse_base
from patchset.model.project import Project
from patchset.model.series import Entry
from patchset.rebasing import conflicts, explain
from patchset.rebasing import new_base as newbase
from patchset.rebasing.replay import Job, PatchFate, Transplant, line_of, series_text
from patchset.rebasing.session import Opened, Session, clean, load, save, under_way
from patchset.sources.acquire import Acquired, Mode, acquire
from patchset.store import merge as merging
from patchset.store.difference import comparer
from patchset.store.git import Git, require
from patchset.store.objects import NewCommit, blobs, new_file, write_commits
from patchset.workflow import changelog, folder
from patchset.workflow.apply import read_series, worktree_source
from patchset.workflow.compute import compute
from patchset.workflow.steps import Stack, acquire_alike, stack_of, unproved
from patchset.worktree import lock
from patchset.worktree.location import Location, locate
from toolkit.errors import IntegrityError, UsageError
from toolkit.finding import Finding, refuse
from toolkit.progress import Reporter


@dataclass(frozen=True)
class Report:
    """What a rebase did: `folder` is the new series, or with a conflict `work_tree` is where to resolve it.

    `remaining` are the patches after the one that conflicts; nobody knows of them yet.
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
    patches: tuple[PatchFate, ...]
    conflict: explain.Explained | None = None
    work_tree: str | None = None
    remaining: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def start(
    project: Project,
    component: Component,
    old: Base,
    wanted: str,
    mode: Mode,
    reporter: Reporter,
    *,
    offline: bool = False,
) -> Report:
    """Make the series of `old` a series for release `wanted`.

    A conflict is laid out in a work tree of its own, and is no error: the report tells of it.

    Raises:
        UsageError: the release is not to be had, or has a series; another rebase of the component is under way.
        PatchsetError: see `acquire` and `compute`. Nothing was changed then.
    """
    require()
    series = read_series(component, old)
    refuse(series.findings, series.title)
    location = locate(project.root, component)
    with lock.hold(location.lock_file, component.name):
        merging.clear(location.private)
        if (session := load(location)) is not None:
            if component.base(wanted) is None and session.base.removeprefix("v") == wanted.removeprefix("v"):
                return _again(project, component, location, session, reporter, offline)
            raise under_way(component, session)
        if not old.name:
            raise UsageError(
                f"the series of {component.name} names no release",
                remedy="put it into a folder of the release's name: patches/COMPONENT/RELEASE",
            )
        if (base := component.base(wanted)) is not None:
            raise UsageError(
                f"{component.name} has a series for {base.name} already",
                remedy=f"to make it anew, remove {base.folder.relative_to(project.root)} first; it is in git's history",
            )
        base = newbase.find(project.root, component, old, wanted, location, reporter, offline=offline)
        return _run(Job(project, component, location, series, base, mode, reporter, offline, {}))


def proceed(project: Project, component: Component, reporter: Reporter, *, offline: bool = False) -> Report:
    """Take the resolution from the work tree and go on.

    Raises:
        UsageError: no rebase is under way.
        PatchConflict: the conflict is not resolved yet.
    """
    with Opened(project, component) as (location, session):
        job = _job(project, component, location, session, reporter, offline)
        if session.conflict is not None:
            _take_resolution(job, session.conflict)
        return _run(job)


def skip(project: Project, component: Component, reason: str, reporter: Reporter, *, offline: bool = False) -> Report:
    """Leave the patch that conflicts out of the new series, and go on.

    Raises:
        UsageError: no rebase is under way, or it has no conflict.
    """
    with Opened(project, component) as (location, session):
        if session.conflict is None:
            raise UsageError("no patch conflicts at the moment", remedy="run --continue")
        session = replace(session, skips={**session.skips, session.conflict: reason}, conflict=None)
        save(location, session)
        return _run(_job(project, component, location, session, reporter, offline))


def abort(project: Project, component: Component) -> Session:
    """End a rebase; its work tree goes, everything else is as it was before. Resolutions stay remembered."""
    with Opened(project, component) as (location, session):
        clean(project.root, location)
        return session


def _job(
    project: Project, component: Component, location: Location, session: Session, reporter: Reporter, offline: bool
) -> Job:
    old = component.base(session.from_base)
    if old is None:
        raise UsageError(
            f"{component.name} has no base {session.from_base} any more", remedy="--abort, then start anew"
        )
    series = read_series(component, old)
    refuse(series.findings, series.title)
    findings: list[Finding] = []
    draft = parse_base(location.private / "rebase" / session.base, findings)
    base = replace(draft, folder=old.folder.parent / session.base)
    return Job(project, component, location, series, base, session.mode, reporter, offline, session.skips)


def _again(
    project: Project, component: Component, location: Location, session: Session, reporter: Reporter, offline: bool
) -> Report:
    """Tell once more of the conflict that is waiting; its work tree is left as the user has it."""
    return _run(_job(project, component, location, session, reporter, offline), waiting=session.conflict)


def _run(job: Job, waiting: str | None = None) -> Report:
    base = job.base
    theirs, ours = _sources(job)
    stack = stack_of(job.location, job.series, theirs)
    onto = job.location.git.tree_of(ours.commit) or ""
    with merging.scratch(job.location.git, job.location.private) as git, comparer(git) as compare:
        resolutions = job.resolutions
        done, stopped = replay(
            stack.steps,
            onto,
            partial(merging.merge, git),
            lambda step, merged: resolutions.find(git, merged),
            job.skips,
            partial(explain.stones, job, git, theirs.kind),
        )
        made = Transplant(job, stack, git, compare, onto)
        results = {item.step.name: made.patch(item) for item in done}
        if stopped is not None:
            explained = explain.explain(job, stack, git, stopped)
            report = _report(job, ours, stack, onto, made.all(results), explained)
            if waiting != stopped.step.name or not conflicts.place_of(job.project.root, job.location).folder.is_dir():
                _lay_out(job, git, ours, stack, done, stopped, made)
            return report
        tree = done[-1].after if done else onto
        fates, files = made.all(results), made.files(results)
    new = _write(job, ours, tree, fates, files, made.parked)
    clean(job.project.root, job.location)
    report = _report(job, ours, stack, onto, fates, None)
    return replace(report, patched_tree=new, folder=str(base.folder.relative_to(job.project.root)))


def _sources(job: Job) -> tuple[Acquired, Acquired]:
    """Return the two bases, in the store; where base.toml records none, the old one is what the work tree holds."""
    git, old = job.location.git, job.series.base
    if old.recorded:
        theirs, ours = acquire_alike(
            job.project.root, job.component, (old, job.base), git, job.mode, job.reporter, offline=job.offline
        )
        return theirs, ours
    theirs = worktree_source(job.location, job.series)
    return theirs, acquire(
        job.project.root, job.component, job.base, git, "submodule", job.reporter, offline=job.offline
    )


def _lay_out(
    job: Job, git: Git, ours: Acquired, stack: Stack, done: list[Replayed], stopped: Stopped, made: Transplant
) -> None:
    """Write the session and the conflict's work tree; the session names the conflict when that is complete."""
    location = job.location
    session = Session(job.series.base.name, job.base.name, job.mode, dict(job.skips), None)
    draft = job.private / job.base.name
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "base.toml").write_text(newbase.write_toml(job.base, job.series.base))
    save(location, session)
    commit = _commits(job, git, ours, done, made)
    # Git needs these objects for as long as the user works: they go into the repository itself.
    permanent = replace(location.git, scratch=location.git.objects)
    tree = location.git.tree_of(commit) or ""
    step = next(item for item in stack.steps if item.name == stopped.step.name)
    way = partial(explain.stones, job, permanent, ours.kind)
    _, again = replay([step], tree, partial(merging.merge, permanent), stones=way)
    assert again is not None
    place = conflicts.place_of(job.project.root, location)
    conflicts.lay_out(place, commit, again.merged)
    save(location, replace(session, conflict=stopped.step.name))


def _commits(job: Job, git: Git, ours: Acquired, done: list[Replayed], made: Transplant) -> str:
    """Write the patches that are through as commits, so that the work tree's log shows them."""
    patches = {patch.name: patch for patch in job.series.patches}
    commits = []
    for item in done:
        if item.after == item.before:
            continue
        changes = made.compare.compare(item.before, item.after)
        contents = blobs(git, (entry.oid for _, entry in changes.values() if entry))
        files = {
            path: new_file(entry.mode, contents[entry.oid]) if entry else None for path, (_, entry) in changes.items()
        }
        commits.append(NewCommit(*author_and_message(patches[item.step.name]), files))
    if not commits:
        return ours.commit
    return write_commits(job.location.git, "refs/patchset/rebase", ours.commit, commits)[-1].commit


def _take_resolution(job: Job, name: str) -> None:
    """Remember how the user has resolved the conflict of patch `name`."""
    place = conflicts.place_of(job.project.root, job.location)
    if not place.folder.is_dir():
        return
    theirs, ours = _sources(job)
    stack = stack_of(job.location, job.series, theirs)
    onto = job.location.git.tree_of(ours.commit) or ""
    with merging.scratch(job.location.git, job.location.private) as git:
        find = job.resolutions.find
        _, stopped = replay(
            stack.steps,
            onto,
            partial(merging.merge, git),
            lambda step, merged: find(git, merged),
            job.skips,
            partial(explain.stones, job, git, theirs.kind),
        )
        if stopped is None or stopped.step.name != name:
            return
        tree = conflicts.resolved_tree(place, git, stopped.merged)
        job.resolutions.record(git, stopped.merged, tree)


def _write(
    job: Job,
    ours: Acquired,
    tree: str,
    fates: tuple[PatchFate, ...],
    files: list[tuple[Entry, bytes]],
    parked: frozenset[str],
) -> str:
    """Prove the new series by computing it, and let its folder appear; returns the patched tree."""
    base, old = job.base, job.series
    series = replace(
        old,
        base=base,
        folder=base.folder,
        entries=tuple(entry for entry, _ in files),
        files=tuple(data for _, data in files),
    )
    refuse(series.findings, series.title)
    made = compute(job.location, series, unproved(ours))
    if made.tree != tree:
        raise IntegrityError(
            f"the exported patches give tree {made.tree}, the merge gave {tree}",
            remedy="report this: the patches of the new series were not written",
        )
    onto = job.location.git.tree_of(ours.commit) or ""
    if ours.kind == "archive":
        assert base.archive is not None
        base = replace(base, archive=replace(base.archive, tree=onto, patched_tree=tree))
    else:
        base = replace(base, tree=onto, patched_tree=tree)
    contents: dict[str, bytes] = {"base.toml": newbase.write_toml(base, old.base).encode()}
    contents["series"] = series_text(old, files, parked).encode()
    carried = [*old.disabled, *(entry.name for entry in old.entries if entry.patch_name in parked)]
    contents |= {name: (old.folder / name).read_bytes() for name in carried}
    contents |= {entry.name: data for entry, data in files}
    lines = [line_of(item) for item in fates]
    lines += [f"{name}: commented out in `series`, and carried over as it is" for name in old.disabled]
    heading = f"Rebased from {old.base.name}" if old.base.name else "Rebased"
    text = changelog.title(job.component.name, base.name) + "\n" + changelog.section(heading, lines)
    contents[changelog.NAME] = text.encode()
    folder.write(base.folder, contents)
    return made.tree


def _report(
    job: Job,
    ours: Acquired,
    stack: Stack,
    onto: str,
    fates: tuple[PatchFate, ...],
    explained: explain.Explained | None,
) -> Report:
    place = conflicts.place_of(job.project.root, job.location)
    names = [entry.patch_name for entry in job.series.entries]
    return Report(
        component=job.component.name,
        from_base=job.series.base.name,
        base=job.base.name,
        outcome="rebased" if explained is None else "conflict",
        source=ours.kind,
        why=ours.why,
        folder=None,
        tree=onto,
        patched_tree=None,
        patches=fates,
        conflict=explained,
        work_tree=None if explained is None else os.path.relpath(place.folder, job.project.root),
        remaining=() if explained is None else tuple(names[names.index(explained.patch) + 1 :]),
    )
