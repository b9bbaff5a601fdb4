"""Output: tables and progress on a terminal, plain lines in a log, JSON for a program."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from toolkit.progress import Task

# A log without a terminal gets a line about long work this often, in seconds.
LOG_INTERVAL = 10.0


def console(stderr: bool = False) -> Console:
    """Return a rich console; colour and movement only on a terminal, as rich decides (NO_COLOR too)."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            # rich would exit with 1; `commands.run` has a code of its own for this.
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() or "COLUMNS" in os.environ else 110
    return Output(file=file, highlight=False, soft_wrap=not file.isatty(), width=width)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; cells may hold rich markup, so text from outside goes through `escape`."""
    from rich import box
    from rich.table import Table

    grid = Table(*columns, title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        grid.add_row(*row)
    console().print(grid)


def escape(text: str) -> str:
    from rich.markup import escape as escape_markup

    return escape_markup(text)


def print_json(values: object) -> None:
    """Print values as JSON: a dataclass as its fields, or as its own `as_json` gives it."""
    sys.stdout.write(json.dumps(values, indent=2, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return value.as_json() if hasattr(value, "as_json") else asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class Terminal:
    """A reporter that shows progress bars on a terminal, and now and then a line elsewhere."""

    def note(self, text: str) -> None:
        console(stderr=True).print(f"[dim]{escape(text)}[/dim]")

    @contextmanager
    def task(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        if sys.stderr.isatty():
            with _bars(unit) as progress:
                yield _Bar(progress, progress.add_task(escape(title), total=total))
        else:
            line = _Line(title, unit, total)
            yield line
            line.finish()


def _bars(unit: str) -> Progress:
    from rich import progress

    size: progress.ProgressColumn = progress.MofNCompleteColumn()
    columns: list[str | progress.ProgressColumn] = [
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=30),
    ]
    if unit == "bytes":
        columns += [progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn()]
    elif unit:
        columns += [size, progress.TextColumn(unit), progress.TimeElapsedColumn()]
        columns += [progress.TextColumn("left:"), progress.TimeRemainingColumn()]
    else:
        columns.append(progress.TimeElapsedColumn())
    return progress.Progress(*columns, console=console(stderr=True), transient=True)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: int, total: int | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total or self._progress.tasks[0].total)


class _Line:
    """Progress for a log: nothing for what is quick, a line every few seconds for what is not."""

    def __init__(self, title: str, unit: str, total: int | None) -> None:
        self._title = title
        self._unit = unit
        self._total = total
        self._done = 0
        self._start = self._latest = time.monotonic()

    def update(self, done: int, total: int | None = None) -> None:
        self._done, self._total = done, total if total is not None else self._total
        if time.monotonic() - self._latest >= LOG_INTERVAL:
            self._latest = time.monotonic()
            left = ""
            if self._total and self._done:
                seconds = (self._latest - self._start) * (self._total - self._done) / self._done
                left = f", about {seconds:.0f} s left"
            self._write(left)

    def finish(self) -> None:
        elapsed = time.monotonic() - self._start
        if elapsed >= 2:
            self._write(f", {elapsed:.0f} s")

    def _write(self, suffix: str) -> None:
        counts = [self._done, *([self._total] if self._total else [])]
        if self._unit == "bytes":
            amount = " of ".join(f"{count / 1e6:.1f}" for count in counts) + " MB"
        else:
            amount = f"{' of '.join(map(str, counts))} {self._unit}".strip()
        sys.stderr.write(f"{self._title}{f': {amount}' if self._done else ''}{suffix}\n")
        sys.stderr.flush()
