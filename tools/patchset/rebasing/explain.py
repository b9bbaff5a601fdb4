"""What stands in a patch's way: the hunk, what upstream did there, and the release that did it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from patchset.engine import conflict
from patchset.engine import outcome as fate
from patchset.engine.export import context_of
from patchset.engine.rebase import Step, Stopped, beneath
from patchset.model.component import Base
from patchset.model.patch import Hunk as PatchHunk
from patchset.model.patch import Patch, parse
from patchset.sources import releases
from patchset.sources.acquire import Mode, present
from patchset.store import merge as merging
from patchset.store.difference import patch_text
from patchset.store.git import Git
from patchset.store.merge import MergeResult, Triple
from patchset.store.objects import blobs, entries
from patchset.workflow.steps import stones_here

if TYPE_CHECKING:
    from patchset.rebasing.replay import Job
    from patchset.workflow.steps import Stack


@dataclass(frozen=True)
class Hunk:
    """One conflicted place: the patch's hunk, the line in the work tree's file, and upstream's own change there."""

    hunk: int | None
    header: str
    line: int
    upstream: tuple[str, ...]


@dataclass(frozen=True)
class File:
    """One conflicted file; `kind` and `message` are git's. `landed` counts the patch's added lines upstream has."""

    path: str
    kind: str
    message: str
    hunks: tuple[Hunk, ...]
    landed: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Explained:
    """A conflict in full; `release` is the first at hand with which the patch conflicts, `commit` upstream's commit."""

    patch: str
    files: tuple[File, ...]
    release: str | None
    after: str | None
    commit: str | None
    subject: str = ""

    @property
    def likely_upstreamed(self) -> bool:
        """Whether upstream has most of what the patch adds: it may have landed with changes."""
        there, all_lines = (sum(item.landed[at] for item in self.files) for at in (0, 1))
        return all_lines > 0 and there * 2 > all_lines


def explain(job: Job, stack: Stack, git: Git, stopped: Stopped) -> Explained:
    """Tell of a conflict."""
    patch = next(item for item in job.series.patches if item.name == stopped.step.name)
    names = [step.name for step in stack.steps]
    earlier = stack.steps[: names.index(stopped.step.name)]
    found = transition(job, git, earlier, stopped.step, stack.source.kind)
    commit = None
    if stack.source.kind == "submodule" and found is not None:
        from patchset.rebasing.bisect import breaking_commit

        commit = breaking_commit(job.location.git, git, earlier, stopped.step, found[0], found[1])
    after = found[0].name if found else None
    return describe(patch, git, stopped, found[1].name if found else None, after, commit)


def describe(
    patch: Patch, git: Git, stopped: Stopped, release: str | None, after: str | None, commit: str | None
) -> Explained:
    """Return a conflict with its files and hunks; `release`, `after` and `commit` are those that stand in the way."""
    files = [_file(git, stopped.merged, path, patch) for path in stopped.merged.paths]
    subject = git.run("log", "-1", "--format=%s", commit).decode(errors="replace").strip() if commit else ""
    return Explained(patch.name, tuple(files), release, after, commit, subject)


def first_release(job: Job, git: Git, step: Step, kind: str, patch: Patch, *, partly: bool) -> str | None:
    """Return the first release at hand that has all of a step, or with `partly` some of it.

    None where a release before it conflicts: what that one has nobody can say.
    """
    for base in [*_between(job, kind), job.base]:
        tree = _tree_here(git, base, kind)
        if tree is None:
            continue
        (merged,) = merging.merge(git, [Triple(step.before, tree, step.after)])
        if not merged.clean:
            return None
        if merged.tree == tree or (partly and _landed(git, tree, merged.tree, patch)):
            return base.name
    return None


def _landed(git: Git, before: str, after: str, patch: Patch) -> bool:
    new, _ = parse(patch.file, patch_text(git, before, after, context_of([patch])))
    return new is not None and bool(fate.compare(patch, new, {}).landed)


def stones(job: Job, git: Git, kind: str) -> list[tuple[str, str]]:
    """Return the releases at hand between the two bases with their trees, the one nearest to the old base first."""
    return stones_here(job.component, job.series.base, git, kind).towards(job.base.name)


def transition(job: Job, git: Git, earlier: Sequence[Step], step: Step, kind: str) -> tuple[Base, Base] | None:
    """Return the last release at hand up to which a step fits on those before it, and the one after it."""
    last = job.series.base
    for base in [*_between(job, kind), job.base]:
        tree = _tree_here(git, base, kind)
        if tree is None:
            continue
        tree = beneath(earlier, tree, partial(merging.merge, git))
        (merged,) = merging.merge(git, [Triple(step.before, tree, step.after)])
        if not merged.clean:
            return last, base
        last = base
    return None


def _between(job: Job, kind: str) -> list[Base]:
    """Return the releases in the repository between the two bases, in the direction of the rebase."""
    start, end = releases.version_of(job.series.base.name), releases.version_of(job.base.name)
    model = releases.model_of(job.component, job.series.base)
    if start is None or end is None or model is None:
        return []
    found = []
    for base in releases.here(job.component, model, job.location.git):
        version = releases.version_of(base.name)
        if version is not None and min(start, end) < version < max(start, end):
            found.append(base)
    return found if start < end else found[::-1]


def _tree_here(git: Git, base: Base, kind: str) -> str | None:
    mode: Mode = "archive" if kind == "archive" else "submodule"
    found = present(git, base, mode)
    return git.tree_of(found.commit) if found else None


def _diff(git: Git, old: str, new: str, context: int) -> tuple[PatchHunk, ...]:
    """Return the hunks between two blobs."""
    if old == new:
        return ()
    # Patch text is made of trees: of two with just this file.
    before, after = (git.run("mktree", "-z", stdin=f"100644 blob {blob}\tfile\0".encode()) for blob in (old, new))
    parsed, _ = parse(Path("file"), patch_text(git, before.decode().strip(), after.decode().strip(), context))
    return parsed.changes[0].hunks if parsed is not None and parsed.changes else ()


def _file(git: Git, merged: MergeResult, path: str, patch: Patch) -> File:
    entry = entries(git, merged.tree, [path]).get(path)
    data = blobs(git, [entry.oid])[entry.oid] if entry else b""
    change = next((item for item in patch.changes if path in (item.old_path, item.new_path)), None)
    if change is None and len(patch.changes) == 1:
        change = patch.changes[0]
    clash = next((item for item in merged.conflicts if path in item.paths), None)
    sides = {stage.number: stage.entry.oid for stage in merged.stages if stage.path == path}
    hunks: list[Hunk] = []
    lines = [region.line for region in conflict.regions(data)]
    if lines and {1, 2, 3} <= set(sides):
        # Numbered as in the patch, which may be written for another release's lines.
        numbered = _diff(git, sides[1], sides[3], context_of([patch]))
        met = conflict.collisions(_diff(git, sides[1], sides[3], 0), _diff(git, sides[1], sides[2], 0))
        for at, (own, others) in enumerate(met):
            hunk = conflict.holding(numbered, own)
            texts = tuple(conflict.text(item) for item in others[:3])
            # Two hunks may meet in one place of the file.
            line = lines[at] if len(met) == len(lines) else lines[min(at, len(lines) - 1)]
            hunks.append(Hunk(hunk.number if hunk else None, hunk.header if hunk else "", line, texts))
    landed = (0, 0)
    if change is not None and 2 in sides:
        landed = conflict.landed_share(change, blobs(git, [sides[2]])[sides[2]])
    kind, message = (clash.kind, clash.message) if clash else ("contents", "")
    return File(path, kind, message, tuple(hunks), landed)
