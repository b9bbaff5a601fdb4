"""`apply` and `unapply`: `extern/` gets the patched tree, or the base's back, in one step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from patchset.model.component import Base
from patchset.model.series import Series
from patchset.sources.acquire import StoredBase, present
from patchset.sources.kinds import AUTO
from patchset.store.difference import diff
from patchset.store.superproject import guard_gitlink
from patchset.workflow.compute import Computed, base_of, compute
from patchset.workflow.workspace import Workspace
from patchset.worktree import journal, switch
from patchset.worktree.location import Location
from patchset.worktree.state import AppliedPatch, WorktreeState, head, stats
from patchset.worktree.state import load as load_state
from toolkit.errors import LocalChanges, SourceUnavailable

Outcome = Literal["applied", "unchanged", "unapplied"]


@dataclass(frozen=True)
class ApplyReport:
    """What a command did to one component.

    `why` tells why its source was chosen, `disabled` names the patch files that are commented out in `series`.
    """

    component: str
    base: str
    outcome: Outcome
    source: str
    why: str
    path: str
    branch: str | None
    commit: str
    tree: str
    patches: tuple[AppliedPatch, ...]
    disabled: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def branch_of(base: Base) -> str:
    return f"refs/heads/patchset/{base.name or 'series'}"


def is_applied(location: Location, series: Series, source: str = AUTO) -> WorktreeState | None:
    """Return the state if the work tree holds just this series, by its files' looks alone: no git is run."""
    if not location.populated or journal.left_over(location):
        return None
    state = load_state(location.state_file)
    if state is None or state.digest != series.digest:
        return None
    if source not in (AUTO, state.source):
        return None
    if head(location.gitdir) != (branch_of(series.base), state.tip):
        return None
    return state if stats(location.work_tree, state.stats) == state.stats else None


def apply_series(workspace: Workspace) -> ApplyReport:
    """Bring a component's work tree to the patched tree of its base; nothing is touched if it is there.

    Raises:
        PatchsetError: anything that stands against it; the work tree is as it was.
    """
    series = workspace.series
    if state := is_applied(workspace.location, series, workspace.source):
        return _report(series, "unchanged", state)
    with workspace.lock() as location:
        if state := is_applied(location, series, workspace.source):
            return _report(series, "unchanged", state)
        base = _base(workspace, location)
        patched = compute(location, series, base)
        touched = diff(location.git, base.commit, patched.tip)
        state = state_of(series, base, patched, touched)
        branch = branch_of(workspace.base)
        message = f"apply {series.title}"
        if not location.populated:
            _refuse_foreign_branch(location, branch)
            switch.populate(location, patched.tip, branch, state, message)
        else:
            before = current(location)
            refuse_foreign(workspace, location, before, base.commit)
            state = replace(state, branch=_home(location, before, base.commit))
            changes = touched if before[1] == base.commit else diff(location.git, before[1], patched.tip)
            switch.switch(location, before, patched.tip, branch, state, message, changes=changes)
        guard_gitlink(workspace.root, workspace.component.path, patched.tip)
        return _report(series, "applied", state, base.why)


def state_of(series: Series, base: StoredBase, patched: Computed, touched: Iterable[str]) -> WorktreeState:
    """Return the state of a work tree that holds a series on its base; `touched` are the paths that it changes."""
    return WorktreeState(
        base=series.base.name,
        source=base.kind,
        digest=series.digest,
        base_commit=base.commit,
        tip=patched.tip,
        tree=patched.tree,
        patches=patched.patches,
        stats=dict.fromkeys(touched),
    )


def unapply_series(workspace: Workspace) -> ApplyReport:
    """Bring a component's work tree back to the base's tree.

    Raises:
        LocalChanges: the user's work is in the way; nothing was changed.
    """
    series, component = workspace.series, workspace.component
    if not workspace.location.populated:
        raise LocalChanges(
            f"{component.path} is empty: nothing is applied",
            remedy=f"run `patchset apply {component.name}` first",
        )
    with workspace.lock() as location:
        before = current(location)
        state = load_state(location.state_file)
        if state is not None and before[1] == state.base_commit:
            return _report(series, "unchanged", replace(state, tip=state.base_commit, patches=()))
        if state is None or before[1] != state.tip:
            base = present(location.git, workspace.base)
            if base is not None and before[1] == base.commit:
                bare = WorktreeState(workspace.base.name, base.kind, "", base.commit, base.commit, base.tree, (), None)
                return _report(series, "unchanged", bare)
            _refuse_foreign_head(workspace, location, before, base.commit if base else "")
        if state is None:
            raise LocalChanges(
                f"{component.path} was not patched by this tool",
                remedy=f"run `patchset status {component.name}`",
            )
        home = state.branch
        if home is not None and location.git.resolve(home) != state.base_commit:
            home = None
        # The work tree holds the base and no series: the digest of none.
        tree = location.git.tree_of(state.base_commit) or ""
        bare = replace(state, tip=state.base_commit, tree=tree, patches=(), digest="", stats={})
        stale = (before[0], state.tip) if before[0] and before[0].startswith("refs/heads/patchset/") else None
        message = f"unapply {component.name}@{state.base}"
        changes = diff(location.git, before[1], state.base_commit)
        switch.switch(location, before, state.base_commit, home, bare, message, changes=changes, stale=stale)
        guard_gitlink(workspace.root, component.path, state.base_commit)
        return _report(series, "unapplied", bare)


