"""`checkpoint quantize` around ModelOpt: refusals, progress, and a complete output or none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from checkpoint.cli.main import main
from checkpoint.quantize import run
from checkpoint.quantize.job import QuantizeJob
from toolkit.errors import BuildFailed, EnvironmentProblem, UsageError

from ..regression.recorder import Recorder

PYTHON = Path(sys.executable)
WORKS = """
import json, os, sys
job = json.loads(sys.argv[1])
send = lambda **values: os.write(int(sys.argv[2]), (json.dumps(values) + "\\n").encode())
send(task="load")
send(task="calibrate", total=2, unit="batches"); send(done=1); send(done=2)
print("a library's output")
os.mkdir(job["out"]); open(job["out"] + "/config.json", "w").write("{}")
send(result={"modelopt": "0.46.0+patchset.0", "seconds": {"calibrate": 1.0}, "peak_gpu_bytes": 0, "peak_host_bytes": 5})
"""
FAILS = WORKS.replace("send(result", "raise SystemExit('CUDA out of memory')\nsend(result")


def job(folder: Path, **changes: str) -> QuantizeJob:
    (folder / "captions.txt").write_text("a dog\n")
    values = {
        "model": "m",
        "out": str(folder / "out"),
        "captions": str(folder / "captions.txt"),
        "images": "",
        **changes,
    }
    return QuantizeJob(
        config="FP8_DEFAULT_CFG", cache_config="", samples=1, length=8, batch=1, device="cpu", alpha=None, **values
    )


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a worker of a few lines in the place of ModelOpt's."""
    file = tmp_path / "worker.py"
    file.write_text(WORKS)
    monkeypatch.setattr(run, "WORKER", file)
    return file


def test_progress_and_a_complete_folder(tmp_path: Path, worker: Path) -> None:
    recorder = Recorder()
    result = run.quantize(PYTHON, job(tmp_path), recorder)
    tasks = [(task.title, task.total, task.updates) for task in recorder.tasks]
    assert tasks == [("load", None, []), ("calibrate", 2, [(1, 2), (2, 2)])]
    assert (result.folder, result.modelopt) == (str(tmp_path / "out"), "0.46.0+patchset.0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.txt", "out", "worker.py"]


def test_an_empty_folder_is_not_in_the_way(tmp_path: Path, worker: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run.quantize(PYTHON, job(tmp_path), Recorder()).seconds == {"calibrate": 1.0}


def test_a_failure_leaves_the_log_only(tmp_path: Path, worker: Path) -> None:
    worker.write_text(FAILS)
    with pytest.raises(BuildFailed) as caught:
        run.quantize(PYTHON, job(tmp_path), Recorder())
    assert str(tmp_path / "out.log") in caught.value.message
    assert "CUDA out of memory" in caught.value.details
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.txt", "out.log", "worker.py"]


def test_a_worker_that_dies_is_a_failure(tmp_path: Path, worker: Path) -> None:
    worker.write_text("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(BuildFailed):
        run.quantize(PYTHON, job(tmp_path), Recorder())


def test_an_output_in_the_way_and_absent_inputs(tmp_path: Path, worker: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(UsageError, match="exists already"):
        run.quantize(PYTHON, job(tmp_path), Recorder())
    assert (tmp_path / "out/mine").exists()
    other = str(tmp_path / "other")
    with pytest.raises(UsageError, match="is not a file"):
        run.quantize(PYTHON, job(tmp_path, out=other, captions="nowhere.txt"), Recorder())
    with pytest.raises(UsageError, match="is not a folder"):
        run.quantize(PYTHON, job(tmp_path, out=other, images="nowhere"), Recorder())


def test_a_python_without_modelopt(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="has no nvidia-modelopt"):
        run.require_modelopt(PYTHON, unpatched=True)
    with pytest.raises(EnvironmentProblem, match="is no Python"):
        run.require_modelopt(tmp_path / "python", unpatched=True)


@pytest.mark.parametrize(("version", "good"), [("0.46.0", False), ("0.46.0+patchset.ce08184dbb", True)])
def test_only_a_patched_modelopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    for name in ("torch", "transformers", "accelerate"):
        (tmp_path / f"{name}.py").touch()
    info = tmp_path / "nvidia_modelopt-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: nvidia-modelopt\nVersion: {version}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run.require_modelopt(PYTHON, unpatched=True) == version
    if good:
        assert run.require_modelopt(PYTHON, unpatched=False) == version
    else:
        with pytest.raises(EnvironmentProblem, match="not of this project's series"):
            run.require_modelopt(PYTHON, unpatched=False)


def test_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", "m", str(tmp_path / "out"), "--format", "fp8", "--alpha", "0.5"]) == 2
    assert "--alpha is SmoothQuant's" in capsys.readouterr().err
    assert main(["quantize", "m", str(tmp_path / "out"), "--format", "q4"]) == 2
    assert main(["quantize", "m", str(tmp_path / "out"), "--python", str(tmp_path / "python")]) == 9
