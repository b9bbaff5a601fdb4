"""`status`: what `extern/` holds, and what `apply` would do, without changing anything."""

from __future__ import annotations

from dataclasses import dataclass

from patchset.model.component import Component
from patchset.model.series import Series
from patchset.sources.acquire import present
from patchset.store.difference import diff
from patchset.store.git import require
from patchset.workflow.checkout import Checkout, branch_of
from patchset.workflow.compute import compute
from patchset.workflow.workspace import Workspace
from patchset.worktree import journal, local
from patchset.worktree.state import WorktreeState
from toolkit.errors import PatchsetError
from toolkit.text import count_of


@dataclass(frozen=True)
class PatchStatus:
    """`state` is applied, not applied, or outside (the source does not have its files)."""

    name: str
    state: str
    commit: str | None
    outside: tuple[str, ...]


@dataclass(frozen=True)
class ComponentStatus:
    """The status of one component.

    `tree` is HEAD's tree and `recorded_tree` the one that base.toml records for it (None if it records none, or
    nothing is applied). `local` are paths with work of the user's. `would` is the action of `apply`, in words, and
    `refused` the error that it would end with, or None.
    """

    component: str
    base: str
    path: str
    populated: bool = False
    source: str | None = None
    applied_base: str | None = None
    head: str | None = None
    branch: str | None = None
    base_commit: str | None = None
    patches: tuple[PatchStatus, ...] = ()
    tree: str | None = None
    recorded_tree: str | None = None
    tree_is_recorded: bool | None = None
    interrupted: bool = False
    local: tuple[str, ...] = ()
    would: str = "refuse"
    refused: dict[str, object] | None = None


def status(workspace: Workspace) -> ComponentStatus:
    """Return the status of a component: what is applied, and what `apply` would do.

    Raises:
        EnvironmentProblem: git is missing or too old.
    """
    require()
    component, base = workspace.component, workspace.base
    try:
        series, location = workspace.series, workspace.location
    except PatchsetError as error:
        name, path = component.name, component.path
        return ComponentStatus(name, base.name, path, base_commit=base.commit, refused=error.as_json())
    checkout = Checkout(location)
    state = checkout.state if location.populated else None
    interrupted = (location.private / journal.NAME).exists()
    branch = commit = tree = None
    local: tuple[str, ...] = ()
    would, refused = "refuse", None
    try:
        if location.populated:
            branch, commit = checkout.head
            tree = location.git.tree_of(commit)
            local = checkout.local_changes()
        would = _would(workspace, checkout, interrupted)
    except PatchsetError as error:
        refused = error.as_json()
    applied = state is not None and commit == state.tip and state.tip != state.base_commit
    # A commit of the user's on top of what was applied leaves a tree that is not the recorded one.
    was_applied = state is not None and state.tip != state.base_commit and commit != state.base_commit
    recorded = _recorded_tree(component, state) if was_applied and state is not None else None
    return ComponentStatus(
        component=component.name,
        base=base.name,
        path=component.path,
        populated=location.populated,
        source=state.source if state else None,
        applied_base=state.base if state and applied else None,
        head=commit,
        branch=branch,
        base_commit=state.base_commit if state else base.commit,
        patches=_patches(series, state if applied else None),
        tree=tree,
        recorded_tree=recorded,
        tree_is_recorded=None if recorded is None else tree == recorded,
        interrupted=interrupted,
        local=local,
        would=would,
        refused=refused,
    )


def _patches(series: Series, state: WorktreeState | None) -> tuple[PatchStatus, ...]:
    known = {patch.name: patch for patch in state.patches} if state else {}
    statuses = []
    for name in series.names:
        patch = known.pop(name, None)
        if patch is None:
            statuses.append(PatchStatus(name, "not applied", None, ()))
        else:
            where = "outside" if patch.commit is None else "applied"
            statuses.append(PatchStatus(name, where, patch.commit, patch.outside))
    statuses += [PatchStatus(name, "applied, no longer listed", patch.commit, ()) for name, patch in known.items()]
    return tuple(statuses)


def _recorded_tree(component: Component, state: WorktreeState) -> str | None:
    base = component.base(state.base)
    source = base.source(state.source) if base is not None else None
    return source.patched_tree if source is not None else None


def _would(workspace: Workspace, checkout: Checkout, interrupted: bool) -> str:
    series, location = workspace.series, checkout.location
    patches = count_of(len(series.entries), "patch")
    if interrupted:
        return "finish the change that was interrupted, then see"
    if not location.populated:
        stored = present(location.git, series.base) if (location.gitdir / "HEAD").exists() else None
        where = f"the {stored.kind}" if stored else ", else ".join(f"the {item.kind}" for item in series.base.sources)
        return f"populate {series.component.path} from {where or 'no recorded source'}, and apply {patches}"
    if checkout.exact_state(series):
        return "do nothing"
    base = present(location.git, series.base) if series.base.recorded else checkout.worktree_base()
    if base is None:
        return f"fetch {series.base.name} and apply {patches}"
    patched = compute(location, series, base)
    checkout.refuse_foreign(workspace, base.commit)
    if checkout.head == (branch_of(series.base), patched.tip):
        return "change no file, and note what is there"
    changes = diff(location.git, checkout.commit, patched.tip)
    local.refuse_under_way(location)
    local.refuse_local(location, changes)
    return f"apply {patches}, changing {count_of(len(changes), 'file')}"
