"""`status`: what is there, and what `apply` would do, without changing anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from patchset.model.component import Base, Component
from patchset.model.series import Series
from patchset.sources.acquire import present
from patchset.store.difference import diff
from patchset.store.git import Git, require
from patchset.workflow import apply as applying
from patchset.workflow.compute import compute
from patchset.workflow.workspace import Workspace
from patchset.worktree import journal, local
from patchset.worktree.location import Location
from patchset.worktree.state import WorktreeState
from patchset.worktree.state import load as load_state
from toolkit.errors import PatchsetError


@dataclass(frozen=True)
class PatchStatus:
    """`state` is applied, not applied, or outside (the source does not have its files)."""

    name: str
    state: str
    commit: str | None
    outside: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """The answer for one component.

    `tree` is HEAD's tree and `recorded_tree` the one that base.toml records for it (None where it records
    none, or nothing is applied); `local` are paths with work of the user's; `would` is what `apply` would do,
    in words, and `refused` the error that it would end with, or None.
    """

    component: str
    base: str
    path: str
    populated: bool
    source: str | None
    applied_base: str | None
    head: str | None
    branch: str | None
    base_commit: str | None
    patches: tuple[PatchStatus, ...]
    tree: str | None
    recorded_tree: str | None
    tree_is_recorded: bool | None
    interrupted: bool
    local: tuple[str, ...]
    would: str
    refused: dict[str, object] | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def status(workspace: Workspace) -> Status:
    """Return what is applied to a component, and what `apply` would do.

    Raises:
        EnvironmentProblem: git is missing or too old.
    """
    require()
    component, base = workspace.component, workspace.base
    would, refused = "", None
    try:
        series, location = workspace.series, workspace.location
    except PatchsetError as error:
        return _unknown(component, base, error)
    state = load_state(location.state_file) if location.populated else None
    interrupted = (location.private / journal.NAME).exists()
    branch = commit = tree = None
    local: tuple[str, ...] = ()
    try:
        if location.populated:
            branch, commit = applying.current(location)
            tree = location.git.tree_of(commit)
            local = local_changes(location)
        would = _would(workspace, location, interrupted)
    except PatchsetError as error:
        would, refused = "refuse", error.as_json()
    applied = state is not None and commit == state.tip and state.tip != state.base_commit
    # A commit of the user's on top of what was applied leaves a tree that is not the recorded one.
    was_applied = state is not None and state.tip != state.base_commit and commit != state.base_commit
    recorded = _recorded(component, state) if was_applied else None
    return Status(
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


def _unknown(component: Component, base: Base, error: PatchsetError) -> Status:
    return Status(
        component=component.name,
        base=base.name,
        path=component.path,
        populated=False,
        source=None,
        applied_base=None,
        head=None,
        branch=None,
        base_commit=base.commit,
        patches=(),
        tree=None,
        recorded_tree=None,
        tree_is_recorded=None,
        interrupted=False,
        local=(),
        would="refuse",
        refused=error.as_json(),
    )


def _patches(series: Series, state: WorktreeState | None) -> tuple[PatchStatus, ...]:
    known = {patch.name: patch for patch in state.patches} if state else {}
    names = [entry.patch_name for entry in series.entries]
    found = []
    for name in names:
        patch = known.pop(name, None)
        if patch is None:
            found.append(PatchStatus(name, "not applied", None, ()))
        else:
            where = "outside" if patch.commit is None else "applied"
            found.append(PatchStatus(name, where, patch.commit, patch.outside))
    found += [PatchStatus(name, "applied, no longer listed", patch.commit, ()) for name, patch in known.items()]
    return tuple(found)


def _recorded(component: Component, state: WorktreeState | None) -> str | None:
    base = component.base(state.base) if state else None
    if base is None or state is None:
        return None
    source = base.source(state.source)
    return source.patched_tree if source is not None else None


def local_changes(location: Location) -> tuple[str, ...]:
    """Return the paths at which the work tree has work that is not committed."""
    git = Git(location.gitdir, location.work_tree)
    out = git.run("status", "--porcelain", "-z", "--untracked-files=normal", "--no-renames")
    return tuple(record[3:].decode("utf-8", errors="surrogateescape") for record in out.split(b"\0") if len(record) > 3)


def _would(workspace: Workspace, location: Location, interrupted: bool) -> str:
    series = workspace.series
    count = len(series.entries)
    patches = f"{count} patch{'es' if count != 1 else ''}"
    if interrupted:
        return "finish the change that was interrupted, then see"
    if not location.populated:
        stored = present(location.git, series.base) if (location.gitdir / "HEAD").exists() else None
        where = f"the {stored.kind}" if stored else ", else ".join(f"the {item.kind}" for item in series.base.sources)
        return f"populate {series.component.path} from {where or 'no recorded source'}, and apply {patches}"
    if applying.is_applied(location, series):
        return "do nothing"
    base = present(location.git, series.base) if series.base.recorded else applying.worktree_base(location)
    if base is None:
        return f"fetch {series.base.name} and apply {patches}"
    patched = compute(location, series, base)
    before = applying.current(location)
    applying.refuse_foreign(workspace, location, before, base.commit)
    if before[1] == patched.tip and before[0] == applying.branch_of(series.base):
        return "change no file, and note what is there"
    changes = diff(location.git, before[1], patched.tip)
    local.refuse_under_way(location)
    local.refuse_local(location, changes)
    return f"apply {patches}, changing {len(changes)} file{'s' if len(changes) != 1 else ''}"
