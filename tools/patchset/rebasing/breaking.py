"""Where a patch breaks or lands: its state at a release, and the first release or commit at which that changes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal

from patchset.engine.replay import Merge, PatchStep, merge_earlier
from patchset.model.component import Base
from patchset.sources.acquire import present
from patchset.sources.kinds import kinds
from patchset.store.git import Git
from patchset.store.merge import MergeResult, Triple
from toolkit.errors import PatchsetError

StepState = Literal["applies", "upstreamed", "conflict"]


def merge_on_release(
    merge: Merge, earlier: Sequence[PatchStep], step: PatchStep, release: str
) -> tuple[str, MergeResult]:
    """Return a release's tree with the patches before `step`, and the merge of `step` into it."""
    tree = merge_earlier(earlier, release, merge)
    (merged,) = merge([Triple(step.before, tree, step.after)])
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
    return bisect_left(range(count - 1), True, key=wrong)


def breaking_commit(
    store: Git, merge: Merge, earlier: Sequence[PatchStep], step: PatchStep, good: Base, bad: Base
) -> str | None:
    """Return the upstream commit between two releases at which a step's state changes, or None without their history.

    `store` is the repository. Only first parents are followed: a merge is the commit that brought its branch in.
    """
    start, end = _upstream_commit(store, good), _upstream_commit(store, bad)
    if start is None or end is None:
        return None
    code, out, _ = store.attempt("merge-base", start, end)
    if code:
        return None
    fork = out.decode().strip()
    commits = store.run("rev-list", "--first-parent", "--reverse", f"{fork}..{end}").decode().split()

    def state(commit: str) -> StepState:
        return state_of(*merge_on_release(merge, earlier, step, store.tree_of(commit) or ""))

    try:
        # A fix that only the older release's branch has makes the fork itself wrong: no commit after it is the cause.
        if not commits or state(fork) == state(commits[-1]):
            return None
        at = first_wrong(len(commits), lambda at: state(commits[at]) != state(fork))
    except PatchsetError:
        return None
    return commits[at] if at is not None else None


def _upstream_commit(store: Git, base: Base) -> str | None:
    """Return the stored commit of a release that has upstream's history, or None."""
    stored = (present(store, base, item.kind) for item in kinds() if item.has_history)
    return next((item.commit for item in stored if item is not None), None)
