"""`bisect`: the upstream release, and the commit where its history is stored, with which a patch breaks or lands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial

from packaging.version import Version

from patchset.engine.replay import PatchStep, ReplayConflict, merge_along
from patchset.model.component import Base
from patchset.rebasing.explain import (
    ConflictReport,
    StepState,
    breaking_commit,
    describe,
    first_wrong,
    merge_on_release,
    state_of,
    subject_of,
)
from patchset.sources import releases
from patchset.sources.acquire import common_kind
from patchset.store import merge as merging
from patchset.store.git import Git
from patchset.store.merge import MergeResult
from patchset.workflow.steps import Stack, stack_of, stored_releases
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import UsageError


@dataclass(frozen=True)
class BisectReport:
    """The answer for one patch.

    `state` is that of the patch at `release`, the first that differs from `after`, the last one before it; None where
    the patch applies up to `last`. `commit` is upstream's, `subject` its first line, where its history is stored.
    `tested` are the releases that were looked at.
    """

    component: str
    base: str
    patch: str
    last: str
    tested: tuple[str, ...]
    state: StepState | None = None
    release: str | None = None
    after: str | None = None
    commit: str | None = None
    subject: str | None = None
    conflict: ConflictReport | None = None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class SearchRange:
    """The releases of a search: up to `until` (the last where None), or the older ones; `known`: stored ones only."""

    until: str | None = None
    older: bool = False
    known: bool = False


def bisect(workspace: Workspace, name: str, wanted: SearchRange) -> BisectReport:
    """Find by bisection the release, and the commit, that a patch breaks with or that has it.

    The patch is merged on top of those before it in the series; a conflict of theirs does not count.

    Raises:
        UsageError: there is no such patch, or no release to look at.
    """
    with workspace.open() as (location, series):
        candidates = _candidates(workspace, location, wanted)
        workspace = replace(workspace, offline=wanted.known)
        kind = common_kind(location.git, (workspace.base, candidates[-1]), workspace.source)
        stack = stack_of(location, series, workspace.acquire(kind=kind))
        step = _step(stack, name)
        with merging.scratch(location.git, location.private) as git:
            search = _Search(workspace, location, git, stack, step, kind)
            at = first_wrong(len(candidates), lambda at: search.state(candidates[at]) != "applies")
            tested = tuple(sorted(search.states, key=Version))
            report = BisectReport(workspace.component.name, workspace.base.name, name, candidates[-1].name, tested)
            if at is None:
                return report
            return search.answer(report, candidates[at - 1] if at else workspace.base, candidates[at])


def _candidates(workspace: Workspace, location: Location, wanted: SearchRange) -> list[Base]:
    """Return the releases to look at, going away from the base."""
    component, base = workspace.component, workspace.base
    version = releases.version_of(base.name)
    model = releases.model_of(component, base)
    if version is None or model is None:
        raise UsageError(f"{base.name or component.name} is no release", remedy="give the series' folder its name")
    project = model.index_project
    if wanted.known or project is None:
        every = releases.stored(component, model, location.git)
    else:
        listing = releases.list_files(project, location.private, workspace.reporter, offline=False)
        every = releases.known(component, model, location.git, listing.files)
    limit = Version(wanted.until) if wanted.until else None
    candidates = []
    for item in every:
        at = Version(item.name)
        if at == version or (at < version) != wanted.older:
            continue
        if limit is None or (at >= limit if wanted.older else at <= limit):
            candidates.append(item)
    if not candidates:
        what = "older" if wanted.older else "newer"
        raise UsageError(
            f"no release of {component.name} {what} than {base.name} is known",
            remedy="leave --known away, or name another --until" if wanted.known or limit else "check the network",
        )
    return candidates[::-1] if wanted.older else candidates


def _step(stack: Stack, name: str) -> PatchStep:
    step = next((step for step in stack.steps if step.name == name), None)
    if step is None:
        known = ", ".join(step.name for step in stack.steps) or "none"
        where = f" in the {stack.base.kind}" if name in stack.outside else ""
        raise UsageError(f"there is no patch {name!r}{where}", remedy=f"known patches: {known}")
    return step


@dataclass
class _Search:
    """The states of a step at releases, each brought here when it is asked for."""

    workspace: Workspace
    location: Location
    git: Git
    stack: Stack
    step: PatchStep
    kind: str
    states: dict[str, StepState] = field(default_factory=dict)

    def merged(self, base: Base) -> tuple[str, MergeResult]:
        """Merge the step into a release; along the stored releases in between where it conflicts in one merge."""
        stored = self.workspace.acquire(base, self.kind)
        earlier = self.stack.earlier(self.step.name)
        tree, merged = merge_on_release(self.git, earlier, self.step, self.git.tree_of(stored.commit) or "")
        if not merged.clean:
            component, start = self.workspace.component, self.workspace.base
            between = stored_releases(component, start, self.location.git, stored.kind).trees_towards(base.name)
            chain = merge_along(self.step, tree, between, partial(merging.merge, self.git))
            merged = chain.merged if chain is not None else merged
        return tree, merged

    def state(self, base: Base) -> StepState:
        if base.name not in self.states:
            self.states[base.name] = state_of(*self.merged(base))
        return self.states[base.name]

    def answer(self, report: BisectReport, after: Base, release: Base) -> BisectReport:
        """Return the report of a step that changes its state between two neighbouring releases."""
        store, step, state = self.location.git, self.step, self.state(release)
        commit = breaking_commit(store, self.git, self.stack.earlier(step.name), step, after, release)
        conflict = None
        if state == "conflict":
            stopped = ReplayConflict(step, *self.merged(release))
            conflict = describe(self.stack.patch(step.name), self.git, stopped, release.name, after.name, commit)
        return replace(
            report,
            state=state,
            release=release.name,
            after=after.name,
            commit=commit,
            subject=subject_of(store, commit) if commit is not None else None,
            conflict=conflict,
        )
