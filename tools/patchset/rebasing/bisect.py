"""`blame`: which upstream release, and which commit where its history is here, stands in a patch's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from packaging.version import Version

from patchset.engine.rebase import Step, Stopped, beneath, by_way_of
from patchset.model.component import Base, Component
from patchset.model.project import Project
from patchset.rebasing import explain
from patchset.sources import releases
from patchset.sources.acquire import Mode, acquire, present
from patchset.store import merge as merging
from patchset.store.git import Git, require
from patchset.store.merge import MergeResult, Triple
from patchset.workflow.apply import read_series
from patchset.workflow.steps import Stack, stack_of, stones_here, unproved
from patchset.worktree import lock
from patchset.worktree.location import Location, locate
from toolkit.errors import PatchsetError, UsageError
from toolkit.finding import refuse
from toolkit.progress import Reporter

State = Literal["applies", "upstreamed", "conflict"]


@dataclass(frozen=True)
class Blame:
    """The answer for one patch.

    `state` is what the patch meets at `release`, the first that is not like `after`, the last one before it; None
    where it goes on applying up to `asked`. `commit` is upstream's, `subject` its first line, where its history is
    here. `tried` are the releases that were looked at.
    """

    component: str
    base: str
    patch: str
    state: State | None
    release: str | None
    after: str | None
    commit: str | None
    subject: str | None
    asked: str
    tried: tuple[str, ...]
    conflict: explain.Explained | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Range:
    """Which releases a search is about: up to `until` (the last where None), or the older ones; `known`: those here."""

    until: str | None = None
    older: bool = False
    known: bool = False


def blame(
    project: Project, component: Component, base: Base, name: str, wanted: Range, mode: Mode, reporter: Reporter
) -> Blame:
    """Find by bisection the release, and the commit, that a patch breaks with or that has it.

    The patch is looked at on top of those before it in the series, of which a conflict has no part in the answer.

    Raises:
        UsageError: there is no such patch, or no release to look at.
    """
    require()
    series = read_series(component, base)
    refuse(series.findings, series.title)
    location = locate(project.root, component)
    with lock.hold(location.lock_file, component.name):
        merging.clear(location.private)
        candidates = _candidates(component, base, location, wanted, reporter)
        mode = common_mode(location.git, base, [candidates[-1]], mode)
        source = acquire(project.root, component, base, location.git, mode, reporter, offline=wanted.known)
        stack = stack_of(location, series, unproved(source))
        step = _step(stack, name)
        earlier = stack.steps[: stack.steps.index(step)]
        with merging.scratch(location.git, location.private) as git:
            search = _Search(project, component, location, git, base, earlier, step, mode, reporter, wanted.known)
            found = bisect(len(candidates), lambda at: search.state(candidates[at]) != "applies")
            tried = tuple(sorted(search.states, key=Version))
            asked = candidates[-1].name
            if found is None:
                return Blame(component.name, base.name, name, None, None, None, None, None, asked, tried, None)
            last = candidates[found - 1] if found else base
            return _answer(search, series.patches, stack, (last, candidates[found]), asked, tried)


def _candidates(component: Component, base: Base, location: Location, wanted: Range, reporter: Reporter) -> list[Base]:
    """Return the releases to look at, going away from the base."""
    version = releases.version_of(base.name)
    model = releases.model_of(component, base)
    if version is None or model is None:
        raise UsageError(f"{base.name or component.name} is no release", remedy="give the series' folder its name")
    project = model.archive.project if model.archive else None
    listing = releases.list_files(project, location.private, reporter, offline=wanted.known) if project else None
    if wanted.known or listing is None:
        every = releases.here(component, model, location.git)
    else:
        every = releases.known(component, model, location.git, listing.files)
    limit = Version(wanted.until) if wanted.until else None
    found = []
    for item in every:
        at = Version(item.name)
        if at == version or (at < version) != wanted.older:
            continue
        if limit is None or (at >= limit if wanted.older else at <= limit):
            found.append(item)
    if not found:
        what = "older" if wanted.older else "newer"
        raise UsageError(
            f"no release of {component.name} {what} than {base.name} is known",
            remedy="leave --known away, or name another --until" if wanted.known or limit else "check the network",
        )
    return found[::-1] if wanted.older else found


def common_mode(git: Git, base: Base, others: Sequence[Base], mode: Mode) -> Mode:
    """Return the kind of source by which a base and other releases can be compared: commits here, or archives."""
    if mode != "auto":
        return mode
    commits = all(present(git, item, "submodule") is not None for item in (base, *others))
    return "submodule" if commits or base.archive is None else "archive"


def _step(stack: Stack, name: str) -> Step:
    found = next((step for step in stack.steps if step.name == name), None)
    if found is None:
        known = ", ".join(step.name for step in stack.steps) or "none"
        why = f" in the {stack.source.kind}" if name in stack.outside else ""
        raise UsageError(f"there is no patch {name!r}{why}", remedy=f"known patches: {known}")
    return found


@dataclass
class _Search:
    """What a step meets at releases, each brought here when it is asked for."""

    project: Project
    component: Component
    location: Location
    git: Git
    base: Base
    earlier: Sequence[Step]
    step: Step
    mode: Mode
    reporter: Reporter
    offline: bool

    def __post_init__(self) -> None:
        self.states: dict[str, State] = {}

    def merged(self, base: Base) -> tuple[str, MergeResult]:
        """Merge the step into a release, along those in between that are here where it conflicts in one merge."""
        source = acquire(
            self.project.root,
            self.component,
            base,
            self.location.git,
            self.mode,
            self.reporter,
            offline=self.offline,
        )
        tree, merged = on_top(self.git, self.earlier, self.step, self.git.tree_of(source.commit) or "")
        if not merged.clean:
            stones = stones_here(self.component, self.base, self.location.git, source.kind)
            way = by_way_of(self.step, tree, stones.towards(base.name), partial(merging.merge, self.git))
            merged = way.merged if way is not None else merged
        return tree, merged

    def state(self, base: Base) -> State:
        if base.name not in self.states:
            tree, merged = self.merged(base)
            self.states[base.name] = state_of(tree, merged)
        return self.states[base.name]


def on_top(git: Git, earlier: Sequence[Step], step: Step, release: str) -> tuple[str, MergeResult]:
    """Return a release's tree with the patches before `step`, and what the merge of `step` into it gives."""
    tree = beneath(earlier, release, partial(merging.merge, git))
    (merged,) = merging.merge(git, [Triple(step.before, tree, step.after)])
    return tree, merged


