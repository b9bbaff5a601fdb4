"""The scripts of scripts/qwen, with a Python and an hf_ptq.py of a few lines in the place of the real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts/qwen"
W8A8 = SCRIPTS / "quantize_qwen2_5_vl_3b_w8a8_coco2017.sh"
FP8 = SCRIPTS / "quantize_qwen2_5_vl_3b_fp8_coco2017.sh"
# With -c it prints a version; as hf_ptq.py it prints its arguments and writes a checkpoint.
PYTHON = """#!/usr/bin/env bash
[ "$1" = -c ] && { echo "$VERSION"; exit 0; }
echo "$@"
while [ "$1" != --export_path ]; do shift; done
[ -n "$FAIL" ] && { mkdir -p "$2"; exit 1; }
mkdir -p "$2" && echo done > "$2/config.json"
"""
CHECK = '#!/usr/bin/env bash\necho "checked $*"\nexit "${STATUS:-0}"\n'


@pytest.fixture
def tools(tmp_path: Path) -> list[str]:
    """Options that name the tools."""
    for name, text in {"python": PYTHON, "checkpoint": CHECK}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "hf_ptq.py").write_text("--unified_hf_export")
    (tmp_path / "captions.txt").write_text("a dog\n")
    names = {"python": "python", "checkpoint": "checkpoint", "hf-ptq": "hf_ptq.py", "captions": "captions.txt"}
    return [word for option, name in names.items() for word in (f"--{option}", str(tmp_path / name))]


def run(script: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    values = {**os.environ, "VERSION": "0.46.0+patchset.0", "FAIL": "", **env}
    return subprocess.run([script, *options], env=values, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("script", "format_"), [(W8A8, "int8_sq"), (FP8, "fp8")])
def test_the_arguments_of_hf_ptq(tmp_path: Path, tools: list[str], script: Path, format_: str) -> None:
    out = tmp_path / "out"
    process = run(script, *tools, "--model", "m", "--output", str(out), "--", "--skip_generate")
    assert process.returncode == 0, process.stderr
    expected = (
        f"--qformat {format_} --kv_cache_qformat fp8 --dataset coco2017_captions_local "
        "--calib_size 4096 --calib_seq 512 --batch_size 0 --skip_generate"
    )
    assert expected in process.stdout
    assert (out / "config.json").exists()
    assert f"checked check {out}" in process.stdout
    assert not list(tmp_path.glob(".*partial"))


def test_the_option_that_checked_before(tmp_path: Path, tools: list[str]) -> None:
    out = tmp_path / "out"
    process = run(W8A8, *tools, "--regression", str(tmp_path / "checkpoint"), "--output", str(out))
    assert f"checked check-checkpoint {out}" in process.stdout


def test_the_exit_code_is_that_of_the_check(tmp_path: Path, tools: list[str]) -> None:
    assert run(W8A8, *tools, "--output", str(tmp_path / "out"), STATUS="12").returncode == 12


def test_a_failure_leaves_nothing(tmp_path: Path, tools: list[str]) -> None:
    process = run(W8A8, *tools, "--output", str(tmp_path / "out"), FAIL="yes")
    assert process.returncode == 11
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_modelopt_and_script_have_to_be_patched(tmp_path: Path, tools: list[str]) -> None:
    process = run(W8A8, *tools, "--output", str(tmp_path / "out"), VERSION="0.46.0")
    assert (process.returncode, "not of this project's series" in process.stderr) == (9, True)
    assert run(W8A8, *tools, "--output", str(tmp_path / "a"), "--unpatched", VERSION="0.46.0").returncode == 0
    (tmp_path / "hf_ptq.py").write_text("as upstream has it")
    process = run(W8A8, *tools, "--output", str(tmp_path / "out"))
    assert (process.returncode, "is not patched" in process.stderr) == (9, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bogus"], "unknown option --bogus"),
        (["--model"], "--model needs a value"),
        (["--calib-size", "many"], "many is not a number"),
        (["--captions", "nowhere.txt"], "nowhere.txt is not a file"),
        (["--output", "."], ". exists already"),
    ],
)
def test_bad_options(tools: list[str], options: list[str], message: str) -> None:
    process = run(FP8, *tools, *options)
    assert process.returncode == 2
    assert message in process.stderr
    assert "remedy:" in process.stderr


@pytest.mark.parametrize("script", [W8A8, FP8])
def test_help(script: Path) -> None:
    process = run(script, "--help")
    assert process.returncode == 0
    assert f"Usage: {script.name}" in process.stdout
    assert "--calib-size N" in process.stdout
