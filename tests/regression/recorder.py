"""A reporter that keeps what a user would have been told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.progress import Quiet, Task


class Line(Task):
    """One piece of work, and how far it came."""

    def __init__(self, title: str = "", total: int | None = None, unit: str = "") -> None:
        self.title, self.total, self.unit = title, total, unit
        self.updates: list[tuple[float, int | None]] = []

    def update(self, done: float, total: int | None = None) -> None:
        self.updates.append((done, total or self.total))


class Told(Quiet):
    """All pieces of work."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    @contextmanager
    def task(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        self.lines.append(Line(title, total, unit))
        yield self.lines[-1]
