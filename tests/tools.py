"""Other people's patch tools, where the machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


def need(program: str) -> None:
    """Skip a test, with the reason, where a program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def git_am(tree: Path, series: Path) -> None:
    names = [line.split()[0] for line in (series / "series").read_text().splitlines()]
    _run(tree, "git", "am", "--quiet", "--keep-cr", *(str(series / name) for name in names))


def quilt(tree: Path, series: Path) -> None:
    need("quilt")
    environment = {"QUILT_PATCHES": str(series), "QUILT_NO_DIFF_INDEX": "1"}
    _run(tree, "quilt", "--quiltrc=-", "push", "-a", "-q", env=environment)
    shutil.rmtree(tree / ".pc")


def patch(tree: Path, series: Path) -> None:
    need("patch")
    for line in (series / "series").read_text().splitlines():
        name, *options = line.split()
        _run(tree, "patch", "-s", options[0] if options else "-p1", "-i", str(series / name))


def stgit(tree: Path, series: Path) -> None:
    need("stg")
    _run(tree, "git", "checkout", "-q", "-B", "stack")
    _run(tree, "stg", "init")
    _run(tree, "stg", "import", "--series", str(series / "series"))


TOOLS: dict[str, Callable[[Path, Path], None]] = {"git am": git_am, "quilt": quilt, "patch": patch, "stg": stgit}


def tree_after(tool: str, repository: Path, commit: str, series: Path, folder: Path) -> str:
    """Clone `repository` at `commit` into `folder`, apply a series with a tool, and return the tree."""
    _run(repository, "git", "clone", "-q", "--no-checkout", str(repository), str(folder))
    _run(folder, "git", "checkout", "-q", "--detach", commit)
    TOOLS[tool](folder, series)
    _run(folder, "git", "add", "-A", "-f")
    return _run(folder, "git", "write-tree").strip()


def _run(cwd: Path, *command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout
