"""One process that compares many trees says what a process for each says, whatever the files hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchset.model.patch import parse
from patchset.store.difference import comparer, patch_text
from patchset.store.git import Git, GitError
from patchset.store.objects import Signature, import_files

WHO = Signature("A", "a@example.org", "1763899200 +0000")
START = b"".join(b"line %d\n" % number for number in range(20))
# Lines that end an answer of the process, were they not distinguished from those of a file.
TREES: list[dict[str, bytes]] = [
    {"a.py": START, "b.bin": b"\0\1\2end\n"},
    {"a.py": START.replace(b"line 3\n", b"end\n"), "b.bin": b"\0\1\2end\n"},
    {"a.py": START.replace(b"line 3\n", b"end\nend"), "b.bin": b"\0end\n" * 40},
    {"moved/a.py": START + b"end", "b.bin": b"", "end": b"end\n"},
    {"end": b"end\n"},
]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    git = Git(tmp_path / "store.git")
    git.init()
    return git


@pytest.fixture
def trees(git: Git) -> list[str]:
    trees = []
    for number, files in enumerate(TREES):
        entries = [(path, 0o100644, data) for path, data in files.items()]
        trees.append(import_files(git, f"refs/heads/{number}", WHO, "m", entries).tree)
    return trees


@pytest.mark.parametrize("context", [0, 2, 3])
def test_the_texts_are_those_of_a_process_each(git: Git, trees: list[str], context: int) -> None:
    with comparer(git) as compare:
        for old in trees:
            for new in trees:
                text = compare.text(old, new, context)
                assert text == patch_text(git, old, new, context)
                if old != new:
                    patch, findings = parse(Path("a.patch"), b"Subject: a\n\n" + text)
                    assert patch is not None, findings
                    assert {path for change in patch.changes for path in change.touched} == set(
                        compare.compare(old, new)
                    )


def test_a_tree_that_is_missing_is_an_error(git: Git, trees: list[str]) -> None:
    with comparer(git) as compare, pytest.raises(GitError, match="could not compare"):
        compare.text(trees[0], "0" * 39 + "1", 3)
