"""The patches of a rebase: the new file of each, and the fate to tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from patchset.engine import export
from patchset.engine import outcome as fate
from patchset.engine.rebase import Replayed
from patchset.engine.renames import pair
from patchset.model.component import Base, Component
from patchset.model.patch import Patch, parse
from patchset.model.project import Project
from patchset.model.series import Entry, Series
from patchset.rebasing import explain
from patchset.rebasing.resolutions import Resolutions
from patchset.sources.acquire import Mode
from patchset.store.difference import Changes, Comparer
from patchset.store.git import Git
from patchset.store.objects import blobs
from patchset.workflow.steps import Stack
from patchset.worktree.location import Location
from toolkit.finding import refuse
from toolkit.progress import Reporter


@dataclass(frozen=True)
class PatchFate:
    """What became of a patch; `release` is the first release at hand that has what upstream took over.

    `applies_to` is its new range of releases where that had to be widened, `resolved` that its conflict was resolved
    by hand, now or before; `by_way_of` are the releases in between along which it was merged, as it conflicts in one.
    """

    name: str
    fate: str
    detail: str = ""
    moved: Mapping[str, str] = field(default_factory=dict)
    landed: tuple[str, ...] = ()
    interdiff: str = ""
    release: str | None = None
    applies_to: str | None = None
    resolved: bool = False
    by_way_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What a rebase works on; `get` is how its bases are brought here."""

    project: Project
    component: Component
    location: Location
    series: Series
    base: Base
    mode: Mode
    reporter: Reporter
    offline: bool
    skips: Mapping[str, str]

    @property
    def private(self) -> Path:
        return self.location.private / "rebase"

    @property
    def resolutions(self) -> Resolutions:
        return Resolutions(self.location.private / "resolutions")


class Transplant:
    """Makes the new patch files and tells the fates, for one rebase."""

    def __init__(self, job: Job, stack: Stack, git: Git, compare: Comparer, onto: str) -> None:
        self._job = job
        self._stack = stack
        self._git = git
        self.compare = compare
        self._onto = onto
        self._patches = {patch.name: patch for patch in job.series.patches}

    def patch(self, item: Replayed) -> tuple[PatchFate, bytes | None]:
        """Return the fate of a patch, and its new file, None where it is dropped."""
        old = self._patches[item.step.name]
        if item.skipped:
            return PatchFate(old.name, "skipped", self._job.skips[old.name]), None
        if item.after == item.before:
            return self._gone(item), None
        before = self.compare.compare(item.step.before, item.step.after)
        after = self.compare.compare(item.before, item.after)
        data, told = old.data, fate.Fate("unmodified")
        if before != after:
            data, told = self._rewritten(old, item, before, after)
        data, applies_to = export.widened(data, self._job.base.name) if self._job.base.name else (data, None)
        release = None
        if told.kind == "partly upstreamed":
            release = explain.first_release(self._job, self._git, item.step, self._stack.source.kind, old, partly=True)
        return (
            PatchFate(
                old.name,
                told.kind,
                told.detail,
                dict(told.moved),
                told.landed,
                told.interdiff,
                release,
                applies_to,
                item.resolved,
                item.way.stones if item.way is not None else (),
            ),
            data,
        )

    def _gone(self, item: Replayed) -> PatchFate:
        name = item.step.name
        if item.way is not None and item.way.landed is not None:
            landed = item.way.landed
            detail = f"merged into {landed} it leaves that release's own tree; upstream has changed it since"
            return PatchFate(name, "upstreamed", detail, release=landed, by_way_of=item.way.stones)
        if item.resolved:
            return PatchFate(name, "empty", "its resolution leaves upstream's tree as it is", resolved=True)
        old = self._patches[name]
        release = explain.first_release(self._job, self._git, item.step, self._stack.source.kind, old, partly=False)
        detail = f"the merged tree is upstream's own ({item.after})"
        return PatchFate(name, "upstreamed", detail, release=release)

    def _rewritten(self, old: Patch, item: Replayed, before: Changes, after: Changes) -> tuple[bytes, fate.Fate]:
        kept = frozenset(self._stack.outside.get(old.name, ()))
        text = partial(self.compare.text, item.before, item.after)
        data = export.rewrite(old, text, kept)
        new, findings = parse(old.file, data)
        refuse(findings, f"the new {old.name}")
        assert new is not None
        moved = pair(before, after, lambda oid: blobs(self._git, [oid])[oid])
        return data, fate.compare(old, new, moved)

    def all(self, results: Mapping[str, tuple[PatchFate, bytes | None]]) -> tuple[PatchFate, ...]:
        """Return the fates of all patches that there is an answer for, in the order of the series."""
        found = []
        for entry in self._job.series.entries:
            name = entry.patch_name
            if name in results:
                found.append(results[name][0])
            elif self._is_outside(name):
                detail = f"not looked at: the archive has none of {', '.join(self._stack.outside[name])}"
                detail += "; commented out, as Applies-To leaves this release out" if name in self.parked else ""
                found.append(PatchFate(name, "outside", detail))
            else:
                break
        return tuple(found)

    def _is_outside(self, name: str) -> bool:
        return name in self._stack.outside and all(step.name != name for step in self._stack.steps)

    @cached_property
    def parked(self) -> frozenset[str]:
        """The patches that nobody could look at, and that are not for the new release by their own word."""
        release = self._job.base.name
        return frozenset(
            name
            for name, patch in self._patches.items()
            if release and self._is_outside(name) and export.widened(patch.data, release)[1] is not None
        )

    def files(self, results: Mapping[str, tuple[PatchFate, bytes | None]]) -> list[tuple[Entry, bytes]]:
        """Return the entries of the new series with their files; `parked` ones are not among them."""
        made = []
        for entry, data in zip(self._job.series.entries, self._job.series.files, strict=True):
            if entry.patch_name in self.parked:
                continue
            new = results[entry.patch_name][1] if entry.patch_name in results else data
            if new is not None:
                # What git writes has one leading component, whatever the old patch had.
                made.append((entry if new == data else replace(entry, strip=1), new))
        return made


def line_of(item: PatchFate) -> str:
    """Return the changelog's line for a patch."""
    what = f"dropped, {item.fate}" if item.fate in fate.DROPPED else item.fate
    parts = [f"{item.name}: {what}"]
    if item.release:
        parts.append(f"first in {item.release} of the releases at hand")
    if item.detail:
        parts.append(item.detail)
    if item.by_way_of:
        parts.append(f"merged by way of {', '.join(item.by_way_of)}")
    if item.resolved:
        parts.append("a conflict was resolved by hand")
    if item.applies_to:
        parts.append(f"Applies-To is {item.applies_to} now")
    return "; ".join(parts)


def series_text(old: Series, files: list[tuple[Entry, bytes]], parked: frozenset[str]) -> str:
    """Return the `series` file for the new base: the old one's lines and comments, less what was dropped.

    Patches named in `parked` become comments.
    """
    lines = (old.folder / "series").read_text("utf-8").split("\n")
    kept = {entry.line: entry for entry, _ in files}
    out = []
    for number, line in enumerate(lines, 1):
        known = next((entry for entry in old.entries if entry.line == number), None)
        if known is None:
            out.append(line)
        elif number in kept:
            out.append(line if kept[number].strip == known.strip else known.name)
        elif known.patch_name in parked:
            out.append(f"# {known.name}: outside the archive, and not for this release by its Applies-To")
    return "\n".join(out)
