"""vLLM's trees, with all probes of each in one process; its CPU wheel as published and as `patchset build` makes it.

A test that asks for `base`, itself or by way of another fixture, runs for every release in bases.py, and one that asks
for `serve` for those with a CPU build. Marks of tests or of their parameters leave releases out: `patch("NAME")` those
whose series lacks the patch, `whole` those for which the chain is tested in part.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, get_args

import pytest

from patchset.model.component import Wheel
from patchset.sources import archive
from toolkit.progress import Quiet

from ..conftest import Trees, Which, interpreter
from .bases import BASES, PATCHES, Base
from .loaded import LOADED

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
QUANTIZE = HERE / "quantize.py"
PROBES = HERE / "probes/main.py"

# No CPU build of torchvision exists. The other one imports beside torch's CPU build once these operators are declared,
# which vLLM's own subprocesses need as well.
_SITECUSTOMIZE = """
import torch
if torch.version.cuda is None:
    torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests for the releases that they are for."""
    if "base" in metafunc.fixturenames:
        served = "serve" in metafunc.fixturenames
        names = [name for name, has in BASES.items() if has.serve or not served]
        metafunc.parametrize("base", names, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of what a release does not have."""
    out = {item for item in items if item.path.is_relative_to(HERE) and not _is_for(item)}
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]


def _is_for(item: pytest.Item) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    needed = {name for mark in item.iter_markers("patch") for name in mark.args}
    assert needed <= set(PATCHES), needed
    has = BASES.get(parameters.get("base", ""))
    return has is None or has.holds(needed, whole=item.get_closest_marker("whole") is not None)


@pytest.fixture(scope="session")
def base(request: pytest.FixtureRequest) -> str:
    """A release that has a series."""
    name: str = request.param
    return name


@dataclass(frozen=True)
class Output:
    """The answer of a script of the serving environment; `value` is None where it wrote none."""

    returncode: int
    value: Any
    output: str


class Serve(Protocol):
    """Run a script with the published (`base`) or the patched vLLM; `arguments` reach it as `sys.argv[2:]`."""

    def __call__(self, which: str, script: Path, *arguments: str, env: dict[str, str] | None = None) -> Output: ...


