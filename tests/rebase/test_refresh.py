"""refresh, new, edit and drop: what was committed in extern/ with plain git becomes the series."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from ..conftest import TRAILERS, Run, git
from .conftest import LINES, History, both, put, replace


@pytest.fixture
def applied(history: History, run: Run) -> History:
    """Three patches, written with one, two and three lines of context, applied to extern/."""
    history.patch("alpha", replace("pkg/one.py", "line 7\n", "line seven\n"), "The first change", context=1)
    history.patch("beta", replace("pkg/two.py", "two 7\n", "two seven\n"), "The second change", context=2)
    history.patch("gamma", replace("pkg/one.py", "line 20\n", "line twenty\n"), "The third change")
    history.ready()
    assert run("--root", history.path, "apply").code == 0
    return history


def files(history: History) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in history.series.iterdir()}


def refresh(history: History, run: Run, *args: object, code: int = 0) -> dict[str, Any]:
    result = run("--root", history.path, "refresh", *args, "--json")
    assert result.code == code, result.out + result.err
    answer = json.loads(result.out)
    return answer[0] if code == 0 else answer


def whats(report: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["what"] for item in report["patches"]}


def consistent(history: History, run: Run) -> None:
    """The series gives extern/'s tree, for us and for git am, and there is nothing left to do."""
    assert json.loads(run("--root", history.path, "status", "--json").out)[0]["would"] == "do nothing"
    assert git(history.extern, "status", "--porcelain") == ""
    assert run("--root", history.path, "lint").code == 0
    before = files(history)
    assert refresh(history, run)["changed"] is False
    assert files(history) == before
    work = history.folder / "am"
    subprocess.run(["rm", "-rf", str(work)], check=True)
    git(history.folder, "clone", "-q", str(history.upstream.path), str(work))
    git(work, "checkout", "-q", "--detach", "1.0")
    names = (history.series / "series").read_text().split()
    git(work, "am", "-q", *(str(history.series / name) for name in names))
    assert git(work, "rev-parse", "HEAD^{tree}") == git(history.extern, "rev-parse", "HEAD^{tree}")


