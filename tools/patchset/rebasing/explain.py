"""A conflict in full: the hunk, upstream's change at that place, and the release and commit that brought it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchset.engine import conflict
from patchset.engine.export import context_of
from patchset.engine.replay import ReplayConflict, merger
from patchset.model.patch import Hunk, Patch, parse
from patchset.rebasing.breaking import breaking_commit, merge_on_release, state_of
from patchset.rebasing.job import RebaseJob
from patchset.store.difference import patch_text
from patchset.store.git import Git
from patchset.store.merge import MergeResult
from patchset.store.objects import blobs, entries
from patchset.workflow.steps import Stack


@dataclass(frozen=True)
class ConflictedHunk:
    """One conflicted place: the patch's hunk, the line in the work tree's file, and upstream's own change there."""

    hunk: int | None
    header: str
    line: int
    upstream: tuple[str, ...]


@dataclass(frozen=True)
class ConflictedFile:
    """One conflicted file; `kind` and `message` are git's.

    `landed` is how many of the lines that the patch adds there upstream's file has, and how many the patch adds.
    """

    path: str
    kind: str
    message: str
    hunks: tuple[ConflictedHunk, ...]
    landed: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ConflictReport:
    """A conflict in full.

    `release` is the first stored release that the patch conflicts with, `after` the one before it, up to which it
    applies; `commit` and `subject` are upstream's commit between the two, where its history is stored.
    """

    patch: str
    files: tuple[ConflictedFile, ...]
    release: str | None
    after: str | None
    commit: str | None
    subject: str = ""

    @property
    def landed(self) -> tuple[int, int]:
        """How many of the lines that the patch adds upstream's conflicted files have, and how many the patch adds."""
        return sum(item.landed[0] for item in self.files), sum(item.landed[1] for item in self.files)

    @property
    def likely_upstreamed(self) -> bool:
        """True where upstream has most of the lines that the patch adds: it may have landed with changes."""
        landed, added = self.landed
        return added > 0 and landed * 2 > added


def explain(job: RebaseJob, stack: Stack, git: Git, stopped: ReplayConflict) -> ConflictReport:
    """Return the report of the conflict at which a rebase stopped."""
    step, store, merge = stopped.step, job.location.git, merger(git)
    earlier = stack.earlier(step.name)
    last = job.series.base
    for base, tree in job.stored_releases(stack.base.comparable):
        if state_of(*merge_on_release(merge, earlier, step, tree)) == "conflict":
            commit = breaking_commit(store, merge, earlier, step, last, base) if stack.base.has_history else None
            return describe(stack.patch(step.name), git, stopped, base.name, last.name, commit)
        last = base
    return describe(stack.patch(step.name), git, stopped, None, None, None)


def describe(
    patch: Patch, git: Git, stopped: ReplayConflict, release: str | None, after: str | None, commit: str | None
) -> ConflictReport:
    """Return a conflict with its files and hunks; see `ConflictReport` for `release`, `after` and `commit`."""
    files = [_file(git, stopped.merged, path, patch) for path in stopped.merged.paths]
    subject = subject_of(git, commit) if commit else ""
    return ConflictReport(patch.name, tuple(files), release, after, commit, subject)


def subject_of(git: Git, commit: str) -> str:
    """Return the subject of a commit's message."""
    return git.run("log", "-1", "--format=%s", commit).decode(errors="replace").strip()


def _file(git: Git, merged: MergeResult, path: str, patch: Patch) -> ConflictedFile:
    clash = next((item for item in merged.conflicts if path in item.paths), None)
    kind, message = (clash.kind, clash.message) if clash else ("contents", "")
    sides = {stage.number: stage.entry.oid for stage in merged.stages if stage.path == path}
    change = next((item for item in patch.changes if path in (item.old_path, item.new_path)), None)
    if change is None and len(patch.changes) == 1:
        change = patch.changes[0]
    landed = (0, 0)
    if change is not None and 2 in sides:
        landed = conflict.landed_share(change, blobs(git, [sides[2]])[sides[2]])
    return ConflictedFile(path, kind, message, _hunks(git, merged, path, sides, patch), landed)


def _hunks(git: Git, merged: MergeResult, path: str, sides: dict[int, str], patch: Patch) -> tuple[ConflictedHunk, ...]:
    """Return the hunks of a conflicted file; `sides` are its blobs in base (1), upstream's tree (2) and patch (3)."""
    entry = entries(git, merged.tree, [path]).get(path)
    lines = [region.line for region in conflict.regions(blobs(git, [entry.oid])[entry.oid])] if entry else []
    if not lines or not {1, 2, 3} <= set(sides):
        return ()
    # Numbered as in the patch, which may be written for another release's lines.
    numbered = _diff(git, sides[1], sides[3], context_of([patch]))
    collisions = conflict.collisions(_diff(git, sides[1], sides[3], 0), _diff(git, sides[1], sides[2], 0))
    hunks = []
    for at, (own, others) in enumerate(collisions):
        hunk = conflict.holding(numbered, own)
        number, header = (hunk.number, hunk.header) if hunk else (None, "")
        # Two hunks may meet in one place of the file.
        line = lines[min(at, len(lines) - 1)]
        hunks.append(ConflictedHunk(number, header, line, tuple(conflict.text(item) for item in others[:3])))
    return tuple(hunks)


def _diff(git: Git, old: str, new: str, context: int) -> tuple[Hunk, ...]:
    """Return the hunks between two blobs."""
    if old == new:
        return ()
    # Patch text needs trees: two that hold just this file.
    before, after = (git.run("mktree", "-z", stdin=f"100644 blob {blob}\tfile\0".encode()) for blob in (old, new))
    parsed, _ = parse(Path("file"), patch_text(git, before.decode().strip(), after.decode().strip(), context))
    return parsed.changes[0].hunks if parsed is not None and parsed.changes else ()
