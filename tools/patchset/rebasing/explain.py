"""What stands in a patch's way: the hunk, upstream's change there, and the release and commit that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from patchset.engine import conflict
from patchset.engine.export import context_of
from patchset.engine.replay import PatchStep, ReplayConflict, merge_earlier
from patchset.model.component import Base
from patchset.model.patch import Hunk, Patch, parse
from patchset.rebasing.job import RebaseJob
from patchset.sources.acquire import present
from patchset.store import merge as merging
from patchset.store.difference import patch_text
from patchset.store.git import Git
from patchset.store.merge import MergeResult, Triple
from patchset.store.objects import blobs, entries
from patchset.workflow.steps import Stack
from toolkit.errors import PatchsetError

StepState = Literal["applies", "upstreamed", "conflict"]


@dataclass(frozen=True)
class ConflictedHunk:
    """One conflicted place: the patch's hunk, the line in the work tree's file, and upstream's own change there."""

    hunk: int | None
    header: str
    line: int
    upstream: tuple[str, ...]


@dataclass(frozen=True)
class ConflictedFile:
    """One conflicted file; `kind` and `message` are git's. `landed` counts the patch's added lines upstream has."""

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
    def likely_upstreamed(self) -> bool:
        """True where upstream has most of the lines that the patch adds: it may have landed with changes."""
        there, added = (sum(item.landed[at] for item in self.files) for at in (0, 1))
        return added > 0 and there * 2 > added


def explain(job: RebaseJob, stack: Stack, git: Git, stopped: ReplayConflict) -> ConflictReport:
    """Return the report of the conflict at which a rebase stopped."""
    step, store = stopped.step, job.location.git
    earlier = stack.earlier(step.name)
    last = job.series.base
    for base, tree in _releases(job, stack):
        if state_of(*merge_on_release(git, earlier, step, tree)) == "conflict":
            commit = breaking_commit(store, git, earlier, step, last, base) if stack.base.has_history else None
            return describe(stack.patch(step.name), git, stopped, base.name, last.name, commit)
        last = base
    return describe(stack.patch(step.name), git, stopped, None, None, None)


def _releases(job: RebaseJob, stack: Stack) -> list[tuple[Base, str]]:
    """Return the stored releases after the old base, up to the new one, with their trees."""
    kind = stack.base.comparable
    stored = [(item.base, item.tree) for item in job.intermediate(kind)]
    target = present(job.location.git, job.base, kind)
    return [*stored, *([(job.base, job.location.git.tree_of(target.commit) or "")] if target else [])]


def first_release(
    job: RebaseJob, stack: Stack, git: Git, step: PatchStep, has: Callable[[str, str], bool]
) -> str | None:
    """Return the first stored release for which `has` is true of its tree and the merge of the step into it.

    None where a release before it conflicts: what that one has cannot be known.
    """
    for base, tree in _releases(job, stack):
        (merged,) = merging.merge(git, [Triple(step.before, tree, step.after)])
        if not merged.clean:
            return None
        if has(tree, merged.tree):
            return base.name
    return None


def merge_on_release(git: Git, earlier: Sequence[PatchStep], step: PatchStep, release: str) -> tuple[str, MergeResult]:
    """Return a release's tree with the patches before `step`, and the merge of `step` into it."""
    tree = merge_earlier(earlier, release, partial(merging.merge, git))
    (merged,) = merging.merge(git, [Triple(step.before, tree, step.after)])
    return tree, merged


def state_of(tree: str, merged: MergeResult) -> StepState:
    """Return the state of a patch at `tree`, from its merge into it."""
    if not merged.clean:
        return "conflict"
    return "upstreamed" if merged.tree == tree else "applies"


def first_wrong(count: int, wrong: Callable[[int], bool]) -> int | None:
    """Return by bisection the first of `count` places that is wrong, given that all after it are.

    None where the last one is not wrong.
    """
    if not count or not wrong(count - 1):
        return None
    low, high = -1, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        if wrong(middle):
            high = middle
        else:
            low = middle
    return high


def breaking_commit(
    store: Git, git: Git, earlier: Sequence[PatchStep], step: PatchStep, good: Base, bad: Base
) -> str | None:
    """Return the commit between two releases with which a step's state changes, or None without their history.

    `store` is the repository, `git` the scratch beside it. Only first parents are followed: a merge is the commit
    that brought its branch in.
    """
    start, end = (present(store, base, "submodule") for base in (good, bad))
    if start is None or end is None:
        return None
    code, out, _ = store.attempt("merge-base", start.commit, end.commit)
    if code:
        return None
    fork = out.decode().strip()
    commits = store.run("rev-list", "--first-parent", "--reverse", f"{fork}..{end.commit}").decode().split()

    def state(commit: str) -> StepState:
        return state_of(*merge_on_release(git, earlier, step, store.tree_of(commit) or ""))

    try:
        # A fix that only the older release's branch has makes the fork itself wrong: no commit after it is the cause.
        if not commits or state(fork) == state(commits[-1]):
            return None
        at = first_wrong(len(commits), lambda at: state(commits[at]) != state(fork))
    except PatchsetError:
        return None
    return commits[at] if at is not None else None


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


def _diff(git: Git, old: str, new: str, context: int) -> tuple[Hunk, ...]:
    """Return the hunks between two blobs."""
    if old == new:
        return ()
    # Patch text needs trees: two that hold just this file.
    before, after = (git.run("mktree", "-z", stdin=f"100644 blob {blob}\tfile\0".encode()) for blob in (old, new))
    parsed, _ = parse(Path("file"), patch_text(git, before.decode().strip(), after.decode().strip(), context))
    return parsed.changes[0].hunks if parsed is not None and parsed.changes else ()


def _file(git: Git, merged: MergeResult, path: str, patch: Patch) -> ConflictedFile:
    entry = entries(git, merged.tree, [path]).get(path)
    data = blobs(git, [entry.oid])[entry.oid] if entry else b""
    change = next((item for item in patch.changes if path in (item.old_path, item.new_path)), None)
    if change is None and len(patch.changes) == 1:
        change = patch.changes[0]
    clash = next((item for item in merged.conflicts if path in item.paths), None)
    sides = {stage.number: stage.entry.oid for stage in merged.stages if stage.path == path}
    hunks: list[ConflictedHunk] = []
    lines = [region.line for region in conflict.regions(data)]
    if lines and {1, 2, 3} <= set(sides):
        # Numbered as in the patch, which may be written for another release's lines.
        numbered = _diff(git, sides[1], sides[3], context_of([patch]))
        collisions = conflict.collisions(_diff(git, sides[1], sides[3], 0), _diff(git, sides[1], sides[2], 0))
        for at, (own, others) in enumerate(collisions):
            hunk = conflict.holding(numbered, own)
            texts = tuple(conflict.text(item) for item in others[:3])
            # Two hunks may meet in one place of the file.
            line = lines[at] if len(collisions) == len(lines) else lines[min(at, len(lines) - 1)]
            hunks.append(ConflictedHunk(hunk.number if hunk else None, hunk.header if hunk else "", line, texts))
    landed = (0, 0)
    if change is not None and 2 in sides:
        landed = conflict.landed_share(change, blobs(git, [sides[2]])[sides[2]])
    kind, message = (clash.kind, clash.message) if clash else ("contents", "")
    return ConflictedFile(path, kind, message, tuple(hunks), landed)
