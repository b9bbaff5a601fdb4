"""A series changes: its trees are computed, its folder is replaced in one step, and `extern/` follows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from patchset.model.series import PatchFile, Series
from patchset.project import base_toml
from patchset.store.difference import diff
from patchset.workflow import changelog, folder
from patchset.workflow.checkout import Checkout, stored_bases
from patchset.workflow.compute import compute
from patchset.workflow.record import compute_trees, with_trees
from patchset.workflow.series_file import series_text
from patchset.worktree import local
from patchset.worktree.location import Location
from toolkit.errors import IntegrityError
from toolkit.finding import refuse


@dataclass(frozen=True)
class SeriesUpdate:
    """The new content of a series; `lines`, if any, go into its changelog under "Changed"."""

    patch_files: tuple[PatchFile, ...]
    lines: tuple[str, ...] = ()


def write(location: Location, old: Series, update: SeriesUpdate, expected: str) -> Series:
    """Prove the new content of a series and write it; return the series as it is now.

    `expected` is the tree that it must give on the source that is applied.

    Raises:
        SeriesError, PatchConflict, IntegrityError: it does not; the folder is as it was.
    """
    new = replace(old, patch_files=update.patch_files)
    refuse(new.findings, new.title)
    patched = compute(location, new, Checkout(location).base_of(old).unproven())
    if patched.tree != expected:
        raise IntegrityError(
            f"{new.title}: the patches give tree {patched.tree}, the commits {expected}",
            remedy="report this; nothing was written",
        )
    contents = folder.read(old.folder)
    for entry in old.entries:
        contents.pop(entry.name, None)
    contents |= {entry.name: data for entry, data in new.patch_files}
    contents["series"] = series_text(old, new.entries).encode()
    if old.base.recorded:
        trees = compute_trees(location, new, stored_bases(location, old.base))
        contents[base_toml.NAME] = with_trees(old.base, trees).encode()
    if update.lines:
        text = contents.get(changelog.NAME, b"").decode()
        text = changelog.added(text, old.component.name, old.base.name, "Changed", update.lines)
        contents[changelog.NAME] = text.encode()
    folder.write(old.folder, contents)
    return new


def follow(location: Location, series: Series, message: str) -> bool:
    """Bring `extern/` to the series as it is now, if it holds this series; the component's lock is held.

    The user's uncommitted work stays.

    Raises:
        LocalChanges: the change would cost some of that work; names the paths.
    """
    checkout = Checkout(location)
    state = checkout.patched_state(series)
    if state is None:
        return False
    base = checkout.base_of(series)
    checkout.bring(series, base, compute(location, series, base.unproven()), message, state.branch)
    return True


def refuse_follow(location: Location, series: Series, tip: str) -> None:
    """Raise what `follow` would raise for a change to commit `tip`, before anything is written.

    Raises:
        LocalChanges: work of the user's is in the way, or git is in the middle of something.
    """
    checkout = Checkout(location)
    if checkout.patched_state(series) is not None:
        local.refuse_under_way(location)
        local.refuse_local(location, diff(location.git, checkout.commit, tip))