def state_of(tree: str, merged: MergeResult) -> State:
    """Return what a merge into `tree` tells of a patch."""
    if not merged.clean:
        return "conflict"
    return "upstreamed" if merged.tree == tree else "applies"


def _answer(
    search: _Search,
    patches: object,
    stack: Stack,
    pair: tuple[Base, Base],
    asked: str,
    tried: tuple[str, ...],
) -> Blame:
    after, release = pair
    state = search.state(release)
    commit = breaking_commit(search.location.git, search.git, search.earlier, search.step, after, release)
    subject = None
    if commit is not None:
        subject = search.location.git.run("log", "-1", "--format=%s", commit).decode(errors="replace").strip()
    explained = None
    if state == "conflict":
        tree, merged = search.merged(release)
        patch = next(item for item in stack.series.patches if item.name == search.step.name)
        stopped = Stopped(search.step, tree, merged)
        explained = explain.describe(patch, search.git, stopped, release.name, after.name, commit)
    return Blame(
        search.component.name,
        stack.series.base.name,
        search.step.name,
        state,
        release.name,
        after.name,
        commit,
        subject,
        asked,
        tried,
        explained,
    )


def bisect(count: int, wrong: Callable[[int], bool]) -> int | None:
    """Return the first of `count` places that is wrong, given that all after it are; None where the last is not."""
    if not count or not wrong(count - 1):
        return None
    low, high = -1, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        if wrong(middle):
            high = middle
        else:
            low = middle
    return high


def breaking_commit(store: Git, git: Git, earlier: Sequence[Step], step: Step, good: Base, bad: Base) -> str | None:
    """Return the commit between two releases with which a step's state changes, or None without their history.

    `store` is the repository, `git` the scratch beside it. Only the first parents are followed: a merge is the
    commit that brought its branch in.
    """
    start, end = (present(store, base, "submodule") for base in (good, bad))
    if start is None or end is None:
        return None
    code, out, _ = store.attempt("merge-base", start.commit, end.commit)
    if code:
        return None
    fork = out.decode().strip()
    listed = store.run("rev-list", "--first-parent", "--reverse", f"{fork}..{end.commit}").decode().split()

    def state(commit: str) -> State:
        return state_of(*on_top(git, earlier, step, store.tree_of(commit) or ""))

    try:
        # A fix that only the older release's branch has makes the fork itself wrong: no commit after it did it.
        if not listed or state(fork) == state(listed[-1]):
            return None
        found = bisect(len(listed), lambda at: state(listed[at]) != state(fork))
    except PatchsetError:
        return None
    return listed[found] if found is not None else None
