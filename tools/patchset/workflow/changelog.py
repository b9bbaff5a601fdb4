"""`CHANGELOG.md` of a series: the origin of each patch, and the reason for each one that was dropped."""

from __future__ import annotations

from collections.abc import Sequence

NAME = "CHANGELOG.md"


def title(component: str, base: str) -> str:
    """Return the first line of a changelog."""
    return f"# {component} {base}\n".replace("  ", " ")


def section(heading: str, lines: Sequence[str]) -> str:
    """Return a section: its heading, and a list item for each line."""
    return "\n".join([f"## {heading}", "", *(f"- {line}" for line in lines), ""])


def added(text: str, component: str, base: str, heading: str, lines: Sequence[str]) -> str:
    """Return a changelog with lines added under `heading`, in a new section unless that is the last one's."""
    text = text or title(component, base)
    new = "".join(f"- {line}\n" for line in lines)
    if text.rstrip("\n").rpartition("\n## ")[2].split("\n")[0] == heading:
        return text.rstrip("\n") + "\n" + new
    return text.rstrip("\n") + "\n\n" + section(heading, lines)
