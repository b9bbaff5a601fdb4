"""How a script tells the command that started it how far it is, and what it took."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import errno
import json
import resource
import sys
from contextlib import suppress
from pathlib import Path


def progress(done: float, total: int, unit: str) -> None:
    """Print one line of progress, which the command turns into a bar with the time left."""
    sys.stdout.write("\x1e" + json.dumps({"done": done, "total": total, "unit": unit}) + "\n")
    sys.stdout.flush()


class Steps:
    """Tells of a number of steps, one after the other, each of several parts."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    def part(self, done: int, total: int) -> None:
        """Tell that so many parts of the present step are done."""
        progress(round(self.done + done / total, 2), self.total, "steps")

    def next(self) -> None:
        """Tell that the present step is done."""
        self.done += 1
        progress(self.done, self.total, "steps")


def beyond_help(error: Exception) -> bool:
    """Whether an error says that memory or the disk is full: then this process has to end with it."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    words = ("OutOfMemoryError", "out of memory", "can't allocate memory")
    return full or isinstance(error, MemoryError) or any(text in f"{type(error).__name__}: {error}" for text in words)


class Peak:
    """The largest memory since it was made, in bytes: of the GPU, or resident in this process."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        # proc(5): 5 sets the peak back to what is resident now; where that may not be, it is the process's own.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        """Return it."""
        if self.cuda:
            import torch

            return int(torch.cuda.max_memory_allocated())
        with suppress(OSError, StopIteration, ValueError):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
