"""A series changes: its trees are computed, its folder is replaced in one step, and `extern/` follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from patchset.model.series import Entry, Series
from patchset.project import base_toml
from patchset.sources.acquire import StoredBase
from patchset.store.difference import diff
from patchset.workflow import changelog, folder
from patchset.workflow.apply import branch_of, current, state_of, worktree_base
from patchset.workflow.compute import compute
from patchset.workflow.record import compute_trees, stored_bases, with_trees
from patchset.workflow.series_file import series_text
from patchset.worktree import local, switch
from patchset.worktree.location import Location, locate
from patchset.worktree.state import load as load_state
from toolkit.errors import IntegrityError
from toolkit.finding import refuse


@dataclass(frozen=True)
class Change:
    """The new content of a series; `heading` and `lines` go into its changelog where there are any."""

    files: tuple[tuple[Entry, bytes], ...]
    heading: str = ""
    lines: tuple[str, ...] = ()


def base_of(location: Location, series: Series) -> StoredBase:
    """Return the base that the work tree's series stands on: of the source that is applied, or any that is here.

    Raises:
        IntegrityError: none is here.
    """
    if not series.base.recorded:
        return worktree_base(location)
    state = load_state(location.state_file)
    bases = stored_bases(location, series.base)
    applied = [base for base in bases if state is not None and base.kind == state.source]
    if not bases:
        raise IntegrityError(
            f"{series.title} is not in the component's repository", remedy=f"patchset apply {series.title} brings it"
        )
    return (applied or bases)[0]


def put(location: Location, old: Series, change: Change, expected: str | None = None) -> Series:
    """Prove the new content of a series and write it; returns the series as it is now.

    `expected` is the tree that it must give on the source that is applied.

    Raises:
        SeriesError, PatchConflict, IntegrityError: it does not; the folder is as it was.
    """
    entries = tuple(entry for entry, _ in change.files)
    new = replace(old, entries=entries, files=tuple(data for _, data in change.files))
    refuse(new.findings, new.title)
    patched = compute(location, new, base_of(location, old).unproven())
    if expected is not None and patched.tree != expected:
        raise IntegrityError(
            f"{new.title}: the patches give tree {patched.tree}, the commits {expected}",
            remedy="report this; nothing was written",
        )
    contents = folder.read(old.folder)
    for entry in old.entries:
        contents.pop(entry.name, None)
    contents |= {entry.name: data for entry, data in change.files}
    contents["series"] = series_text(old, entries).encode()
    if old.base.recorded:
        trees = compute_trees(location, new, stored_bases(location, old.base))
        contents[base_toml.NAME] = with_trees(old.base, trees).encode()
    if change.lines:
        text = contents.get(changelog.NAME, b"").decode()
        text = changelog.added(text, old.component.name, old.base.name, change.heading, change.lines)
        contents[changelog.NAME] = text.encode()
    folder.write(old.folder, contents)
    return new


def follow(root: Path, series: Series, message: str) -> bool:
    """Bring `extern/` to the series as it is now, if it holds this series; the component's lock is held.

    The user's uncommitted work stays; where the change would cost some, it is refused.

    Raises:
        LocalChanges: it is; names the paths.
    """
    location = locate(root, series.component)
    state = load_state(location.state_file) if location.populated else None
    if state is None or state.base != series.base.name or state.tip == state.base_commit:
        return False
    base = base_of(location, series)
    patched = compute(location, series, base.unproven())
    before = current(location)
    changes = diff(location.git, before[1], patched.tip)
    new = replace(state_of(series, base, patched, diff(location.git, base.commit, patched.tip)), branch=state.branch)
    switch.switch(location, before, patched.tip, branch_of(series.base), new, message, changes=changes)
    return True


def refuse_follow(root: Path, series: Series, tip: str) -> None:
    """Raise `LocalChanges` if `follow` would: asked before anything is written.

    Raises:
        LocalChanges: work of the user's is in the way, or git is in the middle of something.
    """
    location = locate(root, series.component)
    state = load_state(location.state_file) if location.populated else None
    if state is None or state.base != series.base.name or state.tip == state.base_commit:
        return
    local.refuse_under_way(location)
    local.refuse_local(location, diff(location.git, current(location)[1], tip))
