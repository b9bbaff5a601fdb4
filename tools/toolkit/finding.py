"""A linter's finding: where it is, what is wrong, and the line with the place underlined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import SeriesError


@dataclass(frozen=True)
class Finding:
    """One breach of the format.

    `line` and `column` count from 1; 0 means that the finding is about the file as a whole. `length` is the
    number of characters to underline in `text`, the line itself.
    """

    path: Path
    message: str
    line: int = 0
    column: int = 0
    length: int = 1
    text: str = ""

    def render(self) -> str:
        """Return the finding as text: place and message, then the underlined line where there is one."""
        if not self.line:
            return f"{self.path}: {self.message}"
        head = f"{self.path}:{self.line}:{max(self.column, 1)}: {self.message}"
        if not self.text:
            return head
        gutter = f"{self.line:>5} | "
        visible = self.text.rstrip("\r\n").expandtabs(1)
        under = " " * (max(self.column, 1) - 1) + "^" * max(self.length, 1)
        return f"{head}\n{gutter}{visible}\n{' ' * (len(gutter) - 2)}| {under}"

    def as_json(self) -> dict[str, object]:
        return {"path": str(self.path), "line": self.line, "column": self.column, "message": self.message}


def refuse(findings: Iterable[Finding], what: str) -> None:
    """Raise `SeriesError` with every finding, or return if there is none."""
    breaches = tuple(findings)
    if breaches:
        count = "one problem" if len(breaches) == 1 else f"{len(breaches)} problems"
        raise SeriesError(
            f"{what} has {count}",
            remedy="fix the lines shown",
            details=tuple(finding.render() for finding in breaches),
        )