@pytest.fixture(scope="session")
def serve(base: str, trees: Callable[[str], Trees], tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Return a function that runs a script in the environment that has a CPU build of the release.

    The patched vLLM is the wheel that users build, installed by pip before the published one on the path; where the
    compiled parts are another release's, it is the trees, each with them.
    """
    has = BASES[base]
    assert has.serve is not None
    python = interpreter(has.serve)
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    if has.compiled is None:
        path = {"base": f"{site}", "patched": f"{site}:{installed(base, python, tmp_path_factory)}"}
    else:
        path = {
            which: f"{site}:{folder}"
            for which, folder in completed(trees(f"vllm@{base}"), has.compiled, tmp_path_factory).items()
        }

    def run(which: str, script: Path, *arguments: str, env: dict[str, str] | None = None) -> Output:
        answer = tmp_path_factory.mktemp("answer") / "answer.json"
        done = subprocess.run(
            [python, str(script), str(answer), *arguments],
            env={
                **os.environ,
                "PYTHONPATH": path[which],
                "HF_HUB_OFFLINE": "1",
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_CPU_KVCACHE_SPACE": "1",
                # A tree has no version to name the device.
                "VLLM_TARGET_DEVICE": "cpu",
                **(env or {}),
            },
            cwd=answer.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        value = json.loads(answer.read_text()) if answer.exists() else None
        return Output(done.returncode, value, done.stdout + done.stderr)

    return run


def installed(base: str, python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the patched CPU wheel of a release, and return the folder that it is installed in."""
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    build = ["build", f"vllm@{base}", "--route", "overlay", "--variant", "cpu", "--source", "archive"]
    subprocess.run(
        [sys.executable, "-m", "patchset", "--root", str(ROOT), *build, "--out", str(wheels)],
        check=True,
        capture_output=True,
    )
    (wheel,) = wheels.glob("*.whl")
    install = ["install", "-q", "--no-deps", "--no-compile", "--no-index", "--target", str(folder), str(wheel)]
    subprocess.run([python, "-m", "pip", *install], check=True, capture_output=True)
    return folder


def completed(both: Trees, wheel: Wheel, tmp_path_factory: pytest.TempPathFactory) -> dict[Which, Path]:
    """Return a folder for either tree, with its package and the compiled parts of a wheel."""
    parts = tmp_path_factory.mktemp("compiled")
    with zipfile.ZipFile(archive.download(wheel, Quiet())) as members:
        names = [name for name in members.namelist() if name.startswith("vllm/") and name.endswith(".so")]
        members.extractall(parts, names)
    folders: dict[Which, Path] = {}
    for which in get_args(Which):
        folders[which] = tmp_path_factory.mktemp(which)
        shutil.copytree(both[which] / "vllm", folders[which] / "vllm", copy_function=os.link)
        for name in names:
            (folders[which] / name).symlink_to(parts / name)
    return folders


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of ModelOpt's: where it is, its family, and the answer of its fake quantization to each prompt."""

    folder: Path
    family: str
    reference: dict[str, Any]

    @property
    def prompts(self) -> dict[str, list[int]]:
        """The tokens of the prompts."""
        return {kind: answer["prompt"] for kind, answer in self.reference.items()}


_INT8 = "INT8_SMOOTHQUANT_CFG"
# See quantize.py.
JOBS: dict[str, dict[str, Any]] = {
    "qwen2.5-vl": {"family": "qwen2_5_vl", "config": _INT8},
    "qwen2.5-vl, kv": {"family": "qwen2_5_vl", "config": _INT8, "alpha": 0.5, "kv": "fp8"},
    "qwen2.5-vl, fp8": {"family": "qwen2_5_vl", "config": "FP8_DEFAULT_CFG", "kv": "fp8", "level": True},
    "qwen3-vl": {"family": "qwen3_vl", "config": _INT8, "alpha": 0.5},
    "qwen2": {"family": "qwen2", "config": _INT8, "alpha": 0.5},
    "llama": {"family": "llama", "config": _INT8},
    "qwen3, weights": {"family": "qwen3", "config": "INT8_WEIGHT_ONLY_CFG"},
    "qwen3, mixed": {"family": "qwen3", "config": _INT8, "weights only": "*mlp*", "ask": False},
    "qwen3, not smoothed": {"family": "qwen3", "config": "INT8_DEFAULT_CFG", "ask": False},
    "qwen3-moe": {"family": "qwen3_moe", "config": _INT8, "ask": False},
    "qwen3-moe, unquantized experts": {"family": "qwen3_moe", "config": _INT8, "unquantized": ["*mlp*"]},
}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Return tiny models, quantized and exported by ModelOpt in one process."""
    python = interpreter("quantize")
    folder = tmp_path_factory.mktemp("checkpoints")
    jobs = [{"name": name, **job} for name, job in JOBS.items()]
    done = subprocess.run(
        [python, str(QUANTIZE), str(folder / "answer.json"), str(folder), json.dumps(jobs)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    references = json.loads((folder / "answer.json").read_text())
    return {name: Checkpoint(folder / name, job["family"], references[name]) for name, job in JOBS.items()}


Probe = Callable[[Which], dict[str, Any]]


@pytest.fixture(scope="session")
def probe(
    base: str,
    trees: Callable[[str], Trees],
    checkpoints: dict[str, Checkpoint],
    tmp_path_factory: pytest.TempPathFactory,
) -> Probe:
    """Return a function that gives the probes' answers about either tree; the trees have no compiled part."""
    has = BASES[base]
    python = interpreter(has.imports)

    @cache
    def run(which: Which) -> dict[str, Any]:
        out = tmp_path_factory.mktemp("probes") / "answer.json"
        probes: dict[str, Any] = {"choice": None, "loading": loads(which, has, checkpoints)}
        if which == "patched":
            probes["parts"] = "cpu-int8-static-scale" not in has.lacks
            if "modelopt-int8-fused-scale" not in has.lacks:
                probes["scale"] = None
        done = subprocess.run(
            [python, str(PROBES), str(out), json.dumps(probes)],
            env={
                **os.environ,
                "PYTHONPATH": str(trees(f"vllm@{base}")[which]),
                "HF_HUB_OFFLINE": "1",
                "VLLM_TARGET_DEVICE": "cpu",
            },
            cwd=out.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        answers: dict[str, Any] = json.loads(out.read_text())
        broken = [value["error"] for value in answers.values() if "error" in value]
        assert which == "base" or not broken, broken[0]
        return answers

    return run


def loads(which: Which, has: Base, checkpoints: dict[str, Checkpoint]) -> list[dict[str, Any]]:
    """Return the jobs of probes/loading.py for a release; of the unpatched one, just what loads when it is patched."""
    return [
        {"name": name, "folder": str(checkpoints[load.checkpoint].folder), **load.job()}
        for name, load in LOADED.items()
        if has.holds(load.patches, whole=False) and (which == "patched" or not load.says)
    ]