def rebase_i(history: History, script: str) -> None:
    """Run `git rebase -i` with a sed script for its todo list, as a user's editor would."""
    command = ["git", "-c", f"sequence.editor=sed -i -e '{script}'", "rebase", "-q", "-i", "1.0"]
    done = subprocess.run(command, cwd=history.extern, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_to_do(applied: History, run: Run) -> None:
    before = files(applied)
    times = {path.name: path.stat().st_mtime_ns for path in applied.series.iterdir()}
    head = git(applied.extern, "rev-parse", "HEAD")
    report = refresh(applied, run)
    assert report["changed"] is False
    assert whats(report) == {"alpha": "unchanged", "beta": "unchanged", "gamma": "unchanged"}
    assert files(applied) == before
    assert {path.name: path.stat().st_mtime_ns for path in applied.series.iterdir()} == times
    assert git(applied.extern, "rev-parse", "HEAD") == head


def test_amend(applied: History, run: Run) -> None:
    before = files(applied)
    replace("pkg/one.py", "line twenty\n", "line TWENTY\n")(applied.extern)
    git(applied.extern, "commit", "-q", "-a", "--amend", "--no-edit")
    assert whats(refresh(applied, run)) == {"alpha": "unchanged", "beta": "unchanged", "gamma": "changed"}
    after = files(applied)
    assert {name for name in after if after[name] != before[name]} == {"gamma.patch", "base.toml"}
    assert b"+line TWENTY\n" in after["gamma.patch"]
    assert after["gamma.patch"].partition(b"diff --git")[0] == before["gamma.patch"].partition(b"diff --git")[0]
    consistent(applied, run)


def test_an_earlier_commit_edited(applied: History, run: Run) -> None:
    """All commits above get other ids; the patches that say the same keep their bytes."""
    before = files(applied)
    put("pkg/two.py", (applied.extern / "pkg/two.py").read_text().replace("two seven", "two SEVEN"))(applied.extern)
    git(applied.extern, "commit", "-q", "-a", "--fixup=HEAD~1")
    env = "GIT_SEQUENCE_EDITOR=true"
    subprocess.run(
        ["env", env, "git", "rebase", "-q", "-i", "--autosquash", "1.0"],
        cwd=applied.extern,
        check=True,
        capture_output=True,
    )
    assert whats(refresh(applied, run)) == {"alpha": "unchanged", "beta": "changed", "gamma": "unchanged"}
    after = files(applied)
    assert {name for name in after if after[name] != before[name]} == {"beta.patch", "base.toml"}
    assert b"@@ -5,5 +5,5 @@" in after["beta.patch"]
    consistent(applied, run)


def test_a_fixup_left_as_it_is(applied: History, run: Run) -> None:
    replace("pkg/one.py", "line seven\n", "line 7, seven\n")(applied.extern)
    git(applied.extern, "commit", "-q", "-a", "--fixup=HEAD~2")
    report = refresh(applied, run)
    assert whats(report) == {"alpha": "changed", "beta": "unchanged", "gamma": "changed"}
    assert git(applied.extern, "log", "--format=%s", "1.0..HEAD").splitlines() == [
        "The third change",
        "The second change",
        "The first change",
    ]
    consistent(applied, run)


def test_reorder(applied: History, run: Run) -> None:
    before = files(applied)
    rebase_i(applied, "1{h;d};2{G}")
    refresh(applied, run)
    assert (applied.series / "series").read_text().split() == ["beta.patch", "alpha.patch", "gamma.patch"]
    after = files(applied)
    assert {name for name in after if after[name] != before[name]} == {"series"}
    consistent(applied, run)


def test_reword(applied: History, run: Run) -> None:
    before = files(applied)
    git(applied.extern, "commit", "-q", "--amend", "-m", f"Another subject\n\nNew words.\n\n{TRAILERS}")
    assert whats(refresh(applied, run))["gamma"] == "message changed"
    after = files(applied)
    assert {name for name in after if after[name] != before[name]} == {"gamma.patch"}
    assert b"Subject: Another subject\n\nNew words.\n\nUpstream-Status: Pending\n" in after["gamma.patch"]
    consistent(applied, run)


def test_add(applied: History, run: Run) -> None:
    before = files(applied)
    put("größe.py", "new\n")(applied.extern)
    git(applied.extern, "add", "-A")
    message = f"A new file: größe.py\n\nBecause of its size.\n\n{TRAILERS}"
    git(applied.extern, "commit", "-q", "-m", message)
    assert whats(refresh(applied, run))["a-new-file-gr-e-py"] == "new"
    after = files(applied)
    assert {name for name in after if after.get(name) != before.get(name)} == {
        "a-new-file-gr-e-py.patch",
        "series",
        "base.toml",
    }
    consistent(applied, run)
    assert git(applied.extern, "log", "-1", "--format=%B").strip() == message.strip()


def test_a_prompt_gives_a_new_patch_its_trailers(applied: History, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(applied)
    put("new.py", "new\n")(applied.extern)
    git(applied.extern, "add", "-A")
    git(applied.extern, "commit", "-q", "-m", "A new file")
    head = git(applied.extern, "rev-parse", "HEAD")
    error = refresh(applied, run, code=3)
    assert [line.split(": ")[-1] for line in error["details"]] == [
        "has no Upstream-Status trailer",
        "has no Applies-To trailer",
        "has no Test trailer",
    ]
    assert files(applied) == before
    assert git(applied.extern, "rev-parse", "HEAD") == head
    from patchset.cli import refresh as cli

    answers = {"Upstream-Status": "Pending", "Applies-To": "[1.0, )", "Test": "tests/test_it.py::test_it"}
    monkeypatch.setattr(cli, "_prompt", lambda as_json: lambda patch, key: answers[key])
    assert run("--root", applied.path, "refresh").code == 0
    text = (applied.series / "a-new-file.patch").read_text()
    assert "Subject: A new file\n\nUpstream-Status: Pending\nApplies-To: [1.0, )\nTest: tests" in text
    consistent(applied, run)


def test_a_commit_that_is_gone_wants_a_reason(applied: History, run: Run) -> None:
    before = files(applied)
    rebase_i(applied, "2d")
    error = refresh(applied, run, code=3)
    assert "no commit is there any more for beta" in error["message"]
    assert files(applied) == before
    assert whats(refresh(applied, run, "--drop", "not needed"))["beta"] == "dropped"
    assert "beta: dropped: not needed" in (applied.series / "CHANGELOG.md").read_text()
    assert not (applied.series / "beta.patch").exists()
    consistent(applied, run)


def test_uncommitted_work_stays_and_is_named(applied: History, run: Run) -> None:
    put("README", "mine\n")(applied.extern)
    replace("pkg/one.py", "line twenty\n", "line TWENTY\n")(applied.extern)
    git(applied.extern, "commit", "-q", "--amend", "--no-edit", "pkg/one.py")
    report = refresh(applied, run)
    assert report["left"] == ["README"]
    assert (applied.extern / "README").read_text() == "mine\n"
    assert b"mine" not in files(applied)["gamma.patch"]


def test_a_merge_is_refused(applied: History, run: Run) -> None:
    before = files(applied)
    git(applied.extern, "checkout", "-q", "-b", "side", "HEAD~1")
    put("side.py", "x\n")(applied.extern)
    git(applied.extern, "add", "-A")
    git(applied.extern, "commit", "-q", "-m", "Side")
    git(applied.extern, "merge", "-q", "--no-edit", "patchset/1.0")
    assert "is a merge" in refresh(applied, run, code=3)["message"]
    assert files(applied) == before


def test_a_patch_edited_by_hand_is_not_overwritten(applied: History, run: Run) -> None:
    file = applied.series / "beta.patch"
    file.write_text(file.read_text().replace("+two seven", "+two Seven"))
    # Its text does not give the blob that it names any more, which is what an edit by hand shows by.
    assert refresh(applied, run, code=5)["error"] == "integrity"
    assert "+two Seven" in file.read_text()


def test_export_apply_export_is_a_fixed_point(applied: History, run: Run) -> None:
    """Patches that are written again from commits give the same commits, and those the same patches."""
    put("ä b.txt", "x")(applied.extern)
    (applied.extern / "tool.sh").chmod(0o755)
    (applied.extern / "link").unlink()
    (applied.extern / "link").symlink_to("README")
    put("blob.bin", bytes(range(255, -1, -1)) * 3)(applied.extern)
    git(applied.extern, "mv", "pkg/two.py", "pkg/deux.py")
    git(applied.extern, "add", "-A")
    long = "A subject that is longer than what a mail's line holds, and goes on and on with ümlauts in it"
    git(applied.extern, "commit", "-q", "-m", f"{long}\n\nBody.\n\n  indented\n\n{TRAILERS}")
    refresh(applied, run)
    first, head = files(applied), git(applied.extern, "rev-parse", "HEAD")
    consistent(applied, run)
    run("--root", applied.path, "unapply")
    subprocess.run(["rm", "-rf", str(applied.extern / ".git/patchset/made")], check=True)
    assert run("--root", applied.path, "apply").code == 0
    assert git(applied.extern, "rev-parse", "HEAD") == head
    refresh(applied, run)
    assert files(applied) == first


def test_new(applied: History, run: Run) -> None:
    put("new.py", "new\n")(applied.extern)
    trailers = [part for line in TRAILERS.splitlines() for part in ("--trailer", line)]
    args = ("new", "delta", "foo", "-m", "A new file\n\nBecause.", *trailers)
    assert run("--root", applied.path, "new", "beta", "foo", "-m", "x").code == 2
    assert run("--root", applied.path, "new", "delta", "foo", "-m", "x").code == 3
    assert git(applied.extern, "status", "--porcelain") == "?? new.py"
    assert run("--root", applied.path, *args).code == 0
    assert (applied.series / "series").read_text().split()[-1] == "delta.patch"
    assert "Because.\n\nUpstream-Status: Pending\n" in (applied.series / "delta.patch").read_text()
    consistent(applied, run)
    assert run("--root", applied.path, *args[:1], "epsilon", *args[2:]).code == 6


def test_new_takes_just_what_is_staged(applied: History, run: Run) -> None:
    put("new.py", "new\n")(applied.extern)
    put("README", "mine\n")(applied.extern)
    git(applied.extern, "add", "new.py")
    trailers = [part for line in TRAILERS.splitlines() for part in ("--trailer", line)]
    assert run("--root", applied.path, "new", "delta", "foo", "-m", "A new file", *trailers).code == 0
    assert git(applied.extern, "status", "--porcelain") == "M README"


def test_the_first_patch_of_a_series_is_applied_when_it_is_written(history: History, run: Run) -> None:
    history.ready()
    assert run("--root", history.path, "apply").code == 0
    put("new.py", "new\n")(history.extern)
    trailers = [part for line in TRAILERS.splitlines() for part in ("--trailer", line)]
    assert run("--root", history.path, "new", "alpha", "foo", "-m", "A new file", *trailers).code == 0
    consistent(history, run)


def test_edit_folds_work_into_a_patch(applied: History, run: Run) -> None:
    before = files(applied)
    replace("pkg/two.py", "two seven\n", "two SEVEN\n")(applied.extern)
    assert run("--root", applied.path, "edit", "beta").code == 0
    after = files(applied)
    assert {name for name in after if after[name] != before[name]} == {"beta.patch", "base.toml"}
    consistent(applied, run)
    result = run("--root", applied.path, "edit", "beta")
    assert result.code == 6
    assert "nothing was changed" in result.err


def test_edit_that_does_not_fit_changes_nothing(applied: History, run: Run) -> None:
    before = files(applied)
    replace("pkg/one.py", "line twenty\n", "line TWENTY\n")(applied.extern)
    head = git(applied.extern, "rev-parse", "HEAD")
    result = run("--root", applied.path, "edit", "alpha")
    assert result.code == 4, result.out
    assert "does not fit into alpha" in result.err
    assert files(applied) == before
    assert git(applied.extern, "rev-parse", "HEAD") == head
    assert git(applied.extern, "status", "--porcelain") == "M pkg/one.py"


def test_edit_of_a_trailer(applied: History, run: Run) -> None:
    status = "Upstream-Status: Submitted [https://example.invalid/1]"
    assert run("--root", applied.path, "edit", "alpha", "--trailer", status).code == 0
    assert f"\n{status}\nApplies-To: " in (applied.series / "alpha.patch").read_text()
    consistent(applied, run)
    assert run("--root", applied.path, "edit", "alpha", "--trailer", "Upstream-Status: Nonsense").code == 3
    consistent(applied, run)


def test_edit_keeps_an_author_that_git_breaks_into_lines(applied: History, run: Run) -> None:
    file = applied.series / "alpha.patch"
    author = "From: A name as long as\n  some are <somebody@a.rather.long.host.invalid>\n"
    file.write_text(re.sub(r"^From: .*\n", author, file.read_text(), count=1, flags=re.MULTILINE))
    assert run("--root", applied.path, "apply").code == 0
    assert run("--root", applied.path, "edit", "alpha", "--trailer", "Upstream-Status: Pending [later]").code == 0
    assert author in file.read_text()
    consistent(applied, run)
    author = git(applied.extern, "log", "-1", "--format=%an <%ae>", "HEAD~2")
    assert author == "A name as long as some are <somebody@a.rather.long.host.invalid>"


def test_drop(applied: History, run: Run) -> None:
    before = files(applied)
    assert run("--root", applied.path, "drop", "alpha").code == 2
    assert run("--root", applied.path, "drop", "alpha", "--reason", "not needed").code == 0
    after = files(applied)
    assert (applied.series / "series").read_text().split() == ["beta.patch", "gamma.patch"]
    assert after["beta.patch"] == before["beta.patch"]
    assert after["gamma.patch"] != before["gamma.patch"]
    assert "- alpha: dropped: not needed\n" in (applied.series / "CHANGELOG.md").read_text()
    assert "line 7\n" in (applied.extern / "pkg/one.py").read_text()
    consistent(applied, run)
    run("--root", applied.path, "drop", "beta", "--reason", "neither")
    assert (applied.series / "CHANGELOG.md").read_text().count("## Changed") == 1


def test_drop_of_what_a_later_patch_needs(history: History, run: Run) -> None:
    history.patch("alpha", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.patch("beta", replace("pkg/one.py", "line seven\n", "line SEVEN\n"))
    history.ready()
    run("--root", history.path, "apply")
    before = files(history)
    result = run("--root", history.path, "drop", "alpha", "--reason", "x")
    assert result.code == 4
    assert "beta needs alpha" in result.err
    assert files(history) == before


def test_drop_with_the_users_work_in_the_way(applied: History, run: Run) -> None:
    before = files(applied)
    put("pkg/one.py", LINES)(applied.extern)
    assert run("--root", applied.path, "drop", "alpha", "--reason", "x").code == 6
    git(applied.extern, "checkout", "-q", "--", ".")
    both(put("extra.py", "x\n"))(applied.extern)
    git(applied.extern, "add", "-A")
    git(applied.extern, "commit", "-q", "-m", "Extra")
    assert run("--root", applied.path, "drop", "alpha", "--reason", "x").code == 6
    assert files(applied) == before


def test_refresh_of_what_is_not_applied(history: History, run: Run) -> None:
    history.patch("alpha", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.ready()
    error = refresh(history, run, "--drop", "would lose all of it", code=6)
    assert "is not applied" in error["message"]
    assert (history.series / "alpha.patch").is_file()
    run("--root", history.path, "apply")
    run("--root", history.path, "unapply")
    refresh(history, run, "--drop", "would lose all of it", code=6)


def test_a_message_that_the_editor_leaves_as_it_is_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was called empty."""
    from patchset.cli.refresh import _edited
    from toolkit.errors import UsageError

    monkeypatch.setenv("VISUAL", "true")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert _edited("Subject\n\nWhy.\n") == "Subject\n\nWhy."
    with pytest.raises(UsageError, match="empty"):
        _edited("\n\n# Why does this patch exist?\n")
