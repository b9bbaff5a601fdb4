"""Timing commands side by side: in turns, in one run, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table


@dataclass(frozen=True)
class Contender:
    """A command to time; `before` brings its tree into the state that it starts from."""

    name: str
    command: Callable[[], object]
    before: Callable[[], object] = lambda: None


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed, and return its output."""
    answer = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {answer.stderr or answer.stdout}")
    return answer.stdout


def race(contenders: Sequence[Contender], rounds: int) -> dict[str, float]:
    """Return each contender's median wall time in seconds over `rounds` rounds."""
    times: dict[str, list[float]] = {item.name: [] for item in contenders}
    for _ in track(range(rounds), "rounds", console=Console(stderr=True), transient=True):
        for item in contenders:
            item.before()
            start = time.perf_counter()
            item.command()
            times[item.name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def show(title: str, medians: Mapping[str, float], unit: str, notes: Mapping[str, str]) -> None:
    """Print times and their ratio to `unit`, as Markdown-like table."""
    table = Table("", "ms", f"x {unit}", "", title=title, title_justify="left")
    for name, seconds in medians.items():
        table.add_row(name, f"{seconds * 1000:.1f}", f"{seconds / medians[unit]:.2f}", notes.get(name, ""))
    Console(width=110).print(table)


def peak_memory() -> float:
    """Return the largest resident set that any child had, in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
