"""Progress of long work: the command line shows it, a library caller may ignore it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work that is under way."""

    def update(self, done: int, total: int | None = None) -> None:
        """Set how much is done, in the task's unit, and the total if it is known."""


class Reporter(Protocol):
    """The receiver of notes and progress."""

    def note(self, text: str) -> None:
        """Pass on one thing that the user should know now."""

    def task(self, title: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """Open a task; `unit` is `bytes` for sizes."""


class Quiet:
    """A reporter that shows nothing, and its own task."""

    def note(self, text: str) -> None: ...

    @contextmanager
    def task(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield self

    def update(self, done: int, total: int | None = None) -> None: ...
