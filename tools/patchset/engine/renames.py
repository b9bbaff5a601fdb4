"""The files of a patch that upstream has moved: one path's change turned up at another path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from patchset.store.difference import Changes
from patchset.store.objects import TreeEntry

# Half is git's own threshold for a rename (diffcore.h, DEFAULT_RENAME_SCORE); the merge has followed this one already.
_ALIKE = 0.3


def pair(old: Changes, new: Changes, read: Callable[[str], bytes]) -> dict[str, str]:
    """Return old path -> new path for files that one patch changes under two names.

    `old` and `new` are the patch's changes before and after the move, `read` gives a blob's content.
    """
    lost = [path for path in old if path not in new]
    added = [path for path in new if path not in old]
    if not lost or not added:
        return {}
    scores = []
    for source in lost:
        for target in added:
            before, after = _blob(old[source]), _blob(new[target])
            if (old[source][0] is None) != (new[target][0] is None) or before is None or after is None:
                continue
            scores.append((_likeness(read(before), read(after)), source, target))
    pairs: dict[str, str] = {}
    for score, source, target in sorted(scores, key=lambda item: (-item[0], item[1], item[2])):
        if score >= _ALIKE and source not in pairs and target not in pairs.values():
            pairs[source] = target
    return {path: pairs[path] for path in lost if path in pairs}


def _blob(change: tuple[TreeEntry | None, TreeEntry | None]) -> str | None:
    entry = change[0] or change[1]
    return entry.oid if entry else None


def _likeness(one: bytes, other: bytes) -> float:
    """Return the share of lines that two files have in common, of the longer one's."""
    if one == other:
        return 1.0
    left, right = Counter(one.split(b"\n")), Counter(other.split(b"\n"))
    return sum((left & right).values()) / max(sum(left.values()), sum(right.values()), 1)
