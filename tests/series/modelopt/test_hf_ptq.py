"""ModelOpt's example script, which is in its git tree only."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from patchset.project.project import load
from patchset.sources import submodule
from patchset.sources.acquire import StoredBase
from patchset.store.git import Git
from regression.cli.main import main
from toolkit.progress import Quiet

from ..conftest import ROOT, Trees, check_out

pytestmark = [pytest.mark.slow, pytest.mark.network]

PROBE = Path(__file__).parent / "probes/hf_ptq.py"
SCRIPTS = {"modelopt@0.46.0": "examples/hf_ptq/hf_ptq.py", "modelopt@0.40.0": "examples/llm_ptq/hf_ptq.py"}
RECIPE = """
imports:
  base_disable_all: configs/ptq/units/base_disable_all
  default_disabled_quantizers: configs/ptq/units/default_disabled_quantizers
  kv_fp8: configs/ptq/units/kv_fp8
metadata:
  recipe_type: ptq
  description: INT8 SmoothQuant with an FP8 KV cache.
quantize:
  algorithm: smoothquant
  quant_cfg:
    - $import: base_disable_all
    - quantizer_name: '*weight_quantizer'
      cfg: {num_bits: 8, axis: 0}
    - quantizer_name: '*input_quantizer'
      cfg: {num_bits: 8}
    - $import: kv_fp8
    - $import: default_disabled_quantizers
"""


@pytest.fixture(scope="module")
def git_trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trees]:
    """Return a function that gives ModelOpt's trees with the examples, from its git host."""

    @cache
    def make(spec: str) -> Trees:
        ((component, base),) = load(ROOT).select((spec,))
        assert component.url is not None
        if base.commit is None:
            pytest.skip(f"the script is in the git tree only, and base.toml records no commit of {spec}")
        why_not = submodule.answers(component.url)
        if why_not is not None:
            pytest.skip(f"the script is in the git tree only, and {component.url} does not answer: {why_not}")
        git = Git(tmp_path_factory.mktemp(spec.replace("@", "-")) / "store.git")
        git.init()
        git.run("config", "remote.origin.url", component.url)
        submodule.fetch(git, component.url, base.commit, Quiet(), spec)
        source = base.source("submodule")
        assert source is not None
        return check_out(component, base, git, StoredBase.of(source, git, base.commit))

    return make


@pytest.fixture(scope="module")
def exported(
    spec: str, git_trees: Callable[[str], Trees], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What the script exports: as it is (`base`), and patched. The package is patched for both."""
    python = os.environ.get("PATCHSET_SERIES_PYTHON")
    if python is None:
        pytest.skip("PATCHSET_SERIES_PYTHON names no interpreter; `nox -s tests` makes one")
    trees = git_trees(spec)
    folder = tmp_path_factory.mktemp("hf_ptq")
    (folder / "recipe.yaml").write_text(RECIPE)
    newer = spec != "modelopt@0.40.0"
    common = ["--kv_cache_qformat", "fp8", *(["--skip_generate"] if newer else [])]
    jobs = {
        "int8_sq": ("qwen2_5_vl", ["--qformat", "int8_sq", *common]),
        "llm": ("qwen2", ["--qformat", "int8_sq", *common]),
        "llm by option": ("qwen2", ["--qformat", "int8_sq", "--unified_hf_export", *common]),
    }
    if newer:  # 0.40.0 knows no other spelling, and no recipes
        jobs["int8_smoothquant"] = ("qwen2_5_vl", ["--qformat", "int8_smoothquant", *common])
        jobs["recipe"] = ("qwen2_5_vl", ["--recipe", str(folder / "recipe.yaml"), "--skip_generate"])

    def run(which: str, chosen: dict[str, Any]) -> dict[str, Any]:
        out = folder / which
        out.mkdir()
        script = trees[which] / SCRIPTS[spec]  # type: ignore[index]
        done = subprocess.run(
            [python, str(PROBE), str(out / "answer.json"), str(out), str(script), json.dumps(chosen)],
            env={**os.environ, "PYTHONPATH": str(trees.patched), "HF_HUB_OFFLINE": "1"},
            cwd=out,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        answers: dict[str, Any] = json.loads((out / "answer.json").read_text())
        return answers

    return {"base": run("base", {"int8_sq": jobs["int8_sq"]}), "patched": run("patched", jobs)}


def transformers_of(python: str) -> int:
    """Return the number before the first point of the version of transformers that an interpreter has."""
    ask = "import importlib.metadata as m; print(m.version('transformers'))"
    return int(subprocess.check_output([python, "-c", ask], text=True).split(".")[0])


def is_unified(answer: Any) -> bool:
    """Tell whether a job ended with the unified checkpoint, and not in TensorRT-LLM's export."""
    if isinstance(answer, dict):
        # 0.40.0 with transformers 5 does not get through it.
        assert "export_tensorrt_llm_checkpoint" in answer["error"], answer["error"]
        return False
    there = {
        name
        for name in ("hf_quant_config.json", "model.safetensors", "rank0.safetensors")
        if Path(answer, name).exists()
    }
    assert there in ({"hf_quant_config.json", "model.safetensors"}, {"rank0.safetensors"})
    return "model.safetensors" in there


def test_a_vision_language_model_gets_the_unified_export(exported: dict[str, dict[str, Any]]) -> None:
    assert not is_unified(exported["base"]["int8_sq"])
    for job in ("int8_sq", "int8_smoothquant", "recipe"):
        if job in exported["patched"]:
            folder = exported["patched"][job]
            assert is_unified(folder), job
            written = json.loads(Path(folder, "hf_quant_config.json").read_text())["quantization"]
            assert (written["quant_algo"], written["kv_cache_quant_algo"]) == ("W8A8_SQ_PER_CHANNEL", "FP8"), job


def test_a_language_model_keeps_its_export_without_the_option(exported: dict[str, dict[str, Any]]) -> None:
    assert not is_unified(exported["patched"]["llm"])
    assert is_unified(exported["patched"]["llm by option"])


def test_the_library_makes_the_same_checkpoint(
    spec: str, exported: dict[str, dict[str, Any]], git_trees: Callable[[str], Trees], monkeypatch: pytest.MonkeyPatch
) -> None:
    if spec == "modelopt@0.40.0" and transformers_of(os.environ["PATCHSET_SERIES_PYTHON"]) >= 5:
        pytest.skip("0.40.0's data loader calls a method that transformers 5 dropped")
    script = Path(exported["patched"]["int8_sq"])
    folder = script.parent.parent
    monkeypatch.setenv("PYTHONPATH", str(git_trees(spec).patched))
    out = folder / "library"
    options = ["--captions", str(folder / "captions.txt"), "--calib-size", "4", "--batch-size", "2", "--device", "cpu"]
    options += ["--python", os.environ["PATCHSET_SERIES_PYTHON"], "--unpatched"]
    assert main(["quantize", str(folder / "qwen2_5_vl"), str(out), *options]) == 0
    for name in ("model.safetensors", "hf_quant_config.json", "config.json"):
        assert (out / name).read_bytes() == (script / name).read_bytes(), name
