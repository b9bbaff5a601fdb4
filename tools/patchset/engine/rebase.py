"""Moving a series to another tree: patch by patch, three-way, and pure: trees in, trees out.

Each patch is the step from one tree to the next. On the new base, the same step is the merge of what it did (from
`before` to `after`) into what stands there. A patch whose merge leaves the tree as it was is in it already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from patchset.store.merge import MergeResult, Triple

Merge = Callable[[Sequence[Triple]], list[MergeResult]]
# Given a step and its conflicted merge, the tree in which the conflict is resolved, or None.
Resolve = Callable[["Step", MergeResult], str | None]


@dataclass(frozen=True)
class Way:
    """How a step came to a tree that it conflicts with in one merge: by releases in between, each merged cleanly.

    `step` is the step as it is at the last of these, `merged` its merge into the tree, which may conflict too.
    `landed` is the release in which the step changes nothing any more: upstream had all of it then.
    """

    step: Step
    merged: MergeResult
    stones: tuple[str, ...]
    landed: str | None


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
    resolution of it; `skipped` that the step was left out, and `after` is `before`; `way` how the conflict of a
    single merge was avoided.
    """

    step: Step
    before: str
    after: str
    merged: MergeResult
    resolved: bool = False
    skipped: bool = False
    way: Way | None = None


@dataclass(frozen=True)
class Stopped:
    """The step at which a replay ended: its merge into `before` conflicts, and nobody has resolved it.

    It is the step as it is at the last release up to which it merges cleanly.
    """

    step: Step
    before: str
    merged: MergeResult


def replay(
    steps: Sequence[Step],
    onto: str,
    merge: Merge,
    resolve: Resolve = lambda step, merged: None,
    skip: Mapping[str, str] | None = None,
    stones: Callable[[], Sequence[tuple[str, str]]] = tuple,
) -> tuple[list[Replayed], Stopped | None]:
    """Do each step on top of tree `onto`, up to the first conflict that `resolve` has no answer for.

    Steps whose names are in `skip` are left out. `stones` gives releases on the way, (name, tree), nearest first: a
    step that conflicts in one merge is taken along them.
    """
    done: list[Replayed] = []
    tree = onto
    for step in steps:
        if skip and step.name in skip:
            done.append(Replayed(step, tree, tree, MergeResult(tree), skipped=True))
            continue
        (merged,) = merge([Triple(step.before, tree, step.after)])
        way: Way | None = None
        if not merged.clean and resolve(step, merged) is None:
            way = by_way_of(step, tree, stones(), merge)
        if way is not None:
            merged = way.merged
        after = merged.tree if merged.clean else resolve(step, merged)
        if after is None:
            return done, Stopped(way.step if way is not None else step, tree, merged)
        done.append(Replayed(step, tree, after, merged, resolved=not merged.clean, way=way))
        tree = after
    return done, None


def beneath(earlier: Sequence[Step], onto: str, merge: Merge) -> str:
    """Return tree `onto` with the patches of a series that stand before one: what that one is made to go on.

    Where an earlier patch conflicts, its files have markers. A patch that does nothing there is not touched by it.
    """
    for step in earlier:
        (merged,) = merge([Triple(step.before, onto, step.after)])
        onto = merged.tree
    return onto


def by_way_of(step: Step, tree: str, stones: Sequence[tuple[str, str]], merge: Merge) -> Way | None:
    """Take a step to `tree` along the releases in between, or return None where it fits none of them.

    What upstream changes bit by bit, a file that moves and then grows into another one, is followed bit by bit; and
    what it took over and changed afterwards is found at the release that has it as it was.
    """
    before, after = step.before, step.after
    used: list[str] = []
    for name, stone in stones:
        (merged,) = merge([Triple(before, stone, after)])
        if not merged.clean:
            continue
        used.append(name)
        if merged.tree == stone:
            return Way(Step(step.name, stone, stone), MergeResult(tree), tuple(used), name)
        before, after = stone, merged.tree
    if not used:
        return None
    (merged,) = merge([Triple(before, tree, after)])
    return Way(Step(step.name, before, after), merged, tuple(used), None)


def replay_many(
    steps: Sequence[Step],
    targets: Sequence[str],
    merge: Merge,
    stones: Callable[[int], Sequence[tuple[str, str]]] = lambda at: (),
) -> list[list[Replayed | Stopped]]:
    """Do a series on many trees at once; each list ends with the first conflict on that tree.

    The merges of one step are asked for together, which takes one process for all trees. `stones` gives the releases
    on the way to a target, see `replay`.
    """
    known: dict[Triple, MergeResult] = {}

    def again(triples: Sequence[Triple]) -> list[MergeResult]:
        # The ways to neighbouring releases begin alike.
        missing = [triple for triple in dict.fromkeys(triples) if triple not in known]
        known.update(zip(missing, merge(missing) if missing else (), strict=True))
        return [known[triple] for triple in triples]

    columns: list[list[Replayed | Stopped]] = [[] for _ in targets]
    trees: list[str | None] = list(targets)
    for step in steps:
        live = [(at, tree) for at, tree in enumerate(trees) if tree is not None]
        answers = merge([Triple(step.before, tree, step.after) for _, tree in live])
        broken = [at for (at, _), merged in zip(live, answers, strict=True) if not merged.clean]
        again([Triple(step.before, stone, step.after) for at in broken for _, stone in stones(at)])
        for (at, tree), merged in zip(live, answers, strict=True):
            way = None if merged.clean else by_way_of(step, tree, stones(at), again)
            final = merged if way is None else way.merged
            if final.clean:
                columns[at].append(Replayed(step, tree, final.tree, final, way=way))
                trees[at] = final.tree
            else:
                columns[at].append(Stopped(step if way is None else way.step, tree, final))
                trees[at] = None
    return columns
