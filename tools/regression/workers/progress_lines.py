"""Progress and outputs of a worker, for the command that started it."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import errno
import json
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def progress(done: float, total: int, unit: str) -> None:
    """Print one line of progress, which the command turns into a bar with the time left."""
    sys.stdout.write("\x1e" + json.dumps({"done": done, "total": total, "unit": unit}) + "\n")
    sys.stdout.flush()


class StepProgress:
    """The progress of a number of steps, one after the other, each of several parts."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    def part(self, done: int, total: int) -> None:
        """Report that so many parts of the present step are done."""
        progress(round(self.done + done / total, 2), self.total, "steps")

    def next(self) -> None:
        """Report that the present step is done."""
        self.done += 1
        progress(self.done, self.total, "steps")


def beyond_help(error: Exception) -> bool:
    """Return True where memory or the disk is full: then this process has to end with the error."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = f"{type(error).__name__}: {error}"
    known = ("OutOfMemoryError", "out of memory", "can't allocate memory")
    return full or isinstance(error, MemoryError) or any(message in text for message in known)


def do_jobs(work: Callable[[dict[str, Any], StepProgress], dict[str, Any]]) -> None:
    """Do the jobs of the command line, a JSON list; write each one's `output.json`, or its traceback to `error.txt`."""
    jobs = json.loads(sys.argv[1])
    steps = StepProgress(len(jobs))
    for job in jobs:
        folder = Path(job["folder"])
        try:
            (folder / "output.json").write_text(json.dumps(work(job, steps)) + "\n")
        except Exception as error:
            if beyond_help(error):
                raise
            (folder / "error.txt").write_text(traceback.format_exc())
            traceback.print_exc()
        steps.next()


class Peak:
    """The largest memory since its start, in bytes: of the GPU, or resident in this process."""

    def __init__(self, device: str) -> None:
        self.cuda: Any = None
        if device == "cuda":
            import torch

            self.cuda = torch.cuda
            self.cuda.reset_peak_memory_stats()
        # proc(5): 5 sets the peak back to what is resident now; where that may not be, it is the process's own.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        """Return the largest memory until now."""
        if self.cuda is not None:
            return int(self.cuda.max_memory_allocated())
        with suppress(OSError, StopIteration, ValueError):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
