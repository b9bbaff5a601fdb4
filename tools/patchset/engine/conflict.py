"""Reading a conflicted merge: the conflicting hunk of the patch, and upstream's own change at that place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchset.model.patch import FileChange, Hunk

_OURS, _BASE, _THEIRS, _END = b"<<<<<<< ", b"||||||| ", b"=======", b">>>>>>> "


@dataclass(frozen=True)
class Region:
    """One place between conflict markers (zdiff3): its first line in the file, and the three texts."""

    line: int
    ours: tuple[bytes, ...]
    base: tuple[bytes, ...]
    theirs: tuple[bytes, ...]


def regions(data: bytes) -> list[Region]:
    """Return the conflicted places of a file with markers."""
    places: list[Region] = []
    parts: dict[bytes, list[bytes]] | None = None
    start, current = 0, _OURS
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.startswith(_OURS):
            parts, start, current = {_OURS: [], _BASE: [], _THEIRS: []}, number, _OURS
        elif parts is None:
            continue
        elif line.startswith(_BASE):
            current = _BASE
        elif line == _THEIRS and current != _THEIRS:
            current = _THEIRS
        elif line.startswith(_END):
            places.append(Region(start, tuple(parts[_OURS]), tuple(parts[_BASE]), tuple(parts[_THEIRS])))
            parts = None
        else:
            parts[current].append(line)
    return places


def marked_lines(data: bytes) -> list[int]:
    """Return the lines of a file that are conflict markers."""
    lines = data.split(b"\n")
    return [number for number, line in enumerate(lines, 1) if line.startswith((_OURS, _BASE, _END))]


def collisions(own: Sequence[Hunk], upstream: Sequence[Hunk]) -> list[tuple[Hunk, list[Hunk]]]:
    """Return the hunks of one side that touch hunks of the other, with those; both are diffs of the same file.

    Both sides are without context. Adjoining changes count: git's merge takes them for a conflict too.
    """
    pairs = ((hunk, [other for other in upstream if _touch(hunk, other)]) for hunk in own)
    return [(hunk, others) for hunk, others in pairs if others]


def holding(hunks: Sequence[Hunk], inner: Hunk) -> Hunk | None:
    """Return the hunk, with context, that a hunk without context of the same file is a part of."""
    start, end = _range(inner)
    return next((hunk for hunk in hunks if _range(hunk)[0] <= start and end <= _range(hunk)[1]), None)


def _touch(one: Hunk, other: Hunk) -> bool:
    (start, end), (first, last) = _range(one), _range(other)
    return start <= last and first <= end


def _range(hunk: Hunk) -> tuple[int, int]:
    """Return the gaps between old lines at which a hunk begins and ends; an insertion has one gap."""
    start = hunk.old_start - 1 if hunk.old_length else hunk.old_start
    return start, start + hunk.old_length


def landed_share(change: FileChange, upstream: bytes) -> tuple[int, int]:
    """Return how many of the lines that a patch adds are in upstream's file, and how many it adds; blank ones aside."""
    added = [line.strip() for hunk in change.hunks for tag, line in hunk.lines if tag == "+" and line.strip()]
    there = {line.strip() for line in upstream.split(b"\n")}
    return sum(line in there for line in added), len(added)


def text(hunk: Hunk, limit: int = 24) -> str:
    """Return a hunk as text, cut after `limit` lines."""
    lines = [tag + line.rstrip(b"\n").decode("utf-8", errors="backslashreplace") for tag, line in hunk.lines]
    more = [f"... and {len(lines) - limit} lines more"] if len(lines) > limit else []
    return "\n".join([hunk.header, *lines[:limit], *more])
