"""vLLM's CPU wheel as published, and with the Python files that the series changes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.series.conftest import Trees

# No CPU build of torchvision exists. The other one imports once these operators are declared, which vLLM's own
# subprocesses need as well.
_SITECUSTOMIZE = """
import torch
torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


@dataclass(frozen=True)
class Said:
    """What a script of the serving environment said."""

    returncode: int
    value: Any
    output: str


class Serve(Protocol):
    """Run a script with the published (`base`) or the patched vLLM; `arguments` reach it as `sys.argv[2:]`."""

    def __call__(self, which: str, script: Path, *arguments: str) -> Said: ...


@pytest.fixture(scope="session")
def serve(trees: Callable[[str], Trees], tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Return a function that runs a script in the environment of `tests/requirements/serve.txt`."""
    python = os.environ.get("PATCHSET_SERVE_PYTHON")
    if python is None:
        pytest.skip("PATCHSET_SERVE_PYTHON names no interpreter with tests/requirements/serve.txt installed")
    where = "import importlib.util as u; print(u.find_spec('vllm').submodule_search_locations[0])"
    installed = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    both = trees("vllm@v0.30.0")
    patched = tmp_path_factory.mktemp("overlay")
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    # Symbolic links, so that the compiled part is not copied; a changed file takes its link's place.
    subprocess.run(["cp", "-rs", installed, patched / "vllm"], check=True)
    for source in sorted((both.patched / "vllm").rglob("*.py")):
        before = both.base / source.relative_to(both.patched)
        if not before.exists() or before.read_bytes() != source.read_bytes():
            target = patched / source.relative_to(both.patched)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_bytes(source.read_bytes())

    def run(which: str, script: Path, *arguments: str) -> Said:
        answer = tmp_path_factory.mktemp("said") / "answer.json"
        done = subprocess.run(
            [python, str(script), str(answer), *arguments],
            env={
                **os.environ,
                "PYTHONPATH": f"{site}:{patched}" if which == "patched" else str(site),
                "HF_HUB_OFFLINE": "1",
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_CPU_KVCACHE_SPACE": "1",
            },
            cwd=answer.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        value = json.loads(answer.read_text()) if answer.exists() else None
        return Said(done.returncode, value, done.stdout + done.stderr)

    return run
