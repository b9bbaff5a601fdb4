"""State that an earlier version has left, written here by hand as that version wrote it, is gone on with."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from ..conftest import Run, git
from .conftest import History, move, put, replace

SEVEN = replace("pkg/one.py", "line 7\n", "line seven\n")


@pytest.fixture
def conflicting(history: History) -> History:
    """Three patches, of which the second conflicts with 2.0."""
    history.patch("first", replace("README", "a project", "our project"))
    history.patch("second", SEVEN)
    history.patch("third", put("new.py", "new\n"))
    history.release("2.0", replace("pkg/one.py", "line 7\n", "line VII\n"))
    history.ready()
    return history


def unfinished(history: History, skips: str = "{}") -> Path:
    """Write a rebase that waits at the conflict of `second`; returns its work tree."""
    private = history.extern / ".git/patchset/rebase"
    (private / "2.0").mkdir(parents=True)
    commit = git(history.upstream.path, "rev-parse", "2.0")
    (private / "2.0/base.toml").write_text(f'commit = "{commit}"\n')
    (private / "session.json").write_text(
        '{\n "from_base": "1.0",\n "base": "2.0",\n "mode": "auto",\n "skips": ' + skips + ',\n "conflict": "second"\n}'
    )
    work = history.path / ".patchset/rebase/foo"
    work.parent.mkdir(parents=True)
    (work.parent / ".gitignore").write_text("*\n")
    git(history.extern, "worktree", "add", "--quiet", "--detach", "--force", str(work), "2.0")
    if skips == "{}":
        git(work, "cherry-pick", "origin/series~2")
    git(history.extern, "update-ref", "refs/patchset/rebase", git(work, "rev-parse", "HEAD"))
    blobs = [git(history.extern, "rev-parse", f"{name}:pkg/one.py") for name in ("1.0", "2.0", "origin/series~1")]
    stages = "".join(f"100644 {blob} {number}\tpkg/one.py\n" for number, blob in enumerate(blobs, 1))
    git(work, "update-index", "--force-remove", "pkg/one.py")
    git(work, "update-index", "--index-info", stdin=stages.encode())
    text = (work / "pkg/one.py").read_text()
    marked = "<<<<<<< ours\nline VII\n||||||| base\nline 7\n=======\nline seven\n>>>>>>> theirs\n"
    (work / "pkg/one.py").write_text(text.replace("line VII\n", marked))
    assert git(work, "status", "--porcelain") == "UU pkg/one.py"
    return work


def test_an_unfinished_rebase_is_continued(conflicting: History, run: Run) -> None:
    work = unfinished(conflicting)
    refused = run("--root", conflicting.path, "rebase", "foo", "--continue")
    assert refused.code == 4
    assert "pkg/one.py:7: a conflict marker" in refused.err
    (work / "pkg/one.py").write_text((conflicting.upstream.path / "pkg/one.py").read_text().replace("VII", "7, VII"))
    report = conflicting.rebase(run, "--continue")
    assert [(item["name"], item["outcome"], item["resolved"]) for item in report["patches"]] == [
        ("first", "unmodified", False),
        ("second", "modified", True),
        ("third", "unmodified", False),
    ]
    assert "line 7, VII" in (conflicting.new / "second.patch").read_text()
    assert not work.exists()


def test_an_unfinished_rebase_with_a_skipped_patch_is_gone_on_with(conflicting: History, run: Run) -> None:
    unfinished(conflicting, '{\n  "first": "not wanted"\n }')
    report = conflicting.rebase(run, "--skip", "in another form")
    assert {item["name"]: (item["outcome"], item["detail"]) for item in report["patches"]} == {
        "first": ("skipped", "not wanted"),
        "second": ("skipped", "in another form"),
        "third": ("unmodified", ""),
    }


def test_an_unfinished_rebase_is_given_up(conflicting: History, run: Run) -> None:
    work = unfinished(conflicting)
    assert run("--root", conflicting.path, "rebase", "foo", "--abort").code == 0
    assert not work.exists()
    assert git(conflicting.extern, "for-each-ref", "refs/patchset/rebase") == ""
    assert not (conflicting.extern / ".git/patchset/rebase").exists()


def test_remembered_resolutions_are_used(conflicting: History, run: Run) -> None:
    folder = conflicting.extern / ".git/patchset/resolutions"
    folder.mkdir(parents=True)
    blobs = [git(conflicting.extern, "rev-parse", f"{name}:pkg/one.py") for name in ("1.0", "2.0", "origin/series~1")]
    stages = [f"{number} 100644 {blob}" for number, blob in enumerate(blobs, 1)]
    text = git(conflicting.extern, "show", "2.0:pkg/one.py").replace("VII", "7, VII") + "\n"
    resolved = [33188, base64.b64encode(text.encode()).decode()]
    beside = {"beside.py": {"before": None, "after": [33188, base64.b64encode(b"beside\n").decode()]}}
    whole = "\n".join(["whole", *(f"{stage} pkg/one.py" for stage in stages)])
    for key, values in (
        ("\n".join(stages), {"path": "pkg/one.py", "after": resolved}),
        (whole, {"files": beside}),
    ):
        (folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json").write_text(json.dumps(values))
    report = conflicting.rebase(run, "2.0")
    assert [item["resolved"] for item in report["patches"]] == [False, True, False]
    second = (conflicting.new / "second.patch").read_text()
    assert "+line 7, VII" in second
    assert "+beside" in second


def test_the_matrix_takes_cells_from_the_cache(history: History, run: Run) -> None:
    history.patch("change", SEVEN)
    history.release("1.5", move("pkg/one.py", "lib/uno.py"))
    history.release("2.0", put("b.txt", "b\n"))
    history.ready()
    base, between, target = (git(history.extern, "rev-parse", name) for name in ("1.0", "1.5^{tree}", "2.0"))
    patch = hashlib.sha256((history.series / "change.patch").read_bytes()).hexdigest()
    digest = hashlib.sha256(f"foo\0001.0\0{base}\0change.patch\0001\0{patch}\0".encode()).hexdigest()
    key = hashlib.sha256("\0".join(("2", digest, base, target, between)).encode()).hexdigest()
    folder = history.extern / ".git/patchset/matrix"
    folder.mkdir(parents=True)
    # Another answer than the true one, by which it is known again.
    (folder / f"{key}.json").write_text('[["conflict", ["pkg/one.py"], ["1.5"]]]')
    (matrix,) = json.loads(run("--root", history.path, "matrix", "--known", "--json").out)
    cells = {column["release"]: column["cells"] for column in matrix["columns"]}
    assert cells["2.0"] == [{"state": "conflict", "paths": ["pkg/one.py"], "intermediate_releases": ["1.5"]}]
    assert [cell["state"] for cell in cells["1.5"]] == ["merged"]
    assert len(list(folder.iterdir())) == 3


def test_a_matrix_without_patches_is_computed_once(history: History, run: Run) -> None:
    history.ready()
    first, second = (run("--root", history.path, "matrix", "--known", "--json") for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out


def test_imported_archives_and_fetched_commits_are_used(history: History, run: Run) -> None:
    history.patch("change", SEVEN)
    history.release("1.1", replace("pkg/one.py", "line 1\n", "line one\n"))
    history.ready()
    store = history.path / ".patchset/modules/extern/foo"
    store.mkdir(parents=True)
    git(store, "init", "-q", "--bare")
    git(history.path, "-C", str(store), "fetch", "-q", "--no-tags", str(history.extern), "1.0", "1.1")
    for version, digest in (("1.0", "a" * 64), ("1.1", "b" * 64)):
        message = f"foo-{version}.tar.gz\n\nsha256: {digest}\n"
        tree = history.tree(version)
        commit = git(store, "commit-tree", tree, stdin=message.encode())
        git(store, "update-ref", f"refs/patchset/archive/{digest}", commit)
    upstream = git(history.upstream.path, "rev-parse", "1.0")
    git(store, "update-ref", f"refs/patchset/commit/{upstream}", upstream)
    git(history.path, "-C", str(history.extern), "worktree", "prune")
    history.extern.rename(history.folder / "away")
    text = (history.series / "base.toml").read_text()
    archive = f'\n[archive]\nproject = "foo"\nfile = "foo-1.0.tar.gz"\nsha256 = "{"a" * 64}"\n'
    (history.series / "base.toml").write_text(text + archive)
    result = run("--root", history.path, "matrix", "--known", "--source", "archive", "--json")
    assert result.code == 0, result.err
    (matrix,) = json.loads(result.out)
    assert {column["release"]: column["cells"][0]["state"] for column in matrix["columns"]} == {
        "1.0": "clean",
        "1.1": "merged",
    }
    for source, why in (("archive", "it is imported already"), ("submodule", "its commit is here")):
        result = run("--root", history.path, "apply", "foo", "--source", source, "--offline", "--json")
        assert result.code == 0, result.err
        assert (json.loads(result.out)[0]["source"], json.loads(result.out)[0]["why"]) == (source, why)
