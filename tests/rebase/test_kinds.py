"""From one release to another in the work tree: a folder becomes a link, a file a folder, a submodule comes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Run, git
from ..project.test_kill import killed_at
from .conftest import History, both, move, put, remove


def relinked(top: Path) -> None:
    """The folder that was `pkg` is `lib`, and `pkg` a link to it; a submodule came; `sub`, a file, is a folder."""
    (top / "pkg/deep/er.py").unlink()
    (top / "pkg/deep").rmdir()
    (top / "pkg").rmdir()
    (top / "pkg").symlink_to("lib")
    (top / "mods/other").mkdir(parents=True)
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},mods/other")


@pytest.fixture
def two(history: History, run: Run) -> History:
    """A series on each of two releases, 1.0 and 2.0, with the same patch; the work tree is on that of 1.0."""
    git(history.upstream.path, "checkout", "-q", "main")
    both(put("pkg/deep/er.py", "deep\n"), put("sub", "a file\n"))(history.upstream.path)
    history.upstream.commit_all("more")
    git(history.upstream.path, "tag", "-f", "1.0")
    git(history.upstream.path, "branch", "-f", "series", "1.0")
    history.patch("one", put("README", "our project\n"))
    moved = both(move("pkg/one.py", "lib/one.py"), move("pkg/two.py", "lib/two.py"), remove("pkg/link-target"))
    history.release("2.0", both(moved, remove("sub"), put("sub/file", "x\n"), relinked))
    history.ready()
    history.rebase(run, "2.0")
    assert run("--root", history.path, "apply", "foo@1.0").code == 0
    return history


def check(history: History, release: str) -> None:
    """Hold the work tree against the series of a release."""
    assert git(history.extern, "status", "--porcelain") == ""
    assert git(history.extern, "symbolic-ref", "HEAD") == f"refs/heads/patchset/{release}"
    assert (history.extern / "README").read_text() == "our project\n"
    newer = release == "2.0"
    assert (history.extern / "pkg").is_symlink() == newer
    assert (history.extern / "mods/other").is_dir() == newer
    assert (history.extern / "sub").is_dir() == newer
    assert (history.extern / "pkg/deep/er.py").exists() != newer
    assert (history.extern / "pkg/one.py").read_text().startswith("line 1\n")


def test_there_and_back(two: History, run: Run) -> None:
    for release in ("2.0", "1.0", "2.0"):
        result = run("--root", two.path, "apply", f"foo@{release}")
        assert result.code == 0, result.err
        check(two, release)


def test_work_of_the_user_in_such_a_folder_is_in_the_way(two: History, run: Run) -> None:
    (two.extern / "pkg/deep/mine.py").write_text("mine\n")
    (two.extern / "pkg/two.py").write_text("mine\n")
    result = run("--root", two.path, "apply", "foo@2.0")
    assert result.code == 6
    assert "pkg/deep/mine.py: an untracked file" in result.err
    assert "pkg/two.py: changed and not committed" in result.err
    assert (two.extern / "pkg/deep/mine.py").read_text() == "mine\n"
    assert git(two.extern, "symbolic-ref", "HEAD") == "refs/heads/patchset/1.0"


def test_what_is_in_a_submodule_stays(two: History, run: Run) -> None:
    assert run("--root", two.path, "apply", "foo@2.0").code == 0
    (two.extern / "mods/other/mine").write_text("mine\n")
    assert run("--root", two.path, "apply", "foo@1.0").code == 0
    assert (two.extern / "mods/other/mine").read_text() == "mine\n"


@pytest.mark.slow
@pytest.mark.parametrize("way", [("1.0", "2.0"), ("2.0", "1.0")], ids=["to the link", "to the folder"])
def test_killed_at_every_step(two: History, run: Run, tmp_path: Path, way: tuple[str, str]) -> None:
    old, new = way
    assert run("--root", two.path, "apply", f"foo@{old}").code == 0
    saved = tmp_path / "saved"
    shutil.copytree(two.extern, saved, symlinks=True)
    command = ("--root", str(two.path), "apply", f"foo@{new}")
    step = 1
    while killed_at(step, "child", *command):
        done = subprocess.run([sys.executable, "-m", "patchset", *command], capture_output=True, check=False)
        assert done.returncode == 0, f"step {step}: {done.stderr.decode()}"
        check(two, new)
        shutil.rmtree(two.extern)
        shutil.copytree(saved, two.extern, symlinks=True)
        git(two.extern, "update-index", "-q", "--refresh")
        step += 1
    check(two, new)
    assert step > 5


def test_a_refused_step_puts_the_folder_back(two: History, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def refuse(source: str, target: str) -> None:
        if str(target).endswith("/sub/file"):
            raise PermissionError(13, "Permission denied", source, None, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    result = run("--root", two.path, "apply", "foo@2.0")
    assert result.code != 0
    check(two, "1.0")
