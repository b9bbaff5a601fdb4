"""`CHANGELOG.md` of a series: where each of its patches came from, and why those that are gone are gone."""

from __future__ import annotations

from collections.abc import Sequence

NAME = "CHANGELOG.md"


def title(component: str, base: str) -> str:
    return f"# {component} {base}\n".replace("  ", " ")


def section(heading: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {heading}", "", *(f"- {line}" for line in lines), ""])


def added(text: str, component: str, base: str, heading: str, lines: Sequence[str]) -> str:
    """Return a changelog with lines under `heading`, which goes to the end where it is not the last one."""
    text = text or title(component, base)
    new = "".join(f"- {line}\n" for line in lines)
    if text.rstrip("\n").rpartition("\n## ")[2].split("\n")[0] == heading:
        return text.rstrip("\n") + "\n" + new
    return text.rstrip("\n") + "\n\n" + section(heading, lines)
