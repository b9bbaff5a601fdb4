"""A series changes: its trees are computed, its folder is replaced in one step, and `extern/` follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from patchset.model.project import Project
from patchset.model.series import Entry, Series
from patchset.sources.acquire import Acquired
from patchset.store.difference import diff
from patchset.workflow import changelog, folder
from patchset.workflow.apply import branch_of, current, worktree_source
from patchset.workflow.compute import compute
from patchset.workflow.record import here, trees, updated
from patchset.workflow.steps import unproved
from patchset.worktree import journal, local, switch
from patchset.worktree.location import Location, locate
from patchset.worktree.state import WorktreeState
from patchset.worktree.state import load as load_state
from toolkit.errors import IntegrityError
from toolkit.finding import refuse


@dataclass(frozen=True)
class Change:
    """The new content of a series; `heading` and `lines` go into its changelog where there are any."""

    files: tuple[tuple[Entry, bytes], ...]
    heading: str = ""
    lines: tuple[str, ...] = ()


def ready(project: Project, location: Location) -> Location:
    """Finish what an earlier run left behind; the component's lock is held."""
    if location.populated:
        journal.recover(location)
    return location


def source_of(location: Location, series: Series) -> Acquired:
    """Return the base that the work tree's series stands on: of the source that is applied, or any that is here.

    Raises:
        IntegrityError: none is here.
    """
    if not series.base.recorded:
        return worktree_source(location, series)
    state = load_state(location.state_file)
    found = here(location, series.base)
    wanted = [item for item in found if state is not None and item.kind == state.source]
    if not found:
        raise IntegrityError(
            f"{series.title} is not in the component's repository", remedy=f"patchset apply {series.title} brings it"
        )
    return (wanted or found)[0]


def put(location: Location, old: Series, change: Change, expected: str | None = None) -> Series:
    """Prove the new content of a series and write it; returns the series as it is now.

    `expected` is the tree that it must give on the source that is applied.

    Raises:
        SeriesError, PatchConflict, IntegrityError: it does not; the folder is as it was.
    """
    entries = tuple(entry for entry, _ in change.files)
    new = replace(old, entries=entries, files=tuple(data for _, data in change.files))
    refuse(new.findings, new.title)
    source = source_of(location, old)
    made = compute(location, new, unproved(source))
    if expected is not None and made.tree != expected:
        raise IntegrityError(
            f"{new.title}: the patches give tree {made.tree}, the commits {expected}",
            remedy="report this; nothing was written",
        )
    contents = folder.read(old.folder)
    for entry in old.entries:
        contents.pop(entry.name, None)
    contents |= {entry.name: data for entry, data in change.files}
    contents["series"] = series_text(old, entries).encode()
    if old.base.recorded:
        done = trees(location, new, here(location, old.base))
        contents["base.toml"] = updated(contents["base.toml"].decode(), done).encode()
    if change.lines:
        text = contents.get(changelog.NAME, b"").decode()
        made_text = changelog.added(text, old.component.name, old.base.name, change.heading, change.lines)
        contents[changelog.NAME] = made_text.encode()
    folder.write(old.folder, contents)
    return new


def series_text(old: Series, entries: Sequence[Entry]) -> str:
    """Return the `series` file for other entries: lines and comments stay where they are as far as they can."""
    lines = (old.folder / "series").read_text("utf-8").split("\n")
    before = {entry.name: entry for entry in old.entries}
    names = [entry.name for entry in entries]
    if [name for name in names if name in before] == [name for name in before if name in names]:
        return _merged(lines, old, entries)
    # Reordered: comments cannot be told to belong to a line; they stay on top.
    comments = [line for line in lines if line.strip().startswith("#")]
    return "\n".join([*comments, *(_line(entry) for entry in entries), ""])


def _merged(lines: list[str], old: Series, entries: Sequence[Entry]) -> str:
    by_line = {entry.line: entry for entry in old.entries}
    wanted = list(entries)
    known: Mapping[str, Entry] = {entry.name: entry for entry in old.entries}
    out: list[str] = []
    for number, line in enumerate(lines, 1):
        entry = by_line.get(number)
        if entry is None:
            out.append(line)
            continue
        while wanted and wanted[0].name not in known:
            out.append(_line(wanted.pop(0)))
        if wanted and wanted[0].name == entry.name:
            out.append(line if wanted[0].strip == entry.strip else _line(wanted[0]))
            wanted.pop(0)
    rest = [_line(entry) for entry in wanted]
    while out and not out[-1]:
        out.pop()
    return "\n".join([*out, *rest, ""])


def _line(entry: Entry) -> str:
    return entry.name if entry.strip == 1 else f"{entry.name} -p{entry.strip}"


def follow(project: Project, series: Series, message: str) -> bool:
    """Bring `extern/` to the series as it is now, if it holds this series; the component's lock is held.

    The user's uncommitted work stays; where the change would cost some, it is refused.

    Raises:
        LocalChanges: it is; names the paths.
    """
    location = locate(project.root, series.component)
    state = load_state(location.state_file) if location.populated else None
    if state is None or state.base != series.base.name or state.tip == state.base_commit:
        return False
    source = source_of(location, series)
    made = compute(location, series, unproved(source))
    before = current(location)
    changes = diff(location.git, before[1], made.tip)
    new = WorktreeState(
        base=series.base.name,
        source=source.kind,
        digest=series.digest,
        base_commit=source.commit,
        tip=made.tip,
        tree=made.tree,
        patches=made.patches,
        branch=state.branch,
        stats=dict.fromkeys(diff(location.git, source.commit, made.tip)),
    )
    switch.switch(location, before, made.tip, branch_of(series.base), new, message, changes=changes)
    return True


def refuse_follow(project: Project, series: Series, tip: str) -> None:
    """Raise `LocalChanges` if `follow` would: asked before anything is written.

    Raises:
        LocalChanges: work of the user's is in the way, or git is in the middle of something.
    """
    location = locate(project.root, series.component)
    state = load_state(location.state_file) if location.populated else None
    if state is None or state.base != series.base.name or state.tip == state.base_commit:
        return
    local.refuse_under_way(location)
    local.refuse_local(location, diff(location.git, current(location)[1], tip))
