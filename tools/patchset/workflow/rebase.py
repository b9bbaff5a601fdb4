"""`rebase`: a series for another release, patch by patch, and a line for whatever became of each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from patchset.engine import export, fate
from patchset.engine.message import author_and_message
from patchset.engine.rebase import Replayed, Stopped, replay
from patchset.engine.renames import pair
from patchset.errors import IntegrityError, UsageError
from patchset.model.component import Base, Component, parse_base
from patchset.model.finding import refuse
from patchset.model.patch import Patch, parse
from patchset.model.project import Project
from patchset.model.series import Entry, Series
from patchset.progress import Reporter
from patchset.sources.acquire import Acquired, Mode, acquire
from patchset.store import merge as merging
from patchset.store.difference import Changes, Comparer, comparer, patch_text
from patchset.store.git import Git, require
from patchset.store.objects import NewCommit, blobs, new_file, write_commits
from patchset.workflow import changelog, conflicts, explain, folder, newbase
from patchset.workflow.apply import read_series, worktree_source
from patchset.workflow.compute import compute
from patchset.workflow.resolutions import Resolutions
from patchset.workflow.steps import Stack, acquire_alike, stack_of, unproved
from patchset.worktree import lock
from patchset.worktree.location import Location, locate


@dataclass(frozen=True)
class PatchFate:
    """What became of a patch; `release` is the first release at hand that has what upstream took over.

    `applies_to` is its new range of releases where that had to be widened, `resolved` that its conflict was resolved
    by hand, now or before.
    """

    name: str
    fate: str
    detail: str = ""
    moved: Mapping[str, str] = field(default_factory=dict)
    landed: tuple[str, ...] = ()
    interdiff: str = ""
    release: str | None = None
    applies_to: str | None = None
    resolved: bool = False


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


@dataclass(frozen=True)
class Session:
    """A rebase that waits for its user: the two bases, what is skipped and why, and the patch that conflicts."""

    from_base: str
    base: str
    mode: Mode
    skips: dict[str, str]
    conflict: str | None


@dataclass(frozen=True)
class Job:
    """What a rebase works on; `get` is how its bases are brought here."""

    project: Project
    component: Component
    location: Location
    series: Series
    base: Base
    mode: Mode
    reporter: Reporter
    offline: bool
    skips: Mapping[str, str]

    @property
    def private(self) -> Path:
        return self.location.private / "rebase"

    @property
    def resolutions(self) -> Resolutions:
        return Resolutions(self.location.private / "resolutions")


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
            raise _under_way(component, session)
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
    with _Session(project, component) as (location, session):
        job = _job(project, component, location, session, reporter, offline)
        if session.conflict is not None:
            _take_resolution(job, session.conflict)
        return _run(job)


def skip(project: Project, component: Component, reason: str, reporter: Reporter, *, offline: bool = False) -> Report:
    """Leave the patch that conflicts out of the new series, and go on.

    Raises:
        UsageError: no rebase is under way, or it has no conflict.
    """
    with _Session(project, component) as (location, session):
        if session.conflict is None:
            raise UsageError("no patch conflicts at the moment", remedy="run --continue")
        session = replace(session, skips={**session.skips, session.conflict: reason}, conflict=None)
        save(location, session)
        return _run(_job(project, component, location, session, reporter, offline))


def abort(project: Project, component: Component) -> Session:
    """End a rebase; its work tree goes, everything else is as it was before. Resolutions stay remembered."""
    with _Session(project, component) as (location, session):
        _clean(project.root, location)
        return session


class _Session:
    """The lock and the session of a rebase that is under way."""

    def __init__(self, project: Project, component: Component) -> None:
        require()
        self._location = locate(project.root, component)
        self._component = component
        self._lock = lock.hold(self._location.lock_file, component.name)

    def __enter__(self) -> tuple[Location, Session]:
        self._lock.__enter__()
        merging.clear(self._location.private)
        session = load(self._location)
        if session is None:
            self._lock.__exit__(None, None, None)
            name = self._component.name
            raise UsageError(f"no rebase of {name} is under way", remedy=f"patchset rebase {name} RELEASE starts one")
        return self._location, session

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(None, None, None)


def load(location: Location) -> Session | None:
    """Return the rebase that is under way, or None."""
    try:
        values = json.loads((location.private / "rebase/session.json").read_bytes())
        return Session(**values)
    except (OSError, ValueError, TypeError):
        return None


def save(location: Location, session: Session) -> None:
    file = location.private / "rebase/session.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(session), indent=1))
    os.replace(temporary, file)


def _under_way(component: Component, session: Session) -> UsageError:
    name = component.name
    return UsageError(
        f"a rebase of {name} from {session.from_base} to {session.base} is under way",
        remedy=f"patchset rebase {name} --continue, --skip REASON or --abort",
    )


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
    findings: list[object] = []
    draft = parse_base(location.private / "rebase" / session.base, findings)  # type: ignore[arg-type]
    base = replace(draft, folder=old.folder.parent / session.base)
    return Job(project, component, location, series, base, session.mode, reporter, offline, session.skips)


def _again(
    project: Project, component: Component, location: Location, session: Session, reporter: Reporter, offline: bool
) -> Report:
    """Tell once more of the conflict that is waiting; its work tree is left as the user has it."""
    return _run(_job(project, component, location, session, reporter, offline), waiting=session.conflict)


def _run(job: Job, waiting: str | None = None) -> Report:
    old, base = job.series.base, job.base
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
        )
        made = _Maker(job, stack, git, compare, onto)
        results = {item.step.name: made.patch(item) for item in done}
        if stopped is not None:
            explained = explain.explain(job, stack, git, stopped)
            report = _report(job, ours, stack, onto, made.all(results), explained)
            if waiting != stopped.step.name or not conflicts.place_of(job.project.root, job.location).folder.is_dir():
                _lay_out(job, git, ours, done, stopped, made)
            return report
        tree = done[-1].after if done else onto
        fates, files = made.all(results), made.files(results)
    new = _write(job, ours, tree, fates, files)
    _clean(job.project.root, job.location)
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


class _Maker:
    """Makes the new patch files and tells the fates, for one rebase."""

    def __init__(self, job: Job, stack: Stack, git: Git, compare: Comparer, onto: str) -> None:
        self._job = job
        self._stack = stack
        self._git = git
        self._compare = compare
        self._onto = onto
        self._patches = {patch.name: patch for patch in job.series.patches}

    def patch(self, item: Replayed) -> tuple[PatchFate, bytes | None]:
        """Return the fate of a patch, and its new file, None where it is dropped."""
        old = self._patches[item.step.name]
        if item.skipped:
            return PatchFate(old.name, "skipped", self._job.skips[old.name]), None
        if item.after == item.before:
            return self._gone(item), None
        before = self._compare.compare(item.step.before, item.step.after)
        after = self._compare.compare(item.before, item.after)
        data, told = old.data, fate.Fate("unmodified")
        if before != after:
            data, told = self._rewritten(old, item, before, after)
        data, applies_to = export.widened(data, self._job.base.name) if self._job.base.name else (data, None)
        release = None
        if told.kind == "partly upstreamed":
            release = explain.first_release(self._job, self._git, item.step, self._stack.source.kind)
        return (
            PatchFate(
                old.name,
                told.kind,
                told.detail,
                dict(told.moved),
                told.landed,
                told.interdiff,
                release,
                applies_to,
                item.resolved,
            ),
            data,
        )

    def _gone(self, item: Replayed) -> PatchFate:
        name = item.step.name
        if item.resolved:
            return PatchFate(name, "empty", "its resolution leaves upstream's tree as it is", resolved=True)
        release = explain.first_release(self._job, self._git, item.step, self._stack.source.kind)
        detail = f"the merged tree is upstream's own ({item.after})"
        return PatchFate(name, "upstreamed", detail, release=release)

    def _rewritten(self, old: Patch, item: Replayed, before: Changes, after: Changes) -> tuple[bytes, fate.Fate]:
        kept = frozenset(self._stack.outside.get(old.name, ()))
        text = partial(patch_text, self._git, item.before, item.after)
        data = export.rewrite(old, text, kept)
        new, findings = parse(old.file, data)
        refuse(findings, f"the new {old.name}")
        assert new is not None
        moved = pair(before, after, lambda oid: blobs(self._git, [oid])[oid])
        return data, fate.compare(old, new, moved)

    def all(self, results: Mapping[str, tuple[PatchFate, bytes | None]]) -> tuple[PatchFate, ...]:
        """Return the fates of all patches that there is an answer for, in the order of the series."""
        found = []
        for entry in self._job.series.entries:
            name = entry.patch_name
            if name in results:
                found.append(results[name][0])
            elif self._is_outside(name):
                detail = f"not looked at: the archive has none of {', '.join(self._stack.outside[name])}"
                found.append(PatchFate(name, "outside", detail))
            else:
                break
        return tuple(found)

    def _is_outside(self, name: str) -> bool:
        return name in self._stack.outside and all(step.name != name for step in self._stack.steps)

    def files(self, results: Mapping[str, tuple[PatchFate, bytes | None]]) -> list[tuple[Entry, bytes]]:
        """Return the entries of the new series with their files."""
        made = []
        for entry, data in zip(self._job.series.entries, self._job.series.files, strict=True):
            new = results[entry.patch_name][1] if entry.patch_name in results else data
            if new is not None:
                # What git writes has one leading component, whatever the old patch had.
                made.append((entry if new == data else replace(entry, strip=1), new))
        return made


def _lay_out(job: Job, git: Git, ours: Acquired, done: list[Replayed], stopped: Stopped, made: _Maker) -> None:
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
    (merged,) = merging.merge(permanent, [merging.Triple(stopped.step.before, tree, stopped.step.after)])
    place = conflicts.place_of(job.project.root, location)
    conflicts.lay_out(place, commit, merged)
    save(location, replace(session, conflict=stopped.step.name))


def _commits(job: Job, git: Git, ours: Acquired, done: list[Replayed], made: _Maker) -> str:
    """Write the patches that are through as commits, so that the work tree's log shows them."""
    patches = {patch.name: patch for patch in job.series.patches}
    commits = []
    for item in done:
        if item.after == item.before:
            continue
        changes = made._compare.compare(item.before, item.after)
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
            stack.steps, onto, partial(merging.merge, git), lambda step, merged: find(git, merged), job.skips
        )
        if stopped is None or stopped.step.name != name:
            return
        tree = conflicts.resolved_tree(place, git, stopped.merged)
        job.resolutions.record(git, stopped.merged, tree)


