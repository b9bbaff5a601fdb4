"""Replaying a series on another tree: patch by patch, three-way, and pure: trees in, trees out.

Each patch is the step from one tree to the next. On the new base, the same step is the merge of its change (from
`before` to `after`) into the tree there. A step whose merge leaves that tree unchanged is already in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from patchset.store import merge as merging
from patchset.store.git import Git
from patchset.store.merge import MergeResult, Triple

Merge = Callable[[Sequence[Triple]], list[MergeResult]]
# Given a conflicted merge, the tree in which its conflict is resolved, or None.
Resolve = Callable[[MergeResult], str | None]
# Releases between two bases, (name, tree), the one nearest to the old base first.
Releases = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class PatchStep:
    """One patch of a series as the trees before and after it."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class ChainedMerge:
    """A step merged along intermediate releases, each of them cleanly, into a tree that it conflicts with directly.

    `step` is the step at the last of these `releases`, `merged` its merge into the tree, which may conflict too.
    `landed` is the release in which the step changes nothing any more: upstream has all of it there.
    """

    step: PatchStep
    merged: MergeResult
    releases: tuple[str, ...]
    landed: str | None


@dataclass(frozen=True)
class ReplayedStep:
    """A step on another tree, with the trees before and after it there.

    `resolved` is True where the merge conflicted and a resolution was used, `skipped` where the step was left out
    (`after` is `before` then). `chain` is the merge along intermediate releases, where a single merge conflicted.
    """

    step: PatchStep
    before: str
    after: str
    merged: MergeResult
    resolved: bool = False
    skipped: bool = False
    chain: ChainedMerge | None = None


@dataclass(frozen=True)
class ReplayConflict:
    """The step at which a replay ended: its merge into `before` conflicts, and there is no resolution.

    `step` is the step at the last intermediate release up to which it merges cleanly.
    """

    step: PatchStep
    before: str
    merged: MergeResult


def merger(git: Git) -> Merge:
    """Return the merge of trees in a scratch repository (see `store.merge.scratch`); it remembers its results."""
    results: dict[Triple, MergeResult] = {}

    def merge(triples: Sequence[Triple]) -> list[MergeResult]:
        missing = [triple for triple in dict.fromkeys(triples) if triple not in results]
        results.update(zip(missing, merging.merge(git, missing), strict=True))
        return [results[triple] for triple in triples]

    return merge


def replay(
    steps: Sequence[PatchStep],
    onto: str,
    merge: Merge,
    resolve: Resolve = lambda merged: None,
    skip: Mapping[str, str] | None = None,
    releases: Callable[[], Releases] = tuple,
) -> tuple[list[ReplayedStep], ReplayConflict | None]:
    """Replay each step on top of tree `onto`, up to the first conflict without a resolution.

    Steps whose names are in `skip` are left out. `releases` gives the intermediate releases; it is called where a
    step conflicts in a single merge.
    """
    replayed: list[ReplayedStep] = []
    tree = onto
    for step in steps:
        if skip and step.name in skip:
            replayed.append(ReplayedStep(step, tree, tree, MergeResult(tree), skipped=True))
            continue
        (merged,) = merge([Triple(step.before, tree, step.after)])
        after = merged.tree if merged.clean else resolve(merged)
        chain = merge_along(step, tree, releases(), merge) if after is None else None
        if chain is not None:
            merged = chain.merged
            after = merged.tree if merged.clean else resolve(merged)
        if after is None:
            return replayed, ReplayConflict(chain.step if chain is not None else step, tree, merged)
        replayed.append(ReplayedStep(step, tree, after, merged, resolved=not merged.clean, chain=chain))
        tree = after
    return replayed, None


def merge_earlier(earlier: Sequence[PatchStep], onto: str, merge: Merge) -> str:
    """Return tree `onto` with the steps of a series that precede one: the tree that this one is replayed on.

    The files of an earlier step that conflicts have markers; a step that does not touch them is not affected.
    """
    for step in earlier:
        (merged,) = merge([Triple(step.before, onto, step.after)])
        onto = merged.tree
    return onto


def merge_along(step: PatchStep, tree: str, releases: Releases, merge: Merge) -> ChainedMerge | None:
    """Merge a step into `tree` along intermediate releases; return None where it conflicts with all of them.

    A file that upstream moves in one release and rewrites in the next is followed release by release. A change that
    upstream adopts and changes afterwards is recognised at the release that has it unchanged.
    """
    before, after = step.before, step.after
    used: list[str] = []
    for name, release in releases:
        (merged,) = merge([Triple(before, release, after)])
        if not merged.clean:
            continue
        used.append(name)
        if merged.tree == release:
            return ChainedMerge(PatchStep(step.name, release, release), MergeResult(tree), tuple(used), name)
        before, after = release, merged.tree
    if not used:
        return None
    (merged,) = merge([Triple(before, tree, after)])
    return ChainedMerge(PatchStep(step.name, before, after), merged, tuple(used), None)


def replay_many(
    steps: Sequence[PatchStep],
    targets: Sequence[str],
    merge: Merge,
    releases: Callable[[int], Releases] = lambda at: (),
) -> list[list[ReplayedStep | ReplayConflict]]:
    """Replay a series on many trees at once; each list ends with the first conflict on that tree.

    The merges of one step are requested together, which takes one process for all trees. `merge` is a `merger`.
    `releases` gives the intermediate releases of a target by its index, see `replay`.
    """
    columns: list[list[ReplayedStep | ReplayConflict]] = [[] for _ in targets]
    trees: list[str | None] = list(targets)
    for step in steps:
        live = [(at, tree) for at, tree in enumerate(trees) if tree is not None]
        results = merge([Triple(step.before, tree, step.after) for _, tree in live])
        conflicts = [at for (at, _), merged in zip(live, results, strict=True) if not merged.clean]
        # The chains to neighbouring releases begin alike: `merge` remembers these merges.
        merge([Triple(step.before, release, step.after) for at in conflicts for _, release in releases(at)])
        for (at, tree), merged in zip(live, results, strict=True):
            chain = None if merged.clean else merge_along(step, tree, releases(at), merge)
            final = merged if chain is None else chain.merged
            if final.clean:
                columns[at].append(ReplayedStep(step, tree, final.tree, final, chain=chain))
                trees[at] = final.tree
            else:
                columns[at].append(ReplayConflict(step if chain is None else chain.step, tree, final))
                trees[at] = None
    return columns
