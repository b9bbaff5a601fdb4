"""Killed at any step: the old series, or the new one, and the next run goes through.

Each kill takes three runs of the tool, so that only some of the steps are tried; PATCHSET_EVERY_STEP=1 tries all.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import git
from ..project.test_kill import HARNESS
from .conftest import History, put, replace


def steps(stride: int) -> Iterator[int]:
    """Give the steps to kill at; whoever asks stops when the run is over before that."""
    return itertools.count(1, 1 if os.environ.get("PATCHSET_EVERY_STEP") else stride)


def killed_at(step: int, who: str, history: History, *args: str, end: int = 0) -> bool:
    """Run the tool and kill it, or its renaming child, at the n-th effect; returns whether that came."""
    command = [sys.executable, "-c", HARNESS, str(step), who, "--root", str(history.path), *args]
    done = subprocess.run(command, capture_output=True, check=False, start_new_session=True)
    if who == "child":
        return done.returncode != end
    assert done.returncode in (end, -signal.SIGKILL), done.stderr.decode()
    return done.returncode == -signal.SIGKILL


def tool(history: History, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "patchset", "--root", str(history.path), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def remove(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.slow
def test_a_clean_rebase(history: History) -> None:
    history.patch("first", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.patch("second", put("new.py", "new\n"))
    history.release("2.0", replace("pkg/one.py", "line 1\n", "one\n"))
    history.ready()
    assert tool(history, "rebase", "foo", "2.0").returncode == 0
    wanted = files(history.path / "patches")
    for step in steps(9):
        remove(history.new)
        # What the run before it has computed is used again; it must be as sure without.
        remove(history.extern / ".git/patchset/made")
        if not killed_at(step, "parent", history, "rebase", "foo", "2.0"):
            break
        if not history.new.exists():
            again = tool(history, "rebase", "foo", "2.0")
            assert again.returncode == 0, f"step {step}: {again.stderr}"
        assert files(history.path / "patches") == wanted, f"step {step}"
        assert not list((history.extern / ".git/patchset").glob("scratch-*"))
        assert git(history.extern, "status", "--porcelain") == ""
    assert step > 15


@pytest.mark.slow
def test_a_rebase_with_a_conflict(history: History) -> None:
    """At any step of laying it out, the same command goes on."""
    history.patch("first", put("new.py", "new\n"))
    history.patch("second", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.release("2.0", replace("pkg/one.py", "line 7\n", "line VII\n"))
    history.ready()
    work = history.path / ".patchset/rebase/foo"
    for step in steps(23):
        assert tool(history, "rebase", "foo", "--abort").returncode in (0, 2)
        if not killed_at(step, "parent", history, "rebase", "foo", "2.0", end=4):
            break
        again = tool(history, "rebase", "foo", "2.0")
        assert again.returncode == 4, f"step {step}: {again.stderr}"
        assert "<<<<<<< " in (work / "pkg/one.py").read_text()
        assert git(work, "status", "--porcelain") == "UU pkg/one.py"
    assert step > 20


@pytest.mark.slow
def test_continue_and_skip(history: History) -> None:
    history.patch("first", put("new.py", "new\n"))
    history.patch("second", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.release("2.0", replace("pkg/one.py", "line 7\n", "line VII\n"))
    history.ready()
    work = history.path / ".patchset/rebase/foo"
    for args in (["--continue"], ["--skip", "not wanted"]):
        wanted = None
        for step in steps(43):
            remove(history.new)
            remove(history.extern / ".git/patchset/resolutions")
            assert tool(history, "rebase", "foo", "2.0").returncode == 4
            if args == ["--continue"]:
                (work / "pkg/one.py").write_text("resolved\n")
            if not killed_at(step, "parent", history, "rebase", "foo", *args):
                break
            if not history.new.exists():
                # The reason for skipping may be written down already, and then there is only to go on.
                again = tool(history, "rebase", "foo", *args)
                if again.returncode == 2:
                    again = tool(history, "rebase", "foo", "--continue")
                assert again.returncode == 0, f"{args} step {step}: {again.stderr}"
            else:
                tool(history, "rebase", "foo", "--abort")
            wanted = wanted or files(history.new)
            assert files(history.new) == wanted, f"{args} step {step}"
            assert tool(history, "rebase", "foo", "--abort").returncode == 2
        assert step > 20


@pytest.mark.slow
@pytest.mark.parametrize("who", ["parent", "child"])
def test_refresh(history: History, tmp_path: Path, who: str) -> None:
    history.patch("first", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.patch("second", put("new.py", "new\n"))
    history.ready()
    assert tool(history, "apply").returncode == 0
    (history.extern / "new.py").write_text("newer\n")
    git(history.extern, "commit", "-q", "--amend", "-a", "--no-edit")
    (history.extern / "README").write_text("not committed\n")
    saved = tmp_path / "saved"
    subprocess.run(["cp", "-a", str(history.path), str(saved)], check=True)
    old = files(history.series)
    assert tool(history, "refresh").returncode == 0
    new = files(history.series)
    assert new != old
    for step in steps(19 if who == "parent" else 4):
        remove(history.path)
        subprocess.run(["cp", "-a", str(saved), str(history.path)], check=True)
        if not killed_at(step, who, history, "refresh"):
            break
        subprocess.run(["sleep", "0.05"], check=True)
        assert files(history.series) in (old, new), f"step {step}"
        again = tool(history, "refresh")
        assert again.returncode == 0, f"step {step}: {again.stderr}"
        assert files(history.series) == new
        assert (history.extern / "README").read_text() == "not committed\n"
        assert git(history.extern, "status", "--porcelain") == "M README"
        assert '"would": "do nothing"' in tool(history, "status", "--json").stdout
    assert step > (15 if who == "parent" else 2)
