"""`checkpoint quantize` with the patched ModelOpt, as on a machine that has only its wheel."""

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
# The last norm of the broken one is behind every layer that is calibrated.
MODELS = f"""
sys.path.insert(0, {str(TINY)!r})
import tiny
from pathlib import Path
model = tiny.build("qwen2_5_vl")
for name in ("model", "broken"):
    model.save_pretrained(name)
    tiny.write_processor("qwen2_5_vl", Path(name))
    model.model.language_model.norm.weight.data[3] = float("nan")
answer(None)
"""


@pytest.fixture(scope="module")
def folder(trees: Callable[[str], Trees], ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny model, one that says NaN, and captions."""
    folder = tmp_path_factory.mktemp("quantize")
    ask(trees("modelopt@0.46.0").patched, MODELS, cwd=folder)
    (folder / "captions.txt").write_text("\na red circle\ntwo dogs\n")
    return folder


@pytest.fixture
def options(folder: Path, trees: Callable[[str], Trees], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what every call needs; the patched tree stands in for an installed wheel."""
    monkeypatch.setenv("PYTHONPATH", str(trees("modelopt@0.46.0").patched))
    arguments = ["--captions", str(folder / "captions.txt"), "--calib-size", "9", "--device", "cpu", "--json"]
    return [*arguments, "--python", os.environ["PATCHSET_SERIES_PYTHON"], "--unpatched"]


def test_a_vision_language_model(folder: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(folder / "model"), str(folder / "out"), *options]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["check"]["good"]
    assert (answer["check"]["algo"], answer["check"]["cache"], answer["check"]["quantized"]) == (
        "W8A8_SQ_PER_CHANNEL",
        "FP8",
        14,
    )
    assert list(answer["seconds"]) == ["load", "calibrate", "try", "export"]
    assert answer["peak_gpu_bytes"] == 0
    assert 2**28 < answer["peak_host_bytes"] < 2**36
    assert (folder / "out/preprocessor_config.json").exists()
    assert not (folder / "out.log").exists()


def test_a_model_that_says_nan_is_not_exported(
    folder: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(folder / "broken"), str(folder / "never"), *options]) == 11
    assert "NaN or infinity in 16 of 16 tokens' logits" in capsys.readouterr().out
    assert sorted(path.name for path in folder.glob("*never*")) == ["never.log"]
