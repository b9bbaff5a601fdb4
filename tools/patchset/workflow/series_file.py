"""The `series` file of a changed series: lines and comments stay in place as far as possible."""

from __future__ import annotations

from collections.abc import Sequence

from patchset.model.series import Series, SeriesEntry


def series_text(old: Series, entries: Sequence[SeriesEntry], parked: frozenset[str] = frozenset()) -> str:
    """Return the `series` file for other entries than those of `old`; patches named in `parked` become comments."""
    lines = (old.folder / "series").read_text("utf-8").split("\n")
    before = {entry.name for entry in old.entries}
    names = [entry.name for entry in entries]
    if [name for name in names if name in before] != [entry.name for entry in old.entries if entry.name in names]:
        # Reordered: a comment belongs to no line any more; all of them stay on top.
        comments = [line for line in lines if line.strip().startswith("#")]
        return "\n".join([*comments, *(_line(entry) for entry in entries), ""])
    by_line = {entry.line: entry for entry in old.entries}
    remaining = list(entries)
    text: list[str] = []
    for number, line in enumerate(lines, 1):
        entry = by_line.get(number)
        if entry is None:
            text.append(line)
            continue
        while remaining and remaining[0].name not in before:
            text.append(_line(remaining.pop(0)))
        if remaining and remaining[0].name == entry.name:
            new = remaining.pop(0)
            text.append(line if new.strip == entry.strip else _line(new))
        elif entry.patch_name in parked:
            text.append(f"# {entry.name}: outside the archive, and not for this release by its Applies-To")
    while text and not text[-1]:
        text.pop()
    return "\n".join([*text, *map(_line, remaining), ""])


def _line(entry: SeriesEntry) -> str:
    return entry.name if entry.strip == 1 else f"{entry.name} -p{entry.strip}"
