"""`regression quantize` with the patched ModelOpt, as on a machine that has only its wheel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from regression.cli.main import main

from ..conftest import Ask, Trees

pytestmark = pytest.mark.slow

TINY = Path(__file__).parents[1] / "vllm"
MODEL = f"""
sys.path.insert(0, {str(TINY)!r})
import tiny
from pathlib import Path
tiny.build("qwen2_5_vl").save_pretrained("model")
tiny.write_processor("qwen2_5_vl", Path("model"))
answer(None)
"""


def test_a_vision_language_model(
    trees: Callable[[str], Trees],
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = trees("modelopt@0.46.0").patched
    ask(tree, MODEL, cwd=tmp_path)
    (tmp_path / "captions.txt").write_text("a red circle\ntwo dogs\n")
    monkeypatch.setenv("PYTHONPATH", str(tree))
    options = ["--captions", str(tmp_path / "captions.txt"), "--calib-size", "9", "--device", "cpu", "--json"]
    options += ["--python", os.environ["PATCHSET_SERIES_PYTHON"], "--unpatched"]
    assert main(["quantize", str(tmp_path / "model"), str(tmp_path / "out"), *options]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["check"]["good"]
    assert (said["check"]["algo"], said["check"]["cache"], said["check"]["quantized"]) == (
        "W8A8_SQ_PER_CHANNEL",
        "FP8",
        14,
    )
    assert {"calibrate", "export"} == set(said["seconds"])
    assert (tmp_path / "out/preprocessor_config.json").exists()
    assert not list(tmp_path.glob("*.log"))
