"""ModelOpt's trees, with all probes of each in one process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Trees, Which

SPECS = ("modelopt@0.46.0", "modelopt@0.47.0", "modelopt@0.40.0")
# What is exported with the unpatched tree shows what is wrong with it; the rest is there to be checked.
EXPORTS = {
    "base": "int8_qwen2_5_vl,weight_only",
    "patched": "int8_qwen2_5_vl,int8_qwen3_vl,int8_qwen2,weight_only,fp8,fp8_per_channel",
}
PROBES = Path(__file__).parent / "probes/main.py"

Probe = Callable[[str, Which], dict[str, Any]]


@pytest.fixture(scope="session")
def probe(trees: Callable[[str], Trees], tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """Return a function that gives the probes' answers about a tree (`modelopt@0.40.0`, `base`)."""
    python = os.environ.get("PATCHSET_SERIES_PYTHON")
    if python is None:
        pytest.skip("PATCHSET_SERIES_PYTHON names no interpreter; `nox -s tests` makes one")

    @cache
    def run(spec: str, which: Which) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("probes")
        # On the CPU, 0.40.0 cannot export NVFP4: it asks for the device's capability.
        exports = EXPORTS[which] + (",nvfp4" if (spec, which) == ("modelopt@0.46.0", "patched") else "")
        probes = ["captions", "arch", "fp8", "smooth", f"exports:{exports}"]
        done = subprocess.run(
            [python, str(PROBES), str(folder / "answer.json"), str(folder), *probes],
            env={**os.environ, "PYTHONPATH": str(trees(spec)[which]), "HF_HUB_OFFLINE": "1"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        answers: dict[str, Any] = json.loads((folder / "answer.json").read_text())
        return answers

    return run


@pytest.fixture(scope="session", params=SPECS)
def spec(request: pytest.FixtureRequest) -> str:
    """Each base that has a series."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def base(probe: Probe, spec: str) -> dict[str, Any]:
    """The probes' answers about the release as it is."""
    return probe(spec, "base")


@pytest.fixture(scope="session")
def patched(probe: Probe, spec: str) -> dict[str, Any]:
    """The probes' answers about the patched tree."""
    return probe(spec, "patched")
