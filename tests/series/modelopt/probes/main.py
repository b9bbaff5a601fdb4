"""Ask a ModelOpt tree everything in one process: importing it takes longer than most answers.

`main.py ANSWER FOLDER PROBE[:ARGUMENT,...]...`: each probe is a module beside this one with a function
`probe(folder, *arguments)`. ANSWER maps its name to what it returned, or to `{"error": traceback}`.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "vllm"))  # tiny.py, the models


def run(name: str, folder: Path, arguments: list[str]) -> Any:
    """Return one probe's answer."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return importlib.import_module(name).probe(folder, *arguments)
    except Exception:
        return {"error": traceback.format_exc()}


def main() -> None:
    """Run the probes."""
    import torch

    torch.set_num_threads(2)
    answers = {}
    for argument in sys.argv[3:]:
        name, _, arguments = argument.partition(":")
        answers[name] = run(name, Path(sys.argv[2]) / name, arguments.split(",") if arguments else [])
    Path(sys.argv[1]).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
