"""Every git process of the tools starts in `patchset.store`, and GitPython is imported there alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
DOOR = TOOLS / "patchset/store"


def breaches(source: str) -> Iterator[int]:
    """Yield the lines that import GitPython, or that hold a command line or a call whose program is git."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.split(".")[0] == "git" for name in names):
            yield node.lineno
        first: ast.expr | None = None
        if isinstance(node, ast.List | ast.Tuple) and node.elts:
            first = node.elts[0]
        elif isinstance(node, ast.Call) and node.args:
            first = node.args[0]
        if isinstance(first, ast.Constant) and str(first.value).split(" ")[0].rpartition("/")[2] == "git":
            yield node.lineno


@pytest.mark.parametrize("package", ["toolkit", "patchset", "checkpoint", "regression"])
def test_every_git_process_starts_in_store(package: str) -> None:
    files = [file for file in (TOOLS / package).rglob("*.py") if not file.is_relative_to(DOOR)]
    assert files
    outside = [f"{file.relative_to(TOOLS)}:{line}" for file in files for line in breaches(file.read_text("utf-8"))]
    assert outside == []


@pytest.mark.parametrize(
    "source",
    [
        "import git",
        "def f():\n    from git.remote import RemoteProgress",
        "subprocess.run(['git', 'status'])",
        "command = ('/usr/bin/git', 'status')",
        "os.execvp('git', command)",
        "subprocess.run('git status', shell=True)",
    ],
)
def test_the_test_sees_each_way_to_git(source: str) -> None:
    assert list(breaches(source))


def test_the_door_is_used() -> None:
    assert any(list(breaches(file.read_text("utf-8"))) for file in DOOR.glob("*.py"))
