"""Source builds: a real build back end in an isolated environment, and what is refused before it starts."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from patchset.wheels import preflight
from toolkit.errors import EnvironmentProblem

from ..conftest import Run
from .conftest import PACKAGE, WheelRoot

ONE = str(PACKAGE["pkg/one.py"])

BUILD_SYSTEM = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "pkg"
dynamic = ["version"]

[tool.setuptools]
packages = ["pkg"]
"""
SETUP = """\
import os
from setuptools import setup
open(os.environ["WITNESS"], "w").write(os.environ["FOO_TARGET"] + " " + os.environ["MAX_JOBS"])
setup(version=os.environ["FOO_VERSION"])
"""
COMPONENT = """\
pinned = "1.0"

[wheel]
project = "pkg"
packages = ["pkg/**"]
compiled = ["csrc/**", "pyproject.toml", "setup.py"]
build-files = ["pyproject.toml", "setup.py"]
variant-variable = "FOO_TARGET"
job-memory = 1

[wheel.variants]
plain = []
cuda = ["compiler", "cuda", "memory"]

[wheel.environment]
FOO_VERSION = "{version}"
"""


@pytest.fixture
def source_root(wheel_root: WheelRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelRoot:
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    (wheel_root.path / "patches/foo/component.toml").write_text(COMPONENT)
    wheel_root.add_patch("build", {"pyproject.toml": BUILD_SYSTEM, "setup.py": SETUP, "pkg/one.py": "line = 1\n"})
    return wheel_root


@pytest.mark.slow
def test_builds_from_the_patched_tree(source_root: WheelRoot, run: Run, tmp_path: Path) -> None:
    args = ("--root", source_root.path, "build", "--offline", "--json")
    result = run(*args, "--jobs", "3", "--route", "source")
    assert result.code == 0, result.err
    report = json.loads(result.out)[0]
    assert (report["route"], report["why"], report["patches"]) == ("source", "requested", ["build"])
    assert (tmp_path / "witness").read_text() == "plain 3"
    with zipfile.ZipFile(report["wheel"]) as archive:
        assert archive.read("pkg/one.py") == b"line = 1\n"
        assert f"pkg-{report['version']}.dist-info/sboms/patchset.cdx.json" in archive.namelist()
    assert run("--root", source_root.path, "verify", "--offline", report["wheel"]).code == 0
    # `auto` comes to the same, and names the patch that needs it.
    auto = json.loads(run(*args, "--jobs", "1").out)[0]
    assert auto["route"] == "source"
    assert "build: changes pyproject.toml, setup.py" in auto["why"]


@pytest.mark.slow
def test_a_build_that_fails_keeps_its_log(source_root: WheelRoot, run: Run) -> None:
    source_root.add_patch("broken", {"setup.py": "raise SystemExit('this cannot work')\n"})
    result = run("--root", source_root.path, "build", "--offline", "--route", "source")
    assert result.code == 11
    log = source_root.path / "dist/foo-1.0.log"
    assert str(log) in result.err
    assert "this cannot work" in log.read_text()
    assert "this cannot work" in result.err
    assert not list((source_root.path / "dist").glob("*.whl"))


def test_nothing_of_upstream_runs_before_the_machine_is_found_fit(
    source_root: WheelRoot, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    git = shutil.which("git")
    assert git is not None
    (folder / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(folder))
    for name in ("CUDA_HOME", "CUDA_PATH", "CXX"):
        monkeypatch.delenv(name, raising=False)
    result = run("--root", source_root.path, "build", "--offline", "--variant", "cuda", "--route", "source")
    assert result.code == 9
    assert "there is no C++ compiler (c++, g++, clang++)" in result.err
    assert "there is no CUDA compiler (nvcc)" in result.err
    assert "CUDA_HOME" in result.err
    assert not (tmp_path / "witness").exists()


def test_a_variant_that_is_not_there_is_named(source_root: WheelRoot, run: Run) -> None:
    result = run("--root", source_root.path, "build", "--offline", "--variant", "rocm", "--route", "source")
    assert result.code == 2
    assert "known variants: plain, cuda" in result.err


def test_a_tree_without_build_files_is_refused(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.add_patch("bare", {"pyproject.toml": None})
    result = run("--root", wheel_root.path, "build", "--offline", "--route", "source")
    assert result.code == 10
    assert "it has no pyproject.toml" in result.err
    assert "--source submodule" in result.err


def compiler(tmp_path: Path, *architectures: str) -> dict[str, str]:
    """An environment whose nvcc knows these architectures, as `nvcc --list-gpu-arch` prints them."""
    home = tmp_path / "cuda"
    (home / "bin").mkdir(parents=True)
    lines = "".join(f"echo compute_{name}\n" for name in architectures)
    (home / "bin/nvcc").write_text(f"#!/bin/sh\n{lines}")
    (home / "bin/nvcc").chmod(0o755)
    return {"CUDA_HOME": str(home), "PATH": os.environ["PATH"]}


def test_an_architecture_that_the_compiler_does_not_know(tmp_path: Path) -> None:
    environment = compiler(tmp_path, "80", "90") | {"TORCH_CUDA_ARCH_LIST": "9.0;12.0"}
    with pytest.raises(EnvironmentProblem) as caught:
        preflight.check(("cuda",), environment, 0)
    assert "does not know the architecture 12.0 (its newest is 90)" in caught.value.details[0]


def test_known_architectures_pass(tmp_path: Path) -> None:
    preflight.check(("cuda",), compiler(tmp_path, "90", "120") | {"TORCH_CUDA_ARCH_LIST": "9.0a;12.0+PTX"}, 0)


def test_too_little_memory_says_how_many_jobs_fit() -> None:
    available = preflight.available_memory()
    if available is None:
        pytest.skip("this system does not tell its memory")
    each = max(1, available // preflight.GIB // 2)
    with pytest.raises(EnvironmentProblem) as caught:
        preflight.check(("memory",), {"MAX_JOBS": "64"}, each)
    assert "64 compile jobs want" in caught.value.details[0]
    assert "--jobs" in caught.value.remedy
    with pytest.raises(EnvironmentProblem, match="cannot build") as caught:
        preflight.check(("memory",), {"MAX_JOBS": "1"}, 100_000)
    assert "free memory" in caught.value.remedy
