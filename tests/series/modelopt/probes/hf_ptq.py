"""ModelOpt's example script, run as its users do: `hf_ptq.py ANSWER FOLDER SCRIPT JOBS`.

JOBS is a JSON object: name -> the family of tiny.py and the script's options. ANSWER maps each name to its folder
in FOLDER, or to `{"error": traceback}`. The script refuses machines without a GPU, so
`torch.cuda.is_available` answers that one is there.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2] / "vllm"))

import tiny
import torch
from modelopt.torch.utils import memory_monitor
from transformers import PreTrainedTokenizerBase

CAPTIONS = ["a red circle", "two dogs on a beach", "ein grünes Dreieck", "a bus in the rain"]
_available = torch.cuda.is_available
# 0.40.0 calls a method that transformers 5 dropped.
if not hasattr(PreTrainedTokenizerBase, "batch_encode_plus"):
    PreTrainedTokenizerBase.batch_encode_plus = PreTrainedTokenizerBase.__call__


def is_available() -> bool:
    """Return what torch says, but to the script's own check."""
    caller = sys._getframe(1).f_code
    return (caller.co_name == "main" and Path(caller.co_filename).name == "hf_ptq.py") or _available()


def model(family: str, folder: Path) -> Path:
    """Write a tiny model with its tokenizer, as one from the hub lies on disk."""
    if not folder.is_dir():
        tiny.build(family).save_pretrained(folder)
        tiny.write_processor(family, folder)
    return folder


def run(script: Path, family: str, options: list[str], folder: Path) -> Any:
    """Run the script; return the checkpoint's folder."""
    out = folder / "out"
    arguments = ["--pyt_ckpt_path", str(model(family, folder.parent / family)), "--export_path", str(out)]
    arguments += ["--device", "cpu", "--batch_size", "2", "--calib_size", "4", "--dataset", "coco2017_captions_local"]
    os.environ["COCO2017_CAPTIONS_LOCAL_PATH"] = str(folder.parent / "captions.txt")
    with (
        mock.patch.object(sys, "argv", [str(script), *arguments, *options]),
        mock.patch.object(torch.cuda, "is_available", is_available),
        mock.patch.object(memory_monitor, "launch_memory_monitor"),
    ):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except (Exception, SystemExit):
            return {"error": traceback.format_exc()}
    return str(out)


def main() -> None:
    """Do all jobs."""
    torch.set_num_threads(2)
    folder, script = Path(sys.argv[2]), Path(sys.argv[3])
    jobs = json.loads(sys.argv[4])
    sys.path.insert(0, str(script.parent))
    (folder / "captions.txt").write_text("\n".join(CAPTIONS))
    answer = Path(sys.argv[1])
    answer.write_text(json.dumps({name: run(script, *job, folder / name) for name, job in jobs.items()}))


if __name__ == "__main__":
    main()
