"""Several processes at a time, watched from one place."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from regression.effects.process import Ended, Running
from toolkit.progress import Task

_LOOK = 0.2  # seconds between looks


@dataclass(frozen=True)
class Command:
    """A command with its environment, working folder, log, limit in seconds, and how many steps it takes."""

    words: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    timeout: float
    steps: int = 1


class _Share(Task):
    """One command's part of a task's steps."""

    def __init__(self, told: Callable[[], None]) -> None:
        self.done = 0.0
        self._told = told

    def update(self, done: float, total: int | None = None) -> None:
        self.done = done
        self._told()


def run_together(commands: Sequence[Command], limit: int, task: Task) -> Generator[tuple[Command, Ended]]:
    """Run commands, at most `limit` at a time, and yield each as it ends.

    Whatever leaves the loop, an error or Ctrl-C, ends all of them with everything that they started.
    """
    total = sum(command.steps for command in commands)
    shares: list[_Share] = []

    def told() -> None:
        task.update(int(sum(share.done for share in shares)), total)

    waiting = list(commands)
    running: list[tuple[Command, Running, _Share, ExitStack]] = []
    with ExitStack() as every:
        while waiting or running:
            while waiting and len(running) < limit:
                command, share, stack = waiting.pop(0), _Share(told), ExitStack()
                every.push(stack)
                shares.append(share)
                started = Running(command.words, command.env, command.folder, command.log, share)
                running.append((command, stack.enter_context(started), share, stack))
            for entry in list(running):
                command, process, share, stack = entry
                ended = process.poll(command.timeout)
                if ended is not None:
                    running.remove(entry)
                    stack.close()
                    share.update(command.steps)
                    yield command, ended
            if running:
                time.sleep(_LOOK)
