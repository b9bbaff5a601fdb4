"""The table of formats: one row is all that a new format takes; and commands without numpy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoint.formats import CACHE_SCALES, FORMATS, KNOWN, QUANTIZE_NAMES, by_algo, by_name

from .samples import LINEARS, K, N, Tensor, checkpoint, f32

TOOLS = Path(__file__).parents[2] / "tools"
# A format that no test and no other row knows: other names, another weight type, a tensor of its own.
ROW = """
    Format(
        "INT16_PER_BLOCK", "int16_pb", "INT16_PER_BLOCK_CFG", "INT16 by blocks",
        "I16", {"block_scale": Part(("F8_E5M2",), PER_BLOCK), "clip": _SCALAR}, group_size=32, shared=("clip",),
        group=(("int", 16), None), group_required=True,
    ),
)  # fmt: skip
"""
# Prints the arguments, as ModelOpt's environment and its worker.
PYTHON = """#!/usr/bin/env bash
versions='{"nvidia-modelopt": "0.46.0+patchset.0", "torch": "2", "transformers": "5", "accelerate": "1"}'
[ "$1" = -c ] && { echo '{"sites": {}, "versions":' "$versions" '}'; exit 0; }
echo "$@"; exit 1
"""


def test_names_are_unique() -> None:
    algos = [row.algo for row in FORMATS]
    assert len({*algos}) == len(algos)
    assert not KNOWN & {*algos}
    assert len({*QUANTIZE_NAMES}) == len(QUANTIZE_NAMES)
    assert QUANTIZE_NAMES == ("int8_sq", "int8_wo", "fp8", "fp8_pc_pt", "nvfp4")


def test_rows_hold_together() -> None:
    for row in FORMATS:
        assert by_algo(row.algo) is row
        assert (row.name is None) == (row.config is None)
        assert row.name is None or by_name(row.name) is row
        assert {*row.shared} <= {*row.parts}
        assert not {*row.parts} & {"weight", *CACHE_SCALES}
    assert by_algo("MXFP8") is by_algo(None) is None
    with pytest.raises(KeyError):
        by_name("q4")


@pytest.fixture
def extended(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs `checkpoint` of a copy of the sources with one more row in the table."""
    folder = tmp_path / "sources"
    for package in ("checkpoint", "toolkit"):
        shutil.copytree(TOOLS / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    table = folder / "checkpoint/formats.py"
    head, end, rest = table.read_text().partition(")  # fmt: skip\n")
    assert end
    table.write_text(head.rstrip() + ROW + rest)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "checkpoint", *arguments]
        env = {**os.environ, "PYTHONPATH": str(folder)}
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)

    return run


def test_a_new_format_is_one_row(tmp_path: Path, extended: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    sample = checkpoint("INT16_PER_BLOCK")
    prefix = "model.layers.0.self_attn"
    group = {"targets": ["Linear"], "weights": {"type": "int", "num_bits": 16}}
    sample.config["quantization_config"]["config_groups"] = {"group_0": group}
    good = extended("check", "--json", str(sample.write(tmp_path / "good")))
    assert good.returncode == 0, good.stdout
    (result,) = json.loads(good.stdout)
    assert (result["algo"], result["quantized"], result["notes"]) == ("INT16_PER_BLOCK", 2 * len(LINEARS), [])

    sample.config["quantization_config"]["config_groups"] = {}
    del sample.tensors[f"{prefix}.v_proj.block_scale"]
    sample.tensors[f"{prefix}.q_proj.clip"] = f32(9)
    sample.tensors[f"{prefix}.o_proj.block_scale"].data[0, 0] = 0x7C
    sample.tensors["model.layers.7.mlp.up_proj.clip"] = f32(1)
    sample.tensors["model.layers.1.mlp.up_proj.weight"] = Tensor("I8", np.zeros((N, K), np.int8))
    bad = extended("check", "--json", str(sample.write(tmp_path / "bad")))
    assert bad.returncode == 12, bad.stderr
    rules = sorted(breach["rule"] for breach in json.loads(bad.stdout)[0]["breaches"])
    assert rules == ["config", "dtype", "fused", "missing", "phantom", "value"]


def test_a_new_format_is_a_choice(tmp_path: Path, extended: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    shown = extended("quantize", "--help").stdout
    assert "int16_pb" in shown.partition("Options")[2].partition("--kv-cache")[0]
    assert "int16_pb   INT16 by blocks" in shown
    assert "INT16_PER_BLOCK" in extended("check", "--help").stdout
    (tmp_path / "captions.txt").write_text("a dog\n")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    options = ["--captions", str(tmp_path / "captions.txt"), "--python", str(tmp_path / "python")]
    process = extended("quantize", "m", str(tmp_path / "out"), "--format", "int16_pb", *options)
    assert process.returncode == 11, process.stderr
    assert '"config": "INT16_PER_BLOCK_CFG"' in (tmp_path / "out.log").read_text()
    refused = extended("quantize", "m", str(tmp_path / "out"), "--format", "int16_pb", "--alpha", "0.5")
    assert "int16_pb has none" in refused.stderr


@pytest.mark.parametrize(
    "arguments", [["check", "."], ["convert", ".", "out"], ["quantize", "m", "out", "--python", "absent"]]
)
def test_without_numpy_the_extra_is_named(tmp_path: Path, arguments: list[str]) -> None:
    code = "import sys; sys.modules['numpy'] = None; from checkpoint.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    env = {**os.environ, "PYTHONPATH": str(TOOLS)}
    process = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert process.returncode == 9, process.stderr
    assert "numpy is not installed" in process.stderr
    assert "pip install 'patchset[checkpoint]'" in process.stderr
    assert not list(tmp_path.iterdir())


def test_help_needs_no_numpy() -> None:
    code = "import sys; sys.modules['numpy'] = None; from checkpoint.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for command in ("quantize", "check", "convert"):
        subprocess.run(
            [sys.executable, "-c", code, command, "--help"], env={**os.environ, "PYTHONPATH": str(TOOLS)}, check=True
        )


def test_checkpoint_stands_on_the_toolkit_alone() -> None:
    code = (
        "import importlib, pkgutil, sys, checkpoint\n"
        "for module in pkgutil.walk_packages(checkpoint.__path__, 'checkpoint.'):\n"
        "    if not module.name.endswith(('worker', '__main__')): importlib.import_module(module.name)\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('patchset', 'regression')])\n"
    )
    env = {**os.environ, "PYTHONPATH": str(TOOLS)}
    output = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"
