"""Moving a series to another tree: patch by patch, three-way, and pure: trees in, trees out.

Each patch is the step from one tree to the next. On the new base, the same step is the merge of what it did (from
`before` to `after`) into what stands there. A patch whose merge leaves the tree as it was is in it already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from patchset.store.merge import Merged, Triple

Merge = Callable[[Sequence[Triple]], list[Merged]]
# Given a step and its conflicted merge, the tree in which the conflict is resolved, or None.
Resolve = Callable[["Step", Merged], str | None]


@dataclass(frozen=True)
class Step:
    """One patch of a series as the trees before and after it."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Replayed:
    """A step on another tree.

    `before` and `after` are the trees there. `resolved` tells that the merge conflicted and the result is a
    resolution of it; `skipped` that the step was left out, and `after` is `before`.
    """

    step: Step
    before: str
    after: str
    merged: Merged
    resolved: bool = False
    skipped: bool = False


@dataclass(frozen=True)
class Stopped:
    """The step at which a replay ended: its merge into `before` conflicts, and nobody has resolved it."""

    step: Step
    before: str
    merged: Merged


def replay(
    steps: Sequence[Step],
    onto: str,
    merge: Merge,
    resolve: Resolve = lambda step, merged: None,
    skip: Mapping[str, str] | None = None,
) -> tuple[list[Replayed], Stopped | None]:
    """Do each step on top of tree `onto`, up to the first conflict that `resolve` has no answer for.

    Steps whose names are in `skip` are left out.
    """
    done: list[Replayed] = []
    tree = onto
    for step in steps:
        if skip and step.name in skip:
            done.append(Replayed(step, tree, tree, Merged(tree), skipped=True))
            continue
        (merged,) = merge([Triple(step.before, tree, step.after)])
        after: str | None = merged.tree
        if not merged.clean:
            after = resolve(step, merged)
            if after is None:
                return done, Stopped(step, tree, merged)
        assert after is not None
        done.append(Replayed(step, tree, after, merged, resolved=not merged.clean))
        tree = after
    return done, None


def replay_many(steps: Sequence[Step], targets: Sequence[str], merge: Merge) -> list[list[Replayed | Stopped]]:
    """Do a series on many trees at once; each list ends with the first conflict on that tree.

    The merges of one step are asked for together, which takes one process for all trees.
    """
    columns: list[list[Replayed | Stopped]] = [[] for _ in targets]
    trees: list[str | None] = list(targets)
    for step in steps:
        live = [(at, tree) for at, tree in enumerate(trees) if tree is not None]
        answers = merge([Triple(step.before, tree, step.after) for _, tree in live])
        for (at, tree), merged in zip(live, answers, strict=True):
            if merged.clean:
                columns[at].append(Replayed(step, tree, merged.tree, merged))
                trees[at] = merged.tree
            else:
                columns[at].append(Stopped(step, tree, merged))
                trees[at] = None
    return columns
