"""Histories in which upstream moves on below a series: release 1.0, a series for it, and release 2.0."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import TRAILERS, Content, Run, Upstream, git

LINES = "".join(f"line {n}\n" for n in range(1, 41))
FILES: Content = {
    "README": "a project\n",
    "pkg/one.py": LINES,
    "pkg/two.py": LINES.replace("line", "two"),
    "pkg/link-target": "target\n",
    "tool.sh": "#!/bin/sh\nexit 0\n",
    "blob.bin": bytes(range(256)),
}
Edit = Callable[[Path], object]


class History:
    """Upstream's repository, and a project with a series on its release 1.0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "root"
        self.series = self.path / "patches/foo/1.0"
        self.new = self.path / "patches/foo/2.0"
        self.extern = self.path / "extern/foo"
        (folder / "upstream").mkdir()
        git(folder / "upstream", "init", "-q")
        self.upstream = Upstream(folder / "upstream")
        self.upstream.commit("release 1.0", FILES)
        (self.upstream.path / "link").symlink_to("pkg/link-target")
        self.upstream.commit_all("a link")
        git(self.upstream.path, "tag", "1.0")
        git(self.upstream.path, "branch", "series")
        self.series.mkdir(parents=True)
        (self.series / "series").write_text("")
        (self.path / "tests").mkdir()
        (self.path / "tests/test_it.py").write_text("def test_it(): ...\n")

    def patch(self, name: str, edit: Edit, message: str = "", context: int = 3) -> None:
        """Add a patch to the series: what `edit` does to the tree of the patches so far."""
        git(self.upstream.path, "checkout", "-q", "series")
        edit(self.upstream.path)
        commit = self.upstream.commit_all(f"{message or name.capitalize()}\n\nBecause.\n\n{TRAILERS}")
        data = self.upstream.format_patch(commit)
        if context != 3:
            flags = ("--zero-commit", "--full-index", "--no-stat", "--no-signature", "--no-numbered", "--binary")
            command = ["git", "format-patch", *flags, f"-U{context}", "--stdout", "-1", commit]
            data = subprocess.run(command, cwd=self.upstream.path, capture_output=True, check=True).stdout
        (self.series / f"{name}.patch").write_bytes(data)
        with (self.series / "series").open("a") as stream:
            stream.write(f"{name}.patch\n")

    def release(self, name: str, *edits: Edit) -> None:
        """Make a release of upstream's; each edit is a commit."""
        git(self.upstream.path, "checkout", "-q", "main")
        for number, edit in enumerate(edits):
            edit(self.upstream.path)
            self.upstream.commit_all(f"upstream {name}.{number}")
        git(self.upstream.path, "tag", name)

    def ready(self) -> None:
        """Give the project its component: base.toml, and upstream's repository with all tags."""
        commit = git(self.upstream.path, "rev-parse", "1.0")
        trees = [git(self.upstream.path, "rev-parse", f"{name}^{{tree}}") for name in ("1.0", "series")]
        keys = zip(("commit", "tree", "patched-tree"), (commit, *trees), strict=True)
        (self.series / "base.toml").write_text("".join(f'{key} = "{value}"\n' for key, value in keys))
        (self.path / "patches/foo/component.toml").write_text('pinned = "1.0"\n')
        git(self.folder, "clone", "-q", "--no-local", str(self.upstream.path), str(self.extern))
        git(self.extern, "checkout", "-q", "--detach", "1.0")

    def tree(self, name: str) -> str:
        return git(self.upstream.path, "rev-parse", f"{name}^{{tree}}")

    def rebase(self, run: Run, *args: object, code: int = 0) -> dict[str, Any]:
        """Run rebase, to 2.0 where nothing else is named, and return its report."""
        result = run("--root", self.path, "rebase", "foo", *(args or ("2.0",)), "--json")
        assert result.code == code, result.out + result.err
        report: dict[str, Any] = json.loads(result.out)
        return report

    def outcomes(self, run: Run, *args: object) -> dict[str, str]:
        return {item["name"]: item["outcome"] for item in self.rebase(run, *args)["patches"]}

    def git_rebase(self) -> str | None:
        """Return the tree that `git rebase` gives, or None where it stops."""
        return self._theirs(["rebase", "-q", "--onto", "2.0", "1.0", "series"])

    def git_am(self) -> str | None:
        """Return the tree that `git am -3` gives, or None where it stops."""
        names = [self.series / name for name in (self.series / "series").read_text().split()]
        return self._theirs(["am", "-q", "-3", *map(str, names)])

    def _theirs(self, command: list[str]) -> str | None:
        work = self.folder / command[0]
        if work.exists():
            shutil.rmtree(work)
        git(self.folder, "clone", "-q", str(self.upstream.path), str(work))
        git(work, "branch", "-f", "series", "origin/series")
        git(work, "checkout", "-q", "--detach", "2.0")
        done = subprocess.run(["git", *command], cwd=work, capture_output=True, check=False)
        return git(work, "rev-parse", "HEAD^{tree}") if done.returncode == 0 else None


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def replace(name: str, old: str, new: str) -> Edit:
    """Return an edit that replaces the text of a file."""

    def edit(top: Path) -> None:
        text = (top / name).read_text()
        assert old in text
        (top / name).write_text(text.replace(old, new, 1))

    return edit


def move(old: str, new: str) -> Edit:
    def edit(top: Path) -> None:
        (top / new).parent.mkdir(parents=True, exist_ok=True)
        (top / old).rename(top / new)

    return edit


def put(name: str, content: str | bytes) -> Edit:
    def edit(top: Path) -> None:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return edit


def remove(name: str) -> Edit:
    return lambda top: (top / name).unlink()


def both(*edits: Edit) -> Edit:
    def edit(top: Path) -> None:
        for item in edits:
            item(top)

    return edit
