"""Scripted histories, and the outcome that each must give; held against `git rebase` where that is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ..conftest import Run, git
from .conftest import LINES, Edit, History, both, move, put, remove, replace


def executable(name: str) -> Edit:
    return lambda top: (top / name).chmod(0o755)


def relink(name: str, target: str) -> Edit:
    def edit(top: Path) -> None:
        (top / name).unlink()
        (top / name).symlink_to(target)

    return edit


# Several alike, as classes of one file are; the patch is for the second of them.
CLASSES = "".join(
    f"class {name}:\n    def load(self):\n        check()\n        return True\n\n\n" for name in ("A", "B", "C", "D")
)


def into_class(name: str, line: str) -> Edit:
    def edit(top: Path) -> None:
        text = (top / "pkg/classes.py").read_text()
        head, body, tail = text.partition(f"class {name}:\n    def load(self):\n        check()\n")
        assert body
        (top / "pkg/classes.py").write_text(f"{head}{body}        {line}\n{tail}")

    return edit


@dataclass(frozen=True)
class Case:
    """`before` is in release 1.0 already; `rebase` is whether git rebase is right and must give the same tree."""

    patch: Edit
    upstream: Edit
    outcome: str
    before: Edit | None = None
    rebase: bool = True


seven = replace("pkg/one.py", "line 7\n", "line seven\n")
CASES = {
    "nothing near": Case(seven, put("README", "another\n"), "unmodified"),
    "the same file elsewhere": Case(seven, replace("pkg/one.py", "line 1\n", "one\nmore\n"), "unmodified"),
    "the surroundings": Case(seven, replace("pkg/one.py", "line 5\n", "line five\n"), "modified"),
    "rename": Case(seven, move("pkg/one.py", "lib/uno.py"), "moved"),
    "rename and edit": Case(
        seven, both(replace("pkg/one.py", "line 30\n", "thirty\n"), move("pkg/one.py", "lib/uno.py")), "moved"
    ),
    "rename and a new file in its place": Case(
        seven, both(move("pkg/one.py", "lib/uno.py"), put("pkg/one.py", "from lib.uno import *\n")), "conflict"
    ),
    "deleted": Case(seven, remove("pkg/one.py"), "conflict"),
    "hunk duplicated nearby": Case(
        into_class("B", "extra()"),
        lambda top: (top / "pkg/classes.py").write_text(
            CLASSES.replace("class A:", "class New:\n    pass\n\n\nclass A:")
        ),
        "unmodified",
        before=put("pkg/classes.py", CLASSES),
    ),
    "a class like it before it": Case(
        into_class("B", "extra()"),
        lambda top: (top / "pkg/classes.py").write_text(
            CLASSES.replace(
                "class A:", "class Z:\n    def load(self):\n        check()\n        return True\n\n\nclass A:"
            )
        ),
        "unmodified",
        before=put("pkg/classes.py", CLASSES),
    ),
    "upstreamed verbatim": Case(seven, seven, "upstreamed"),
    "upstreamed and renamed": Case(seven, both(seven, move("pkg/one.py", "lib/uno.py")), "upstreamed"),
    "upstreamed, and more around": Case(
        seven, both(seven, replace("pkg/one.py", "line 20\n", "twenty\n")), "upstreamed"
    ),
    "upstreamed with changes": Case(seven, replace("pkg/one.py", "line 7\n", "line Seven\n"), "conflict"),
    "partly upstreamed": Case(both(seven, replace("pkg/one.py", "line 30\n", "thirty\n")), seven, "partly upstreamed"),
    "one file of two upstreamed": Case(
        both(seven, replace("pkg/two.py", "two 7\n", "seven\n")), seven, "partly upstreamed"
    ),
    "mode change": Case(executable("tool.sh"), put("tool.sh", "#!/bin/sh\nexit 1\n"), "unmodified"),
    "mode change upstreamed": Case(executable("tool.sh"), executable("tool.sh"), "upstreamed"),
    "mode and content": Case(
        both(executable("tool.sh"), replace("tool.sh", "exit 0", "exit 3")), executable("tool.sh"), "partly upstreamed"
    ),
    "symbolic link": Case(relink("link", "pkg/two.py"), put("README", "x\n"), "unmodified"),
    "symbolic link on both sides": Case(relink("link", "pkg/two.py"), relink("link", "pkg/one.py"), "conflict"),
    "symbolic link becomes a folder": Case(
        relink("link", "pkg/two.py"), both(remove("link"), put("link/file", "x\n")), "conflict"
    ),
    "binary": Case(put("blob.bin", b"\0mine"), put("README", "x\n"), "unmodified"),
    "binary on both sides": Case(put("blob.bin", b"\0mine"), put("blob.bin", b"\0theirs"), "conflict"),
    "binary upstreamed": Case(put("blob.bin", b"\0mine"), put("blob.bin", b"\0mine"), "upstreamed"),
    "new file": Case(put("new.py", LINES), put("README", "x\n"), "unmodified"),
    "new file on both sides, alike": Case(put("new.py", LINES), put("new.py", LINES), "upstreamed"),
    "new file on both sides": Case(put("new.py", LINES), put("new.py", "other\n"), "conflict"),
    "a patch that renames": Case(
        move("pkg/one.py", "pkg/uno.py"), replace("pkg/one.py", "line 9\n", "nine\n"), "unmodified"
    ),
    "a patch that renames, upstreamed": Case(
        move("pkg/one.py", "pkg/uno.py"), move("pkg/one.py", "pkg/uno.py"), "upstreamed"
    ),
    "a patch that deletes": Case(remove("pkg/one.py"), put("README", "x\n"), "unmodified"),
    "a patch that deletes what changed": Case(
        remove("pkg/one.py"), replace("pkg/one.py", "line 9\n", "nine\n"), "conflict"
    ),
    "new file in a renamed folder": Case(
        put("pkg/new.py", LINES.replace("line", "new")),
        both(move("pkg/one.py", "lib/one.py"), move("pkg/two.py", "lib/two.py"), move("pkg/link-target", "lib/target")),
        "conflict",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_outcome_is_right(history: History, run: Run, name: str) -> None:
    case = CASES[name]
    if case.before is not None:
        git(history.upstream.path, "checkout", "-q", "main")
        case.before(history.upstream.path)
        history.upstream.commit_all("before")
        git(history.upstream.path, "tag", "-f", "1.0")
        git(history.upstream.path, "branch", "-f", "series")
    history.patch("change", case.patch)
    history.release("2.0", case.upstream)
    history.ready()
    theirs = history.git_rebase()
    if case.outcome == "conflict":
        report = history.rebase(run, "2.0", code=4)
        assert report["conflict"]["patch"] == "change"
        assert not history.new.exists()
        assert theirs is None
        return
    report = history.rebase(run)
    assert [item["outcome"] for item in report["patches"]] == [case.outcome]
    assert report["patched_tree"] == theirs
    if case.outcome == "upstreamed":
        assert report["patched_tree"] == history.tree("2.0")
        assert (history.new / "series").read_text().strip() == ""
        assert "change: dropped, upstreamed; first in 2.0" in (history.new / "CHANGELOG.md").read_text()
    # What is written gives that tree again, for us and for git am.
    result = run("--root", history.path, "apply", "foo@2.0", "--json")
    assert result.code == 0, result.err
    assert git(history.extern, "rev-parse", "HEAD^{tree}") == theirs


def test_the_wrong_class_that_git_apply_takes(history: History, run: Run) -> None:
    """Upstream puts a class alike above: at the line that the patch names stands another class, and the text fits."""
    git(history.upstream.path, "checkout", "-q", "main")
    put("pkg/classes.py", CLASSES)(history.upstream.path)
    history.upstream.commit_all("before")
    git(history.upstream.path, "tag", "-f", "1.0")
    git(history.upstream.path, "branch", "-f", "series")
    history.patch("change", into_class("B", "extra()"), context=1)
    history.release(
        "2.0", put("pkg/classes.py", CLASSES.partition("class B")[0].replace("class A", "class Z") + CLASSES)
    )
    history.ready()

    def owner(text: str) -> str:
        return next(part[0] for part in text.split("class ") if "extra()" in part)

    work = history.folder / "apply"
    git(history.folder, "clone", "-q", str(history.upstream.path), str(work))
    git(work, "checkout", "-q", "--detach", "2.0")
    git(work, "apply", str(history.series / "change.patch"))
    assert owner((work / "pkg/classes.py").read_text()) == "A"

    report = history.rebase(run)
    assert run("--root", history.path, "apply", "foo@2.0").code == 0
    assert owner((history.extern / "pkg/classes.py").read_text()) == "B"
    assert report["patched_tree"] == history.git_rebase()


def test_a_series_in_order_and_its_files(history: History, run: Run) -> None:
    history.patch("first", seven, context=1)
    history.patch("landed", replace("pkg/two.py", "two 9\n", "nine\n"))
    history.patch("second", put("new.py", "new\n"))
    history.patch("third", replace("pkg/one.py", "line seven\n", "line seven!\n"), context=2)
    with (history.series / "series").open("a") as stream:
        stream.write("# a remark\n")
    history.release(
        "2.0", replace("pkg/two.py", "two 9\n", "nine\n"), replace("pkg/one.py", "line 1\n", "line 0\nline 1\n")
    )
    history.ready()
    before = history.git_rebase()
    head = git(history.extern, "rev-parse", "HEAD")
    report = history.rebase(run)
    assert [(item["name"], item["outcome"]) for item in report["patches"]] == [
        ("first", "unmodified"),
        ("landed", "upstreamed"),
        ("second", "unmodified"),
        ("third", "unmodified"),
    ]
    assert report["patched_tree"] == before
    assert (history.new / "series").read_text() == "first.patch\nsecond.patch\nthird.patch\n# a remark\n"
    # A patch whose files are the same keeps its bytes; one that moved keeps header and width of context.
    assert (history.new / "second.patch").read_bytes() == (history.series / "second.patch").read_bytes()
    old, new = (folder / "first.patch" for folder in (history.series, history.new))
    changed = [
        (a, b) for a, b in zip(old.read_text().splitlines(), new.read_text().splitlines(), strict=True) if a != b
    ]
    assert [a.split()[0] for a, _ in changed] == ["index", "@@"]
    # Nothing else was touched.
    assert git(history.extern, "rev-parse", "HEAD") == head
    assert git(history.extern, "status", "--porcelain") == ""
    assert sorted(path.name for path in history.new.parent.iterdir()) == ["1.0", "2.0", "component.toml"]
    assert run("--root", history.path, "apply", "foo@2.0").code == 0


def test_applies_to_is_widened_and_told(history: History, run: Run) -> None:
    history.patch("change", seven)
    file = history.series / "change.patch"
    file.write_text(file.read_text().replace("[1.0, )", "[1.0, 1.1)"))
    history.release("2.0", put("README", "x\n"))
    history.ready()
    (item,) = history.rebase(run)["patches"]
    assert item["applies_to"] == "[1.0, 2.1.0)"
    assert "Applies-To: [1.0, 2.1.0)\n" in (history.new / "change.patch").read_text()
    assert "Applies-To is [1.0, 2.1.0) now" in (history.new / "CHANGELOG.md").read_text()
    assert "[1.0, 1.1)" in file.read_text()


def test_back_to_an_older_release(history: History, run: Run) -> None:
    history.patch("change", seven)
    history.release("0.9", replace("pkg/one.py", "line 30\n", "thirty\n"))
    history.ready()
    report = history.rebase(run, "0.9")
    assert report["patches"][0]["applies_to"] == "[0.9, )"
    assert run("--root", history.path, "apply", "foo@0.9").code == 0


def test_same_input_same_bytes(history: History, run: Run) -> None:
    history.patch("change", seven)
    history.release("2.0", move("pkg/one.py", "lib/uno.py"))
    history.ready()
    first = history.rebase(run)
    files = {path.name: path.read_bytes() for path in history.new.iterdir()}
    for path in history.new.iterdir():
        path.unlink()
    history.new.rmdir()
    assert history.rebase(run) == first
    assert {path.name: path.read_bytes() for path in history.new.iterdir()} == files


def test_the_users_git_settings_decide_nothing(history: History, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    history.patch("change", both(seven, replace("pkg/two.py", "two 7\n", "seven\n")))
    history.release("2.0", both(move("pkg/one.py", "lib/uno.py"), replace("pkg/two.py", "two 1\n", "one\n")))
    history.ready()
    settings = {
        "merge.renames": "false",
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.context": "9",
        "diff.algorithm": "patience",
        "diff.suppressBlankEmpty": "true",
        "merge.conflictStyle": "merge",
        "diff.renames": "false",
    }
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    report = history.rebase(run)
    assert report["patches"][0]["outcome"] == "moved"
    assert report["patches"][0]["moved"] == {"pkg/one.py": "lib/uno.py"}
    text = (history.new / "change.patch").read_text()
    assert "--- a/lib/uno.py\n+++ b/lib/uno.py\n" in text


def test_a_base_that_is_there_is_not_made_again(history: History, run: Run) -> None:
    history.patch("change", seven)
    history.release("2.0", put("README", "x\n"))
    history.ready()
    history.rebase(run)
    result = run("--root", history.path, "rebase", "foo", "2.0")
    assert result.code == 2
    assert "has a series for 2.0 already" in result.err
    assert run("--root", history.path, "rebase", "foo", "7.0").code == 2
    assert run("--root", history.path, "rebase", "foo").code == 2
    assert "no rebase of foo is under way" in run("--root", history.path, "rebase", "foo", "--continue").err


GREW = "".join(f"line {n}\n" if n < 13 else f"another {n}\n" for n in range(1, 41))


@pytest.fixture
def gradual(history: History) -> History:
    """A file moves in 1.5, and has become another one by 2.0: in one merge, nobody knows it again."""
    history.patch("change", seven)
    history.release("1.5", move("pkg/one.py", "lib/uno.py"))
    history.release("2.0", put("lib/uno.py", GREW))
    history.ready()
    return history


def test_a_file_that_moves_and_changes_is_followed_along_a_release(gradual: History, run: Run) -> None:
    assert gradual.git_rebase() is None
    (item,) = gradual.rebase(run)["patches"]
    assert (item["outcome"], item["moved"], item["intermediate_releases"]) == (
        "moved",
        {"pkg/one.py": "lib/uno.py"},
        ["1.5"],
    )
    assert run("--root", gradual.path, "apply", "foo@2.0").code == 0
    assert (gradual.extern / "lib/uno.py").read_text() == GREW.replace("line 7\n", "line seven\n")
    assert "merged along the intermediate releases 1.5" in (gradual.new / "CHANGELOG.md").read_text()


def test_what_landed_and_was_changed_since_is_proved_at_its_release(history: History, run: Run) -> None:
    history.patch("change", seven)
    history.release("1.5", seven)
    history.release("2.0", replace("pkg/one.py", "line seven\n", "line VII\n"))
    history.ready()
    assert history.git_rebase() is None
    (item,) = history.rebase(run)["patches"]
    assert (item["outcome"], item["release"]) == ("upstreamed", "1.5")
    assert "change: dropped, upstreamed; first in 1.5" in (history.new / "CHANGELOG.md").read_text()


def test_a_conflict_along_a_release_is_in_the_moved_file(history: History, run: Run) -> None:
    history.patch("change", seven)
    history.release("1.5", move("pkg/one.py", "lib/uno.py"))
    history.release("2.0", put("lib/uno.py", GREW.replace("line 7\n", "line VII\n")))
    history.ready()
    report = history.rebase(run, "2.0", code=4)
    (file,) = report["conflict"]["files"]
    assert (file["path"], file["kind"], file["hunks"][0]["hunk"]) == ("lib/uno.py", "contents", 1)
    assert (report["conflict"]["after"], report["conflict"]["release"]) == ("1.5", "2.0")
    work = history.path / ".patchset/rebase/foo/lib/uno.py"
    assert "<<<<<<< " in work.read_text()
    work.write_text(GREW.replace("line 7\n", "line seven, VII\n"))
    (item,) = history.rebase(run, "--continue")["patches"]
    assert item["resolved"]
    assert run("--root", history.path, "apply", "foo@2.0").code == 0


def test_a_quilt_series_that_records_no_base(history: History, run: Run) -> None:
    history.patch("change", seven)
    history.patch("second", replace("pkg/two.py", "two 9\n", "nine\n"))
    history.release("2.0", move("pkg/one.py", "lib/uno.py"))
    history.ready()
    (history.series / "base.toml").unlink()
    for name in ("change", "second"):
        file = history.series / f"{name}.patch"
        lines = file.read_text().split("\n")
        file.write_text("\n".join(line for line in lines if not line.startswith(("index ", "diff --git "))))
    report = history.rebase(run)
    assert [item["outcome"] for item in report["patches"]] == ["moved", "unmodified"]
    assert report["patched_tree"] == history.git_rebase()
    assert (history.new / "second.patch").read_bytes() == (history.series / "second.patch").read_bytes()
    # Nothing says that the commit in extern/ is upstream's and not the user's own.
    git(history.extern, "checkout", "-q", "--detach", "2.0")
    assert run("--root", history.path, "apply", "foo@2.0").code == 0
