"""Ask a tree of vLLM everything in one process, without any compiled part: importing it takes longer than the answers.

`main.py ANSWER PROBES`: PROBES is a JSON object, in which each key is a module beside this one with a function `probe`
and the value its argument. ANSWER maps the name to what it returned, or to `{"error": traceback}`. With
VLLM_TARGET_DEVICE=cpu in the environment, vLLM chooses the CPU.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


def run(name: str, argument: Any) -> Any:
    """Return one probe's answer."""
    try:
        return importlib.import_module(name).probe(argument)
    except Exception:
        return {"error": traceback.format_exc()}


def main() -> None:
    """Run the probes."""
    import torch

    torch.set_num_threads(1)
    probes = json.loads(sys.argv[2])
    Path(sys.argv[1]).write_text(json.dumps({name: run(name, argument) for name, argument in probes.items()}))


if __name__ == "__main__":
    main()
