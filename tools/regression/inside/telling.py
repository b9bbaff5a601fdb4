"""How a script tells the command that started it how far it is."""

from __future__ import annotations

import json
import sys


def progress(done: int, total: int, unit: str) -> None:
    """Print one line of progress, which the command turns into a bar with the time left."""
    sys.stdout.write("\x1e" + json.dumps({"done": done, "total": total, "unit": unit}) + "\n")
    sys.stdout.flush()