def _write(job: Job, ours: Acquired, tree: str, fates: tuple[PatchFate, ...], files: list[tuple[Entry, bytes]]) -> str:
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
    contents["series"] = _series_text(old, files).encode()
    contents |= {name: (old.folder / name).read_bytes() for name in old.disabled}
    contents |= {entry.name: data for entry, data in files}
    lines = [_line(item) for item in fates]
    lines += [f"{name}: commented out in `series`, and carried over as it is" for name in old.disabled]
    heading = f"Rebased from {old.base.name}" if old.base.name else "Rebased"
    text = changelog.title(job.component.name, base.name) + "\n" + changelog.section(heading, lines)
    contents[changelog.NAME] = text.encode()
    folder.write(base.folder, contents)
    return made.tree


def _line(item: PatchFate) -> str:
    """Return the changelog's line for a patch."""
    what = f"dropped, {item.fate}" if item.fate in fate.DROPPED else item.fate
    parts = [f"{item.name}: {what}"]
    if item.release:
        parts.append(f"first in {item.release} of the releases at hand")
    if item.detail:
        parts.append(item.detail)
    if item.resolved:
        parts.append("a conflict was resolved by hand")
    if item.applies_to:
        parts.append(f"Applies-To is {item.applies_to} now")
    return "; ".join(parts)


def _series_text(old: Series, files: list[tuple[Entry, bytes]]) -> str:
    """Return the `series` file for the new base: the old one's lines and comments, less what was dropped."""
    lines = (old.folder / "series").read_text("utf-8").split("\n")
    kept = {entry.line: entry for entry, _ in files}
    out = []
    for number, line in enumerate(lines, 1):
        known = next((entry for entry in old.entries if entry.line == number), None)
        if known is None:
            out.append(line)
        elif number in kept:
            out.append(line if kept[number].strip == known.strip else known.name)
    return "\n".join(out)


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


def _clean(root: Path, location: Location) -> None:
    """Remove what a rebase leaves while it waits."""
    private = location.private / "rebase"
    (private / "session.json").unlink(missing_ok=True)
    place = conflicts.place_of(root, location)
    if place.folder.exists():
        conflicts.remove(place)
    if private.exists():
        location.git.run("update-ref", "-d", "refs/patchset/rebase")
        shutil.rmtree(private)
