"""The outcome of a patch on another base, in StGit's vocabulary where it has a term, from the two patches alone."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from patchset.model.patch import FileChange, Patch

Outcome = Literal[
    "unmodified",  # the same change, at other lines perhaps
    "modified",  # other lines of its own, or the same in another context
    "moved",  # upstream has renamed its files
    "upstreamed",  # the merged tree is upstream's: all of it is there
    "partly upstreamed",
    "empty",  # its resolution left nothing of it
    "skipped",
    "outside",  # the archive has none of its files
]
# Outcomes after which the patch is not in the new series.
DROPPED = frozenset({"upstreamed", "empty", "skipped"})


@dataclass(frozen=True)
class PatchDifference:
    """How a patch differs from its version for another base.

    `detail` explains the outcome; `moved` maps old paths to new ones where upstream has renamed files; `landed` names
    the files or lines of a partly upstreamed patch that upstream has; `interdiff` is the diff of the two patches' own
    lines, without what upstream changed around them.
    """

    outcome: Outcome
    detail: str = ""
    moved: Mapping[str, str] = field(default_factory=dict)
    landed: tuple[str, ...] = ()
    interdiff: str = ""


def compare(old: Patch, new: Patch, moved: Mapping[str, str]) -> PatchDifference:
    """Return how a patch differs from its old version; `moved` are the files that upstream has renamed."""
    before = {moved.get(change.path, change.path): change for change in old.changes}
    after = {change.path: change for change in new.changes}
    landed = _landed(before, after)
    interdiff = _interdiff(before, after)
    if landed:
        return PatchDifference("partly upstreamed", f"upstream has {', '.join(landed)}", moved, landed, interdiff)
    if moved:
        detail = ", ".join(f"{source} is {target} now" for source, target in moved.items())
        return PatchDifference("moved", detail, moved, (), interdiff)
    if interdiff:
        return PatchDifference("modified", "its own lines differ", moved, (), interdiff)
    if _hunk_lines(before) != _hunk_lines(after):
        return PatchDifference("modified", "the same lines, in another context", moved)
    return PatchDifference("unmodified", "", moved)


def own_lines(change: FileChange) -> list[str]:
    """Return a change's own lines, as the patch has them, with mode and kind of change as lines before them."""
    lines = []
    if change.operation != "modify":
        lines.append(f"= {change.operation}")
    if change.operation == "modify" and change.old_mode != change.new_mode:
        lines.append(f"= mode {change.old_mode or 0:o} -> {change.new_mode or 0:o}")
    if change.operation == "rename":
        lines.append(f"= from {change.old_path}")
    if change.payload is not None:
        lines.append(f"= binary {change.new_blob or 'no content'}")
    for hunk in change.hunks:
        lines += [tag + _text(line) for tag, line in hunk.lines if tag != " "]
    return lines


def _text(line: bytes) -> str:
    text = line.decode("utf-8", errors="backslashreplace")
    return text.removesuffix("\n") if text.endswith("\n") else f"{text} (no line end)"


def _landed(before: Mapping[str, FileChange], after: Mapping[str, FileChange]) -> tuple[str, ...]:
    """Return the parts that are missing from the new patch, if nothing else differs: then upstream has them."""
    landed = []
    for path, change in before.items():
        old = Counter(own_lines(change))
        new = Counter(own_lines(after[path])) if path in after else Counter()
        if new - old:
            return ()
        if path not in after:
            landed.append(f"{path}: all of it")
        elif gone := old - new:
            count = sum(gone.values())
            landed.append(f"{path}: {count} of its {sum(old.values())} lines")
    return tuple(landed) if all(path in before for path in after) else ()


def _hunk_lines(changes: Mapping[str, FileChange]) -> dict[str, list[tuple[str, bytes]]]:
    return {path: [line for hunk in change.hunks for line in hunk.lines] for path, change in changes.items()}


def _interdiff(before: Mapping[str, FileChange], after: Mapping[str, FileChange]) -> str:
    out: list[str] = []
    for path in dict.fromkeys((*before, *after)):
        old = own_lines(before[path]) if path in before else []
        new = own_lines(after[path]) if path in after else []
        if old != new:
            out += difflib.unified_diff(old, new, f"old patch: {path}", f"new patch: {path}", lineterm="", n=2)
    return "\n".join(out)
