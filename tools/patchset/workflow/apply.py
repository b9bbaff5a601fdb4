"""`apply` and `unapply`: `extern/` gets the patched tree, or the base's back, in one step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from patchset.model.series import Series
from patchset.sources.acquire import StoredBase, present
from patchset.store.difference import diff
from patchset.store.superproject import guard_gitlink
from patchset.workflow.checkout import Checkout, branch_of
from patchset.workflow.compute import compute, tree_of
from patchset.workflow.workspace import Workspace
from patchset.worktree import switch
from patchset.worktree.state import AppliedPatch, WorktreeState
from toolkit.errors import LocalChanges, SourceUnavailable

ApplyOutcome = Literal["applied", "unchanged", "unapplied"]


@dataclass(frozen=True)
class ApplyReport:
    """The result of `apply` or `unapply` for one component.

    `why` is the reason for its source; `disabled` are the patch files that are commented out in `series`.
    """

    component: str
    base: str
    outcome: ApplyOutcome
    source: str
    why: str
    path: str
    branch: str | None
    commit: str
    tree: str
    patches: tuple[AppliedPatch, ...]
    disabled: tuple[str, ...]


def apply_series(workspace: Workspace) -> ApplyReport:
    """Bring a component's work tree to the patched tree of its base; touch nothing if it is there.

    Raises:
        PatchsetError: any obstacle; the work tree is as it was.
    """
    series = workspace.series
    if state := Checkout(workspace.location).exact_state(series, workspace.source):
        return _report(series, "unchanged", state)
    with workspace.lock() as location:
        checkout = Checkout(location)
        if state := checkout.exact_state(series, workspace.source):
            return _report(series, "unchanged", state)
        base = _base(workspace, checkout)
        patched = compute(location, series, base)
        if location.populated:
            checkout.refuse_foreign(workspace, base.commit)
        else:
            checkout.refuse_foreign_branch(workspace.base)
        home = _home(checkout, base.commit) if location.populated else None
        state = checkout.bring(series, base, patched, f"apply {series.title}", home)
        guard_gitlink(workspace.root, workspace.component.path, patched.tip)
        return _report(series, "applied", state, base.why)


def unapply_series(workspace: Workspace) -> ApplyReport:
    """Bring a component's work tree back to the base's tree.

    Raises:
        LocalChanges: the user's work is in the way; nothing was changed.
    """
    series, component = workspace.series, workspace.component
    if not workspace.location.populated:
        raise Checkout(workspace.location).unapplied_error(series)
    with workspace.lock() as location:
        git, checkout = location.git, Checkout(location)
        state = checkout.state
        if state is not None and checkout.commit == state.base_commit:
            return _report(series, "unchanged", replace(state, tip=state.base_commit, patches=()))
        if state is None or checkout.commit != state.tip:
            base = present(git, workspace.base)
            if base is not None and checkout.commit == base.commit:
                name = workspace.base.name
                bare = WorktreeState(name, base.kind, "", base.commit, base.commit, base.tree, ())
                return _report(series, "unchanged", bare)
            checkout.refuse_foreign_head(workspace, base.commit if base else "")
        if state is None:
            raise LocalChanges(
                f"{component.path} was not patched by this tool", remedy=f"run `patchset status {component.name}`"
            )
        home = state.branch if state.branch and git.resolve(state.branch) == state.base_commit else None
        # The work tree holds the base and no series: the digest of none.
        tree = tree_of(git, state.base_commit)
        bare = replace(state, tip=state.base_commit, tree=tree, patches=(), digest="", stats={})
        stale = (str(checkout.head[0]), state.tip) if checkout.on_our_branch else None
        message = f"unapply {component.name}@{state.base}"
        changes = diff(git, checkout.commit, state.base_commit)
        switch.switch(location, checkout.head, state.base_commit, home, bare, message, changes=changes, stale=stale)
        guard_gitlink(workspace.root, component.path, state.base_commit)
        return _report(series, "unapplied", bare)


def _base(workspace: Workspace, checkout: Checkout) -> StoredBase:
    """Bring the base of a workspace into the store.

    Raises:
        SourceUnavailable: no source gives it, or none is recorded and there is no work tree.
        PatchsetError: see `sources.acquire`.
    """
    if workspace.base.recorded:
        return workspace.acquire()
    if not checkout.location.populated:
        raise SourceUnavailable(
            f"{workspace.series.title} records no base, and {workspace.component.path} is empty",
            remedy="put the upstream tree there (a git work tree), or write base.toml",
        )
    return checkout.worktree_base()


def _home(checkout: Checkout, base_commit: str) -> str | None:
    """Return the branch to return to when the series is taken away: the user's, if it is at the base."""
    if checkout.on_our_branch:
        return checkout.state.branch if checkout.state is not None else None
    return checkout.head[0] if checkout.commit == base_commit else None


def _report(series: Series, outcome: ApplyOutcome, state: WorktreeState, why: str = "") -> ApplyReport:
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
