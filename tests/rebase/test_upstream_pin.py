"""upstream: where patches stand; pin: another base becomes the default, in one commit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..conftest import Run, git
from .conftest import History, put, replace


@pytest.fixture
def project(history: History, run: Run) -> History:
    """A project in git with `foo` as submodule, and bases 1.0 and 2.0."""
    history.patch("alpha", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.patch("beta", replace("pkg/two.py", "two 7\n", "two seven\n"))
    history.release("2.0", replace("pkg/one.py", "line 1\n", "one\n"))
    history.ready()
    history.rebase(run)
    git(history.path, "init", "-q")
    (history.path / ".gitignore").write_text(".patchset/\n")
    (history.path / ".gitmodules").write_text(
        f'[submodule "foo"]\n\tpath = extern/foo\n\turl = {history.upstream.path}\n'
    )
    (history.path / "README.md").write_text(
        "<!-- pinned: foo -->\n| foo | 1.0 |\nand 1.0.1, v1.0x\n<!-- /pinned -->\nMeasured on 1.0.\n"
    )
    git(history.path, "add", "-A")
    git(history.path, "commit", "-q", "-m", "project")
    return history


def upstream(history: History, run: Run, *args: object) -> dict[str, Any]:
    result = run("--root", history.path, "upstream", *args, "--json")
    assert result.code == 0, result.err
    report: dict[str, Any] = json.loads(result.out)
    return report


def test_states_and_what_can_go(project: History, run: Run) -> None:
    file = project.series / "alpha.patch"
    file.write_text(file.read_text().replace("Status: Pending", "Status: Backport [2.0, commit abc]"))
    file = project.new / "alpha.patch"
    file.write_text(file.read_text().replace("Status: Pending", "Status: Backport [2.0, commit abc]"))
    file = project.series / "beta.patch"
    file.write_text(
        file.read_text().replace("Status: Pending", "Status: Submitted [a link]").replace("[1.0, )", "[1.0, 3.0)")
    )
    patches = upstream(project, run, "--all")["patches"]
    statuses = {(item["base"], item["patch"]): (item["status"], item["forwarded"], item["can_go"]) for item in patches}
    assert statuses == {
        ("1.0", "alpha"): ("Backport", True, False),
        ("1.0", "beta"): ("Submitted", True, False),
        ("2.0", "alpha"): ("Backport", True, True),
        ("2.0", "beta"): ("Pending", False, False),
    }
    text = run("--root", project.path, "upstream", "--all").out
    assert "can go: upstream has it in 2.0" in text
    assert "4 patches: 3 forwarded to upstream, 1 can go" in text


def test_the_trend_is_read_from_history(project: History, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for day, status in (("2031-01-05", "Submitted [a link]"), ("2031-02-07", "Denied [too special]")):
        file = project.series / "alpha.patch"
        lines = file.read_text().split("\n")
        lines = [f"Upstream-Status: {status}" if line.startswith("Upstream-Status") else line for line in lines]
        file.write_text("\n".join(lines))
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{day}T12:00:00Z")
        git(project.path, "commit", "-q", "-a", "-m", status)
    points = upstream(project, run, "--trend")["trend"]
    assert [point["statuses"] for point in points] == [
        {"Pending": 2},
        {"Pending": 1, "Submitted": 1},
        {"Denied": 1, "Pending": 1},
    ]
    assert [point["day"] for point in points][1:] == ["2031-01-05", "2031-02-07"]
    assert "2031-02-07" in run("--root", project.path, "upstream", "--trend").out


def test_pin_moves_gitlink_default_and_docs_in_one_commit(project: History, run: Run) -> None:
    put("mine.txt", "staged\n")(project.path)
    git(project.path, "add", "mine.txt")
    head = git(project.path, "rev-parse", "HEAD")
    result = run("--root", project.path, "pin", "foo", "2.0", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert git(project.path, "rev-parse", "HEAD~1") == head
    assert git(project.path, "show", "--name-only", "--format=%s", "HEAD").split("\n") == [
        "Pin foo to 2.0",
        "",
        "README.md",
        "extern/foo",
        "patches/foo/component.toml",
    ]
    assert git(project.path, "ls-tree", "HEAD", "extern/foo").split()[2] == git(project.extern, "rev-parse", "2.0")
    text = (project.path / "README.md").read_text()
    assert text == "<!-- pinned: foo -->\n| foo | 2.0 |\nand 1.0.1, v1.0x\n<!-- /pinned -->\nMeasured on 1.0.\n"
    assert report["mentions"] == ["README.md:5"]
    # What was staged is still that, and not in the commit.
    assert git(project.path, "status", "--porcelain", "--ignore-submodules=all").split("\n") == ["A  mine.txt"]
    assert run("--root", project.path, "lint").code == 0
    assert "already" in run("--root", project.path, "pin", "foo", "2.0").out
    assert run("--root", project.path, "apply").code == 0
    assert git(project.extern, "symbolic-ref", "--short", "HEAD") == "patchset/2.0"


def test_pin_refuses_what_it_cannot_do_well(project: History, run: Run) -> None:
    assert run("--root", project.path, "pin", "foo", "3.0").code == 2
    (project.path / "README.md").write_text("<!-- pinned: foo -->1.0<!-- /pinned --> mine\n")
    result = run("--root", project.path, "pin", "foo", "2.0")
    assert result.code == 6
    assert "README.md" in result.err
    git(project.path, "checkout", "-q", "--", "README.md")
    toml = project.new / "base.toml"
    toml.write_text('[archive]\nproject = "foo"\nfile = "foo-2.0.tar.gz"\nsha256 = "' + "0" * 64 + '"\n')
    git(project.path, "commit", "-q", "-a", "-m", "no commit")
    for folder in (project.upstream.path, project.extern):
        git(folder, "tag", "-d", "2.0")
    result = run("--root", project.path, "pin", "foo", "2.0")
    assert result.code == 2
    assert "records no commit" in result.err
    assert str(project.upstream.path) in result.err
    assert 'pinned = "1.0"' in (project.path / "patches/foo/component.toml").read_text()


def test_pin_asks_the_remote_for_a_commit_that_is_not_recorded(project: History, run: Run) -> None:
    toml = project.new / "base.toml"
    commit = git(project.upstream.path, "rev-parse", "2.0^{commit}")
    toml.write_text("# Why.\n" + "".join(line for line in toml.open() if not line.startswith("commit")))
    git(project.path, "commit", "-q", "-a", "-m", "no commit")
    git(project.extern, "tag", "-d", "2.0")
    result = run("--root", project.path, "pin", "foo", "2.0", "--json")
    assert result.code == 0, result.err
    assert git(project.path, "ls-tree", "HEAD", "extern/foo").split()[2] == commit
    assert f'commit = "{commit}"' in git(project.path, "show", "HEAD:patches/foo/2.0/base.toml")
    assert "patches/foo/2.0/base.toml" in json.loads(result.out)["files"]
    assert "# Why." in toml.read_text()
    assert git(project.path, "status", "--porcelain", "--ignore-submodules=all") == ""
    assert run("--root", project.path, "lint").code == 0


def test_git_does_not_record_a_patched_submodule(project: History, run: Run) -> None:
    """`git add -A` and `git commit -a` took the patched commit, which nobody else has."""
    recorded = git(project.path, "ls-tree", "HEAD", "extern/foo")
    assert run("--root", project.path, "apply", "foo@1.0").code == 0
    put("mine.txt", "mine\n")(project.path)
    git(project.path, "add", "-A")
    git(project.path, "commit", "-q", "-a", "-m", "mine")
    assert git(project.path, "show", "--name-only", "--format=", "HEAD") == "mine.txt"
    assert git(project.path, "ls-tree", "HEAD", "extern/foo") == recorded
    assert run("--root", project.path, "pin", "foo", "2.0").code == 0
    assert run("--root", project.path, "apply").code == 0
    git(project.path, "commit", "-q", "-a", "--allow-empty", "-m", "more")
    assert git(project.path, "ls-tree", "HEAD", "extern/foo").split()[2] == git(project.extern, "rev-parse", "2.0")
    assert git(project.path, "ls-files", "-v", "extern/foo") == "S extern/foo"
    assert run("--root", project.path, "unapply").code == 0
    assert git(project.path, "ls-files", "-v", "extern/foo") == "H extern/foo"


def test_an_index_in_use_does_not_keep_a_series_from_being_applied(project: History, run: Run) -> None:
    (project.path / ".git/index.lock").touch()
    assert run("--root", project.path, "apply", "foo@1.0").code == 0
    assert git(project.path, "ls-files", "-v", "extern/foo") == "H extern/foo"
