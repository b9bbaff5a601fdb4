"""The upstreams' processes: their environment, and several of them side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from functools import partial

from toolkit.process import LOOK, Command, ProcessEnd, WatchedProcess
from toolkit.progress import Task


def run_commands(commands: Sequence[Command], limit: int, task: Task) -> Generator[tuple[Command, ProcessEnd]]:
    """Run commands, at most `limit` at a time, and yield each with its end.

    Whatever leaves the loop, an error or Ctrl-C, ends all of them with everything that they started.
    """
    steps = dict.fromkeys(commands, 0.0)
    total = sum(command.steps for command in commands)

    def show(command: Command, done: float, _: int | None = None) -> None:
        steps[command] = done
        task.update(int(sum(steps.values())), total)

    waiting = list(commands)
    running: dict[Command, WatchedProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                command = waiting.pop(0)
                running[command] = WatchedProcess(command, partial(show, command))
            for command, process in list(running.items()):
                if (end := process.poll()) is not None:
                    del running[command]
                    show(command, command.steps)
                    yield command, end
            if running:
                time.sleep(LOOK)
    finally:
        with ExitStack() as every:
            for process in running.values():
                every.callback(process.stop)


def environment(**more: str) -> dict[str, str]:
    """Return the environment for an upstream's process: the user's, without network and without our own paths."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **more}
