"""The place of each hunk in a file: its own line, or nowhere that is in doubt.

A hunk is located only where every one of its old lines stands, byte for byte: there is no fuzz. In the blob that the
patch is based on, that is the line that the hunk names. For a patch that names no blob (quilt's), another place is
taken if it is the only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchset.model.patch import Hunk


class HunkNotLocated(Exception):
    """A hunk has no place, for the reason `why`."""

    def __init__(self, hunk: Hunk, why: str) -> None:
        super().__init__(why)
        self.hunk = hunk
        self.why = why


@dataclass(frozen=True)
class HunkLocations:
    """The new content, and each hunk's distance, in lines, from the line that it names (0: it stands there)."""

    data: bytes
    offsets: tuple[int, ...]


def split_lines(data: bytes) -> list[bytes]:
    """Split at line feeds only, keeping them; the last line may lack one."""
    lines = data.split(b"\n")
    last = lines.pop()
    kept = [line + b"\n" for line in lines]
    if last:
        kept.append(last)
    return kept


def apply_hunks(data: bytes, hunks: Sequence[Hunk], *, exact: bool) -> HunkLocations:
    """Apply `hunks` in order; with `exact` each only at the line that it names.

    Raises:
        HunkNotLocated: a hunk's old lines are not there, or stand in several places and not in its own, or began or
            ended the file of the patch and do not begin or end this one.
    """
    lines = split_lines(data)
    out: list[bytes] = []
    end = 0  # of the hunk before
    drift = 0
    offsets = []
    for hunk in hunks:
        old = list(hunk.old)
        # A hunk without old lines names the line after which it inserts; any other its first line.
        named = hunk.old_start if not old else hunk.old_start - 1
        at = _locate(lines, old, named + (0 if exact else drift), end, hunk, exact)
        if not exact and old:
            _check_ends(hunk, at, at + len(old), len(lines))
        rest = [*hunk.new, *lines[at + len(old) :][:1]]
        if not all(line.endswith(b"\n") for line in rest[:-1]):
            raise HunkNotLocated(hunk, "its last line has no line end, and the file goes on after it")
        drift = at - named
        offsets.append(drift)
        out += lines[end:at]
        out += hunk.new
        end = at + len(old)
    out += lines[end:]
    return HunkLocations(b"".join(out), tuple(offsets))


def _check_ends(hunk: Hunk, at: int, end: int, length: int) -> None:
    """Hold a hunk to the start or the end of its file, where its context shows that it stood there.

    The rules are those on which git (apply.c, `match_beginning` and `match_end`) and GNU patch (`locate_hunk`) agree:
    a side is cut short by the file's end if it has less context than the other. A hunk with no context on either side
    shows nothing.
    """
    leading, trailing = _context(hunk.lines), _context(hunk.lines[::-1])
    if hunk.old_start <= 1 and leading < trailing and at > 0:
        raise HunkNotLocated(hunk, f"it began the file of the patch, and its lines stand at line {at + 1} of this one")
    if not trailing and leading and end < length:
        raise HunkNotLocated(hunk, f"it ended the file of the patch, and this file goes on after line {end}")


def _context(lines: Sequence[tuple[str, bytes]]) -> int:
    return next((number for number, (tag, _) in enumerate(lines) if tag != " "), len(lines))


def _locate(lines: list[bytes], old: list[bytes], at: int, start: int, hunk: Hunk, exact: bool) -> int:
    if not exact and not old and (lines or at):
        raise HunkNotLocated(hunk, "it adds lines without context, and names no blob to prove the place")
    if start <= at <= len(lines) - len(old) and lines[at : at + len(old)] == old:
        return at
    if exact or not old:
        raise HunkNotLocated(hunk, _difference(lines, old, at))
    places = [
        line
        for line in range(start, len(lines) - len(old) + 1)
        if lines[line] == old[0] and lines[line : line + len(old)] == old
    ]
    if not places:
        raise HunkNotLocated(hunk, _difference(lines, old, at))
    if len(places) > 1:
        named = ", ".join(str(line + 1) for line in places[:5])
        raise HunkNotLocated(hunk, f"not at line {at + 1}, and its lines stand in {len(places)} other places: {named}")
    return places[0]


def _difference(lines: list[bytes], old: list[bytes], at: int) -> str:
    if not old:
        return f"it adds lines after line {at}, and the file has {len(lines)}"
    there = lines[max(at, 0) : max(at, 0) + len(old)]
    if (
        len(there) == len(old)
        and there != old
        and b"".join(there).removesuffix(b"\n") == b"".join(old).removesuffix(b"\n")
    ):
        sides = ("file", "patch") if there[-1].endswith(b"\n") else ("patch", "file")
        return f"line {at + len(old)} has a line end in the {sides[0]}, and none in the {sides[1]}"
    if [line.rstrip(b"\r\n") for line in there] == [line.rstrip(b"\r\n") for line in old]:
        crlf = any(line.endswith(b"\r\n") for line in there)
        return f"the file has {'CRLF' if crlf else 'LF'} line ends there, the patch has not"
    for number, line in enumerate(old):
        if number >= len(there):
            return f"line {at + number + 1} should be {_show(line)}: the file ends before it"
        if there[number] != line:
            return f"line {at + number + 1} should be {_show(line)}: it is {_show(there[number])}"
    return "it overlaps the hunk before it"


def _show(line: bytes) -> str:
    text = line.rstrip(b"\n").decode("utf-8", errors="replace")
    return repr(text if len(text) <= 60 else text[:57] + "...")
