"""An engine in a process of its own, which answers one question at a time. Used by serving.py.

So several can be up at once and be measured in turns: what else happens on the machine meets them all.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class EngineDiedError(Exception):
    """The process ended before it answered; the message is the end of its log."""


class Engine:
    """A process that runs `answer`. What it prints goes to `log`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.connection, theirs = Pipe()
        descriptor = theirs.fileno()
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [*command, str(descriptor)], env=env, stdout=stream, stderr=subprocess.STDOUT, pass_fds=[descriptor]
            )
        theirs.close()

    def ask(self, question: str, *arguments: Any) -> Any:
        """Return the answer to a question.

        Raises:
            EngineDiedError: the process has ended.
        """
        try:
            self.connection.send((question, arguments))
            while not self.connection.poll(1):
                if self.process.poll() is not None:
                    raise EOFError
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise EngineDiedError(self.log.read_text()[-3000:]) from error

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def answer(descriptor: int, questions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer questions until nobody asks any more."""
    connection = Connection(descriptor)
    while True:
        try:
            question, arguments = connection.recv()
        except EOFError:
            return
        connection.send(questions[question](*arguments))


def wait_for(file: Path) -> None:
    """Return as soon as the file exists."""
    while not file.exists():
        time.sleep(0.2)


def look(model: Any) -> dict[str, int]:
    """Count the linear kernels that the loaded model has."""
    kernels = (getattr(getattr(module, "quant_method", None), "kernel", None) for module in model.modules())
    return dict(Counter(type(kernel).__name__ for kernel in kernels if kernel is not None))