def current(location: Location) -> tuple[str | None, str]:
    """Return HEAD as (branch's full name or None, commit).

    Raises:
        LocalChanges: HEAD has no commit yet.
    """
    branch, commit = head(location.gitdir)
    if commit is None:
        commit = location.git.resolve("HEAD")
        code, out, _ = location.git.attempt("symbolic-ref", "--quiet", "HEAD")
        branch = out.decode().strip() if code == 0 else None
    if commit is None:
        raise LocalChanges(f"{location.work_tree} has no commit yet", remedy="commit the upstream tree first")
    return branch, commit


def ours(location: Location) -> set[str]:
    """Return every commit that the tool itself has put into the component's repository."""
    out = location.git.run("for-each-ref", "--format=%(objectname)", "refs/patchset/")
    return set(out.decode().split())


def _base(workspace: Workspace, location: Location) -> StoredBase:
    """Bring the base of a workspace into the store.

    Raises:
        SourceUnavailable: no source gives it, or none is recorded and there is no work tree.
        PatchsetError: see `sources.acquire`.
    """
    if workspace.base.recorded:
        return workspace.acquire()
    if not location.populated:
        raise SourceUnavailable(
            f"{workspace.series.title} records no base, and {workspace.component.path} is empty",
            remedy="put the upstream tree there (a git work tree), or write base.toml",
        )
    return worktree_base(location)


def worktree_base(location: Location) -> StoredBase:
    """Return the base of a series that records none: what the work tree held before the tool came."""
    _, commit = current(location)
    state = load_state(location.state_file)
    if state is not None and commit == state.tip:
        commit = state.base_commit
    else:
        commit = base_of(location, commit) or commit
    tree = location.git.tree_of(commit) or ""
    return StoredBase("worktree", commit, tree, "base.toml records none: the work tree's HEAD is the base")


def _home(location: Location, before: tuple[str | None, str], base_commit: str) -> str | None:
    """The branch to return to when the series is taken away again: the user's, if it is at the base."""
    branch, commit = before
    if branch is not None and branch.startswith("refs/heads/patchset/"):
        state = load_state(location.state_file)
        return state.branch if state is not None else None
    return branch if commit == base_commit else None


def refuse_foreign(workspace: Workspace, location: Location, before: tuple[str | None, str], base_commit: str) -> None:
    """Raise `LocalChanges` if HEAD, or a branch of our name, holds commits that the tool did not make."""
    _refuse_foreign_head(workspace, location, before, base_commit)
    _refuse_foreign_branch(location, branch_of(workspace.base))


def _refuse_foreign_head(
    workspace: Workspace, location: Location, before: tuple[str | None, str], base_commit: str
) -> None:
    component = workspace.component
    branch, commit = before
    state = load_state(location.state_file)
    known = {base_commit, *(base.commit for base in component.bases)}
    if state is not None:
        known |= {state.tip, state.base_commit}
    if commit in known or commit in ours(location):
        return
    from patchset.sources.submodule import recorded_commit

    if commit == recorded_commit(workspace.root, component.path):
        return
    tip = state.tip if state is not None else base_commit
    code, out, _ = location.git.attempt("log", "--format=%h %s", "-n", "20", f"{tip}..{commit}")
    mine = tuple(out.decode(errors="replace").splitlines()) if code == 0 else ()
    name = (branch or "a detached HEAD").removeprefix("refs/heads/")
    what = f"{len(mine)} commit{'s' if len(mine) != 1 else ''} of yours" if mine else f"commit {commit[:12]}"
    raise LocalChanges(
        f"{location.work_tree} has {what} on {name}",
        details=mine,
        remedy=f"keep them (git -C {component.path} branch my-work), then "
        f"git -C {component.path} checkout --detach {tip[:12]}, and run again",
    )


def _refuse_foreign_branch(location: Location, branch: str) -> None:
    """A branch of our name that holds commits of the user's must not be moved."""
    if not (location.gitdir / "HEAD").exists():
        return
    commit = location.git.resolve(branch)
    state = load_state(location.state_file)
    if commit is None or (state is not None and commit == state.tip) or commit in ours(location):
        return
    short = branch.removeprefix("refs/heads/")
    raise LocalChanges(
        f"the branch {short} in {location.work_tree} has commits of yours",
        remedy=f"rename it (git branch -m {short} my-work), then run again",
    )


def _report(series: Series, outcome: Outcome, state: WorktreeState, why: str = "") -> ApplyReport:
    applied = outcome != "unapplied" and state.tip != state.base_commit
    return ApplyReport(
        component=series.component.name,
        base=state.base,
        outcome=outcome,
        source=state.source,
        why=why,
        path=series.component.path,
        branch=branch_of(series.base) if applied else state.branch,
        commit=state.tip,
        tree=state.tree,
        patches=state.patches,
        disabled=series.disabled,
    )
