"""`bisect`: the first upstream release that breaks a patch or has it, and the commit where the history is stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from packaging.version import Version

from patchset.engine.replay import Merge, PatchStep, ReplayConflict, merge_along, merger
from patchset.model.component import Base
from patchset.rebasing.breaking import StepState, breaking_commit, first_wrong, merge_on_release, state_of
from patchset.rebasing.candidates import candidates
from patchset.rebasing.explain import ConflictReport, describe, subject_of
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
    `tested` are the releases at which it was merged.
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


@dataclass(frozen=True)
class SearchRange:
    """The releases of a search: up to `until` (the last where None), or the older ones; `known`: stored ones only."""

    until: str | None = None
    older: bool = False
    known: bool = False


def bisect(workspace: Workspace, name: str, wanted: SearchRange) -> BisectReport:
    """Find by bisection the first release, and commit, that a patch conflicts with or that has it.

    The patch is merged on top of those before it in the series; a conflict of theirs does not count.

    Raises:
        UsageError: there is no such patch, or no release to look at.
    """
    with workspace.open() as (location, series):
        releases = _releases(workspace, location, wanted)
        workspace = replace(workspace, offline=wanted.known)
        kind = common_kind(location.git, (workspace.base, releases[-1]), workspace.source)
        stack = stack_of(location, series, workspace.acquire(kind=kind))
        step = _step(stack, name)
        with merging.scratch(location.git, location.private) as git:
            search = _Search(workspace, location, git, merger(git), stack, step, kind)
            at = first_wrong(len(releases), lambda at: search.state(releases[at]) != "applies")
            tested = tuple(sorted(search.states, key=Version))
            report = BisectReport(workspace.component.name, workspace.base.name, name, releases[-1].name, tested)
            if at is None:
                return report
            return search.answer(report, releases[at - 1] if at else workspace.base, releases[at])


def _releases(workspace: Workspace, location: Location, wanted: SearchRange) -> list[Base]:
    """Return the releases of a search, the one nearest to the base first."""
    component, base = workspace.component, workspace.base
    every = candidates(workspace, location, offline=wanted.known)
    limit = Version(wanted.until) if wanted.until else None
    releases = []
    for item in every.stored if wanted.known else every.known:
        at = Version(item.name)
        if at == every.start or (at < every.start) != wanted.older:
            continue
        if limit is None or (at >= limit if wanted.older else at <= limit):
            releases.append(item)
    if not releases:
        direction = "older" if wanted.older else "newer"
        raise UsageError(
            f"no release of {component.name} {direction} than {base.name} is known",
            remedy="leave --known away, or name another --until" if wanted.known or limit else "check the network",
        )
    return releases[::-1] if wanted.older else releases


def _step(stack: Stack, name: str) -> PatchStep:
    step = next((step for step in stack.steps if step.name == name), None)
    if step is None:
        known = ", ".join(step.name for step in stack.steps) or "none"
        where = f" in the {stack.base.kind}" if name in stack.outside else ""
        raise UsageError(f"there is no patch {name!r}{where}", remedy=f"known patches: {known}")
    return step


@dataclass
class _Search:
    """The states of a step at releases, each of which is brought into the repository when it is tested."""

    workspace: Workspace
    location: Location
    git: Git
    merge: Merge
    stack: Stack
    step: PatchStep
    kind: str
    states: dict[str, StepState] = field(default_factory=dict)

    def merged(self, base: Base) -> tuple[str, MergeResult]:
        """Merge the step into a release; along the intermediate releases where it conflicts in a single merge."""
        stored = self.workspace.acquire(base, self.kind)
        tree, merged = merge_on_release(self.merge, self.stack.earlier(self.step.name), self.step, stored.tree)
        if not merged.clean:
            component, start = self.workspace.component, self.workspace.base
            between = stored_releases(component, start, self.location.git, stored.kind).trees_towards(base.name)
            chain = merge_along(self.step, tree, between, self.merge)
            merged = chain.merged if chain is not None else merged
        return tree, merged

    def state(self, base: Base) -> StepState:
        if base.name not in self.states:
            self.states[base.name] = state_of(*self.merged(base))
        return self.states[base.name]

    def answer(self, report: BisectReport, after: Base, release: Base) -> BisectReport:
        """Return the report of a step that changes its state between two neighbouring releases."""
        store, step, state = self.location.git, self.step, self.state(release)
        commit = breaking_commit(store, self.merge, self.stack.earlier(step.name), step, after, release)
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
