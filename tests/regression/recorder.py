"""A reporter that records its tasks and notes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.progress import Quiet, Task


class RecordedTask(Task):
    """One task, and its updates."""

    def __init__(self, title: str = "", total: int | None = None, unit: str = "") -> None:
        self.title, self.total, self.unit = title, total, unit
        self.updates: list[tuple[float, int | None]] = []

    def update(self, done: float, total: int | None = None) -> None:
        self.updates.append((done, total or self.total))


class Recorder(Quiet):
    """All tasks and notes."""

    def __init__(self) -> None:
        self.tasks: list[RecordedTask] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def task(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        self.tasks.append(RecordedTask(title, total, unit))
        yield self.tasks[-1]
