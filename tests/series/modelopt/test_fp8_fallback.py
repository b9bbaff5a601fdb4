"""The fake quantization to FP8 without the CUDA extension; releases from 0.43.0 on need no patch for it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT, Trees

pytestmark = pytest.mark.slow

OLD = "modelopt@0.40.0"
PROBE = Path(__file__).parent / "probes/fp8_extension.py"


def test_what_is_beyond_the_range_saturates(spec: str, base: dict[str, Any], patched: dict[str, Any]) -> None:
    for case, answer in patched["fp8"].items():
        if case.endswith("1.0"):
            assert answer["beyond"] > 0, case
            assert answer["nan"] == answer["different"] == 0, case
            assert answer["largest cast"] == 448, case
    # Torch before 2.13 makes NaN of what is beyond: what reaches the cast shows it with any release.
    assert (base["fp8"]["fp32 tensor 1.0"]["largest cast"] > 448) == (spec == OLD)


def test_a_range_of_zero_gives_no_nan(spec: str, base: dict[str, Any], patched: dict[str, Any]) -> None:
    for case, answer in patched["fp8"].items():
        assert answer["nan"] == 0, case
        assert answer["type"], case
    assert (base["fp8"]["fp32 channel 1.0"]["nan"] > 0) == (spec == OLD)


def test_the_bits_are_those_of_the_extension(spec: str, patched: dict[str, Any]) -> None:
    """Newer releases' own fallback rounds its scale twice, and is a bit off for ranges such as 1.7, most in fp32."""
    different = {case: answer["different"] for case, answer in patched["fp8"].items() if answer["different"]}
    assert different == {} if spec == OLD else set(different) <= {"fp32 tensor 1.7", "fp32 channel 1.7"}


def test_the_extension_itself_has_the_same_bits(trees: Callable[[str], Trees], tmp_path: Path) -> None:
    python = os.environ.get("PATCHSET_SERIES_PYTHON")
    if python is None:
        pytest.skip("PATCHSET_SERIES_PYTHON names no interpreter; `nox -s tests` makes one")
    if "True" not in subprocess.check_output(
        [python, "-c", "import torch; print(torch.cuda.is_available())"], text=True
    ):
        pytest.skip("the extension runs on a GPU, and torch sees none")
    answer = tmp_path / "answer.json"
    env = {**os.environ, "PYTHONPATH": str(trees(OLD).patched), "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    subprocess.run([python, str(PROBE), str(answer)], env=env, check=True)
    cases = json.loads(answer.read_text())
    assert len(cases) == 42
    assert {case: result for case, result in cases.items() if result["different"] or any(result["nan"])} == {}


def test_newer_releases_pass_unpatched(spec: str, base: dict[str, Any]) -> None:
    """Upstream has it in another form, which no comparison of trees can tell: these tests can."""
    for case, answer in base["fp8"].items():
        assert (answer["nan"] > 0 or answer["largest cast"] > 448) == (spec == OLD), case


def test_newer_releases_have_no_such_patch() -> None:
    assert (ROOT / "patches/modelopt/0.40.0/fp8-saturate.patch").exists()
    assert not (ROOT / "patches/modelopt/0.46.0/fp8-saturate.patch").exists()
