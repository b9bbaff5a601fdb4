"""Counts and lists in messages."""

from __future__ import annotations

from collections.abc import Sequence


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: `1 patch`, `2 patches`, `3 files`."""
    ending = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number} {noun}{ending}"


def first_of(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names in a line, and the count of the others."""
    others = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + others
