"""A rebase that stops: where it is resolved, how it goes on, and that nothing else is touched meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..conftest import Run, git
from .conftest import History, both, move, put, remove, replace


@pytest.fixture
def stopped(history: History, run: Run) -> History:
    """Three patches, of which the second conflicts with 2.0 in one file of two."""
    history.patch("first", replace("README", "a project", "our project"))
    history.patch(
        "second", both(replace("pkg/one.py", "line 7\n", "line seven\n"), replace("pkg/two.py", "two 3\n", "three\n"))
    )
    history.patch("third", put("new.py", "new\n"))
    history.release("1.5", put("other.py", "x\n"))
    history.release("2.0", replace("pkg/one.py", "line 7\n", "line VII\n"))
    history.ready()
    return history


def work(history: History) -> Path:
    return history.path / ".patchset/rebase/foo"


def resolve(history: History, text: str = "line seven, VII\n") -> None:
    file = work(history) / "pkg/one.py"
    head, _, rest = file.read_text().partition("<<<<<<< ")
    tail = rest.partition(">>>>>>> ")[2].partition("\n")[2]
    file.write_text(head + text + tail)


def test_the_report_names_file_hunk_and_release(stopped: History, run: Run) -> None:
    report = stopped.rebase(run, "2.0", code=4)
    assert report["outcome"] == "conflict"
    assert [item["name"] for item in report["patches"]] == ["first"]
    assert report["remaining"] == ["third"]
    conflict = report["conflict"]
    (file,) = conflict["files"]
    assert (conflict["patch"], file["path"], file["kind"]) == ("second", "pkg/one.py", "contents")
    (hunk,) = file["hunks"]
    assert hunk["hunk"] == 1
    assert "-line 7\n+line VII" in hunk["upstream"][0]
    assert (conflict["after"], conflict["release"]) == ("1.5", "2.0")
    assert git(stopped.extern, "log", "-1", "--format=%s", conflict["commit"]) == "upstream 2.0.0"
    text = run("--root", stopped.path, "rebase", "foo", "2.0").out
    assert "hunk 1 (@@ -4,7 +4,7 @@)" in text
    assert "patchset rebase foo --continue" in text


def test_the_work_tree_is_plain_git_and_nothing_else_is_touched(stopped: History, run: Run) -> None:
    before = git(stopped.extern, "rev-parse", "HEAD")
    stopped.rebase(run, "2.0", code=4)
    assert git(work(stopped), "status", "--porcelain") == "UU pkg/one.py\nM  pkg/two.py"
    assert git(work(stopped), "log", "-2", "--format=%s") == "First\nupstream 2.0.0"
    assert "<<<<<<< " in (work(stopped) / "pkg/one.py").read_text()
    assert git(work(stopped), "fsck", "--connectivity-only", "--no-dangling") == ""
    assert git(stopped.extern, "rev-parse", "HEAD") == before
    assert git(stopped.extern, "status", "--porcelain") == ""
    assert not stopped.new.exists()
    assert run("--root", stopped.path, "lint").code == 0


def test_continue(stopped: History, run: Run) -> None:
    stopped.rebase(run, "2.0", code=4)
    resolve(stopped)
    report = stopped.rebase(run, "--continue")
    assert [(item["name"], item["outcome"], item["resolved"]) for item in report["patches"]] == [
        ("first", "unmodified", False),
        ("second", "modified", True),
        ("third", "unmodified", False),
    ]
    second = report["patches"][1]
    assert "-+line seven\n" in second["interdiff"] + "\n"
    assert "++line seven, VII" in second["interdiff"]
    assert "a conflict was resolved by hand" in (stopped.new / "CHANGELOG.md").read_text()
    assert not work(stopped).exists()
    assert git(stopped.extern, "worktree", "list").count("\n") == 0
    assert git(stopped.extern, "for-each-ref", "refs/patchset/rebase") == ""
    assert run("--root", stopped.path, "apply", "foo@2.0").code == 0
    assert "line seven, VII" in (stopped.extern / "pkg/one.py").read_text()


def test_continue_with_markers_left_is_refused(stopped: History, run: Run) -> None:
    stopped.rebase(run, "2.0", code=4)
    result = run("--root", stopped.path, "rebase", "foo", "--continue")
    assert result.code == 4
    assert "pkg/one.py:7: a conflict marker" in result.err
    assert work(stopped).is_dir()


def test_asking_again_keeps_what_was_edited(stopped: History, run: Run) -> None:
    stopped.rebase(run, "2.0", code=4)
    resolve(stopped)
    again = stopped.rebase(run, "2.0", code=4)
    assert again["conflict"]["patch"] == "second"
    assert "line seven, VII" in (work(stopped) / "pkg/one.py").read_text()
    result = run("--root", stopped.path, "rebase", "foo", "1.5")
    assert result.code == 2
    assert "is under way" in result.err


@pytest.mark.parametrize("inside", [".", "pkg"])
def test_it_goes_on_from_inside_the_work_tree(
    history: History, run: Run, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    history.patch("first", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.patch("second", replace("pkg/two.py", "two 7\n", "two seven\n"))
    history.release("2.0", replace("pkg/one.py", "line 7\n", "VII\n"), replace("pkg/two.py", "two 7\n", "VII\n"))
    history.ready()
    history.rebase(run, code=4)
    resolve(history)
    put("left/behind.txt", "of the first conflict\n")(work(history))
    git(work(history), "add", "-A")
    git(work(history), "checkout", "-q", "-b", "mine")
    folder = work(history).stat().st_ino
    monkeypatch.chdir(work(history) / inside)
    report = json.loads(run("rebase", "foo", "--continue", "--json").out)
    assert report["conflict"]["patch"] == "second"
    assert work(history).stat().st_ino == folder
    assert git(work(history), "status", "--porcelain") == "UU pkg/two.py"
    assert git(work(history), "log", "-1", "--format=%s") == "First"
    assert git(work(history), "log", "-1", "--format=%s", "mine") == "upstream 2.0.1"
    monkeypatch.chdir(work(history) / inside)
    (work(history) / "pkg/two.py").write_text("two seven, VII\n")
    assert run("rebase", "foo", "--continue").code == 0
    assert not work(history).exists()
    assert (history.new / "series").is_file()


def test_a_resolution_is_remembered(stopped: History, run: Run) -> None:
    stopped.rebase(run, "2.0", code=4)
    resolve(stopped)
    (work(stopped) / "pkg/beside.py").write_text("a file beside\n")
    first = stopped.rebase(run, "--continue")
    for path in stopped.new.iterdir():
        path.unlink()
    stopped.new.rmdir()
    again = stopped.rebase(run, "2.0")
    assert again["patched_tree"] == first["patched_tree"]
    assert "pkg/beside.py" in (stopped.new / "second.patch").read_text()


def test_a_resolution_outlives_abort_and_serves_another_release(stopped: History, run: Run) -> None:
    stopped.release("3.0", put("other.py", "more\n"))
    git(stopped.extern, "fetch", "-q", "--tags", "origin")
    stopped.rebase(run, "2.0", code=4)
    resolve(stopped)
    stopped.rebase(run, "--continue")
    report = stopped.rebase(run, "3.0")
    assert [item["outcome"] for item in report["patches"]] == ["unmodified", "modified", "unmodified"]


def test_skip_wants_a_reason_and_writes_it_down(stopped: History, run: Run) -> None:
    stopped.rebase(run, "2.0", code=4)
    assert run("--root", stopped.path, "rebase", "foo", "--skip", " ").code == 2
    report = stopped.rebase(run, "--skip", "2.0 has roman numbers")
    assert [item["outcome"] for item in report["patches"]] == ["unmodified", "skipped", "unmodified"]
    assert (stopped.new / "series").read_text() == "first.patch\nthird.patch\n"
    assert "second: dropped, skipped; 2.0 has roman numbers" in (stopped.new / "CHANGELOG.md").read_text()
    assert not (stopped.new / "second.patch").exists()


def test_abort_leaves_everything_as_it_was(stopped: History, run: Run) -> None:
    before = sorted(path.name for path in stopped.new.parent.iterdir())
    stopped.rebase(run, "2.0", code=4)
    assert run("--root", stopped.path, "rebase", "foo", "--abort").code == 0
    assert sorted(path.name for path in stopped.new.parent.iterdir()) == before
    assert not work(stopped).exists()
    assert not (stopped.extern / ".git/patchset/rebase").exists()
    assert run("--root", stopped.path, "rebase", "foo", "--abort").code == 2


def test_a_resolution_that_leaves_nothing(stopped: History, run: Run) -> None:
    stopped.rebase(run, "2.0", code=4)
    git(work(stopped), "checkout", "-q", "HEAD", "--", "pkg/one.py", "pkg/two.py")
    report = stopped.rebase(run, "--continue")
    assert [item["outcome"] for item in report["patches"]] == ["unmodified", "empty", "unmodified"]
    assert "second: dropped, empty" in (stopped.new / "CHANGELOG.md").read_text()


def test_a_lost_work_tree_is_laid_out_again(stopped: History, run: Run) -> None:
    stopped.rebase(run, "2.0", code=4)
    import shutil

    shutil.rmtree(work(stopped))
    stopped.rebase(run, "--continue", code=4)
    assert "<<<<<<< " in (work(stopped) / "pkg/one.py").read_text()


def test_what_has_no_markers_must_be_decided(history: History, run: Run) -> None:
    history.patch("change", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.release("2.0", remove("pkg/one.py"))
    history.ready()
    report = history.rebase(run, "2.0", code=4)
    assert report["conflict"]["files"][0]["kind"] == "modify/delete"
    result = run("--root", history.path, "rebase", "foo", "--continue")
    assert result.code == 4
    assert "pkg/one.py: not decided" in result.err
    git(work(history), "rm", "-q", "pkg/one.py")
    put("lib/elsewhere.py", "line seven\n")(work(history))
    (item,) = history.rebase(run, "--continue")["patches"]
    assert item["outcome"] == "modified"
    assert "lib/elsewhere.py" in (history.new / "change.patch").read_text()


def test_a_link_in_a_folders_place_can_be_resolved(history: History, run: Run) -> None:
    """Upstream moved a folder, rewrote its file, and left a link to the new folder behind."""

    def link(top: Path) -> None:
        (top / "pkg").rmdir()
        (top / "pkg").symlink_to("lib")

    history.patch("one", replace("pkg/one.py", "line 7\n", "line seven\n"))
    moved = both(move("pkg/two.py", "lib/two.py"), remove("pkg/link-target"))
    history.release("2.0", both(moved, remove("pkg/one.py"), put("lib/one.py", "all new\n"), link))
    history.ready()
    history.rebase(run, "2.0", code=4)
    git(work(history), "reset", "-q", "--hard")
    (work(history) / "lib/one.py").write_text("all new\nseven\n")
    git(work(history), "add", "lib/one.py")
    (report,) = history.rebase(run, "--continue")["patches"]
    assert report["resolved"]
    assert "+++ b/lib/one.py\n@@ -1 +1,2 @@\n all new\n+seven\n" in (history.new / "one.patch").read_text()


def test_upstreamed_with_changes_is_hinted(history: History, run: Run) -> None:
    added = "".join(f"new {n}\n" for n in range(8))
    history.patch("change", replace("pkg/one.py", "line 7\n", f"line 7\n{added}"))
    history.release("2.0", replace("pkg/one.py", "line 7\n", f"line 7\n{added.replace('new 3', 'NEW 3')}"))
    history.ready()
    assert history.rebase(run, "2.0", code=4)["conflict"]["files"][0]["landed"] == [7, 8]
    assert "7 of the 8 lines that it adds" in run("--root", history.path, "rebase", "foo", "2.0").out
