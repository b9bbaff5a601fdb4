"""Random series over random releases: where git rebase is clean so are we, with the same tree; nowhere else are we."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ..conftest import Run
from .conftest import Edit, History, both, move

FILES = ("pkg/one.py", "pkg/two.py")


def change(dice: random.Random, name: str) -> Edit:
    """Return an edit of a few neighbouring lines; many lines of the files are alike, so that contexts mislead."""
    start, kind, number = dice.random(), dice.choice(("insert", "delete", "replace")), dice.randrange(1000)

    def edit(top: Path) -> None:
        file = next((top / path for path in (name, f"moved/{name}") if (top / path).exists()), None)
        if file is None:
            return
        lines = file.read_text().splitlines(keepends=True)
        at = int(start * len(lines))
        if kind == "insert":
            lines[at:at] = ["alike\n", f"new {number}\n", "alike\n"]
        elif kind == "delete":
            del lines[at : at + 2]
        else:
            lines[at : at + 1] = [f"other {number}\n"]
        file.write_text("".join(lines))

    return edit


def shift(dice: random.Random, name: str) -> Edit:
    def edit(top: Path) -> None:
        if (top / name).exists():
            move(name, f"moved/{name}")(top)

    return edit if dice.random() < 0.3 else change(dice, name)


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(n, marks=pytest.mark.slow) for n in range(6, 24))])
def test_against_git_rebase(history: History, run: Run, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(4):
        history.patch(f"p{number}", both(*(change(dice, dice.choice(FILES)) for _ in range(dice.randint(1, 2)))))
    history.release("2.0", *(shift(dice, dice.choice(FILES)) for _ in range(dice.randint(1, 3))))
    history.ready()
    theirs = history.git_rebase()
    if theirs is None:
        assert history.rebase(run, "2.0", code=4)["outcome"] == "conflict"
        return
    assert history.rebase(run)["patched_tree"] == theirs
    result = run("--root", history.path, "apply", "foo@2.0")
    assert result.code == 0, result.err
