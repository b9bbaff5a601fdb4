"""What became of a patch on another base, in StGit's words where it has one, told from the two patches alone."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from patchset.model.patch import FileChange, Patch

Kind = Literal[
    "unmodified",  # the same change, at other lines perhaps
    "modified",  # other lines of its own, or the same in other surroundings
    "moved",  # in files that upstream has renamed
    "upstreamed",  # the merged tree is upstream's: all of it is there
    "partly upstreamed",
    "empty",  # its resolution left nothing of it
    "skipped",
    "outside",  # the archive has none of its files
]
# What is no patch of the new series any more.
DROPPED = frozenset({"upstreamed", "empty", "skipped"})


@dataclass(frozen=True)
class Fate:
    """The fate of one patch.

    `detail` says more in words; `moved` maps paths to those where upstream has them now; `landed` tells which
    files or lines of a partly upstreamed patch upstream has; `interdiff` is the diff of the two patches' own lines,
    without what upstream changed around them.
    """

    kind: Kind
    detail: str = ""
    moved: Mapping[str, str] = field(default_factory=dict)
    landed: tuple[str, ...] = ()
    interdiff: str = ""


def compare(old: Patch, new: Patch, moved: Mapping[str, str]) -> Fate:
    """Tell how a patch differs from what it was; `moved` are the files that upstream has renamed."""
    before = {moved.get(change.path, change.path): change for change in old.changes}
    after = {change.path: change for change in new.changes}
    landed = _landed(before, after)
    interdiff = _interdiff(before, after)
    if landed:
        return Fate("partly upstreamed", f"upstream has {', '.join(landed)}", moved, landed, interdiff)
    context = _surroundings(before) != _surroundings(after)
    if moved:
        detail = ", ".join(f"{source} is {target} now" for source, target in moved.items())
        return Fate("moved", detail, moved, (), interdiff)
    if interdiff:
        return Fate("modified", "its own lines differ", moved, (), interdiff)
    if context:
        return Fate("modified", "the same lines, in other surroundings", moved)
    return Fate("unmodified", "", moved)


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
    """Tell what of a patch is no longer in it, if nothing else has changed: then upstream has it."""
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


def _surroundings(changes: Mapping[str, FileChange]) -> dict[str, list[tuple[str, bytes]]]:
    return {path: [line for hunk in change.hunks for line in hunk.lines] for path, change in changes.items()}


def _interdiff(before: Mapping[str, FileChange], after: Mapping[str, FileChange]) -> str:
    out: list[str] = []
    for path in dict.fromkeys((*before, *after)):
        old = own_lines(before[path]) if path in before else []
        new = own_lines(after[path]) if path in after else []
        if old != new:
            out += difflib.unified_diff(old, new, f"old patch: {path}", f"new patch: {path}", lineterm="", n=2)
    return "\n".join(out)
