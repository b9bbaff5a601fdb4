"""Where the hunks of a patch go: at their line, or nowhere that is in doubt.

A hunk is placed only where every one of its old lines stands, byte for byte: there is no fuzz. For a blob
that is the one the patch was made against, that is the line that the hunk names. For a patch that names no
blob (quilt's), another place is taken if it is the only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchset.model.patch import Hunk


class Misplaced(Exception):
    """A hunk has no place; `hunk` is which, the message says why."""

    def __init__(self, hunk: Hunk, why: str) -> None:
        super().__init__(why)
        self.hunk = hunk
        self.why = why


@dataclass(frozen=True)
class Placed:
    """The new content, and by how many lines each hunk stands off the line that it names (0: not at all)."""

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


def place(data: bytes, hunks: Sequence[Hunk], *, exact: bool) -> Placed:
    """Apply `hunks` in order; with `exact` each only at the line that it names.

    Raises:
        Misplaced: a hunk's old lines are not there, or stand in several places and not in its own, or ended the
            file that the patch was made for and do not end this one.
    """
    lines = split_lines(data)
    out: list[bytes] = []
    done = 0
    drift = 0
    offsets = []
    for hunk in hunks:
        old = list(hunk.old)
        # A hunk without old lines names the line after which it inserts; any other its first line.
        named = hunk.old_start if not old else hunk.old_start - 1
        at = _find(lines, old, named + (0 if exact else drift), done, hunk, exact)
        # git, too, takes a hunk without context behind it for one that ends its file.
        if not exact and old and hunk.lines[-1][0] != " " and at + len(old) < len(lines):
            raise Misplaced(
                hunk, f"it ended the file that it was made for, which goes on here after line {at + len(old)}"
            )
        drift = at - named
        offsets.append(drift)
        out += lines[done:at]
        out += hunk.new
        done = at + len(old)
    out += lines[done:]
    return Placed(b"".join(out), tuple(offsets))


def _find(lines: list[bytes], old: list[bytes], at: int, start: int, hunk: Hunk, exact: bool) -> int:
    if not exact and not old and lines:
        raise Misplaced(hunk, "it adds lines without context, and names no blob to prove the place")
    if start <= at <= len(lines) - len(old) and lines[at : at + len(old)] == old:
        return at
    if exact or not old:
        raise Misplaced(hunk, _difference(lines, old, at))
    places = [
        place
        for place in range(start, len(lines) - len(old) + 1)
        if lines[place] == old[0] and lines[place : place + len(old)] == old
    ]
    if not places:
        raise Misplaced(hunk, _difference(lines, old, at))
    if len(places) > 1:
        named = ", ".join(str(place + 1) for place in places[:5])
        raise Misplaced(hunk, f"not at line {at + 1}, and its lines stand in {len(places)} other places: {named}")
    return places[0]


def _difference(lines: list[bytes], old: list[bytes], at: int) -> str:
    found = lines[max(at, 0) : max(at, 0) + len(old)]
    if [line.rstrip(b"\r\n") for line in found] == [line.rstrip(b"\r\n") for line in old]:
        crlf = any(line.endswith(b"\r\n") for line in found)
        return f"the file has {'CRLF' if crlf else 'LF'} line ends there, the patch has not"
    for number, line in enumerate(old):
        there = found[number] if number < len(found) else None
        if there != line:
            got = "the file ends before it" if there is None else f"found {_show(there)}"
            return f"line {at + number + 1} should be {_show(line)}: {got}"
    return "it overlaps the hunk before it"


def _show(line: bytes) -> str:
    text = line.rstrip(b"\n").decode("utf-8", errors="replace")
    return repr(text if len(text) <= 60 else text[:57] + "...")
