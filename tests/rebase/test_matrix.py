"""matrix and bisect: every patch against every release, and the release that broke it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Run, git
from .conftest import History, both, move, put, replace


@pytest.fixture
def releases(history: History) -> History:
    """Two patches; 1.1 changes something near, 1.2 has the first, 2.0 breaks the second, 0.9 is older."""
    history.patch("first", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.patch("second", replace("pkg/two.py", "two 7\n", "two seven\n"))
    history.patch("third", put("new.py", "new\n"))
    git(history.upstream.path, "checkout", "-q", "main")
    history.release("1.1", replace("pkg/one.py", "line 1\n", "line one\n"))
    history.release("1.2", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.release(
        "2.0",
        put("a.txt", "a\n"),
        replace("pkg/two.py", "two 7\n", "two VII\n"),
        put("b.txt", "b\n"),
        put("c.txt", "c\n"),
    )
    history.release("2.1", move("pkg/one.py", "pkg/uno.py"))
    history.release("3.0rc1", put("d.txt", "d\n"))
    git(history.upstream.path, "tag", "unrelated", "1.1")
    history.ready()
    return history


def matrix(history: History, run: Run, *args: object) -> dict[str, Any]:
    result = run("--root", history.path, "matrix", "--known", "--json", *args)
    assert result.code == 0, result.err
    (report,) = json.loads(result.out)
    assert isinstance(report, dict)
    return report


def states(report: dict[str, Any]) -> dict[str, list[str]]:
    return {column["release"]: [cell["state"] for cell in column["cells"]] for column in report["columns"]}


def test_states(releases: History, run: Run) -> None:
    report = matrix(releases, run)
    assert states(report) == {
        "1.0": ["clean", "clean", "clean"],
        "1.1": ["merged", "clean", "clean"],
        "1.2": ["upstreamed", "clean", "clean"],
        "2.0": ["upstreamed", "conflict", "unknown"],
        "2.1": ["upstreamed", "conflict", "unknown"],
    }
    assert [(row["patch"], row["breaks"], row["upstreamed"]) for row in report["rows"]] == [
        ("first", None, "1.2"),
        ("second", "2.0", None),
        ("third", None, None),
    ]
    column = report["columns"][3]
    assert column["cells"][1]["paths"] == ["pkg/two.py"]


def test_the_table(releases: History, run: Run) -> None:
    text = run("--root", releases.path, "matrix", "--known").out
    assert "second: conflicts from 2.0 on" in text
    assert "first: upstream has it from 1.2 on" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith((" first ", " second "))}
    assert rows["first"] == ["=", "~", "U", "U", "U"]
    assert rows["second"] == ["=", "=", "=", "X", "X"]
    assert "\x1b" not in text


def test_a_range_of_releases(releases: History, run: Run) -> None:
    assert list(states(matrix(releases, run, "--from", "1.1", "--to", "2.0"))) == ["1.1", "1.2", "2.0"]
    assert run("--root", releases.path, "matrix", "--from", "nonsense").code == 2


def test_the_second_run_computes_nothing_and_a_changed_patch_does(releases: History, run: Run) -> None:
    first = matrix(releases, run)
    trace = (
        "import sys\nfrom patchset.cli.main import main\n"
        "hook = lambda event, args: print(*args[1], file=sys.stderr) if event == 'subprocess.Popen' else None\n"
        "sys.addaudithook(hook)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", trace, "--root", str(releases.path), "matrix", "--known", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0] == first
    assert "cat-file" in done.stderr
    assert "merge-tree" not in done.stderr
    file = releases.series / "third.patch"
    file.write_text(file.read_text().replace("Subject: [PATCH] Third", "Subject: [PATCH] Another third"))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "merge-tree" in done.stderr
    assert json.loads(done.stdout)[0] == first


def test_nothing_of_it_stays_in_the_repository(releases: History, run: Run) -> None:
    run("--root", releases.path, "apply")
    before = git(releases.extern, "count-objects", "-v")
    matrix(releases, run)
    assert git(releases.extern, "count-objects", "-v") == before
    assert not list((releases.extern / ".git/patchset").glob("scratch-*"))


class Page(HTMLParser):
    """Collects what a page asks a network for, and the states of its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.states: list[str] = []
        self.depth: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.fetched += [str(values[key]) for key in ("src", "href") if key in values]
        if tag == "span" and "title" in values:
            self.states.append(str(values["class"]))
        if tag not in ("meta", "link", "br"):
            self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.depth.pop() == tag


def test_the_page_is_complete_in_itself(releases: History, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "matrix.html"
    assert run("--root", releases.path, "matrix", "--known", "--html", file).code == 0
    page = Page()
    page.feed(file.read_text("utf-8"))
    assert page.fetched == []
    assert page.depth == []
    assert page.states.count("conflict") == 2
    assert page.states.count("unknown") == 2
    assert len(page.states) == 15
    before = file.read_bytes()
    run("--root", releases.path, "matrix", "--known", "--html", file)
    assert file.read_bytes() == before


def test_a_page_that_cannot_be_written_is_refused_at_once(releases: History, run: Run, tmp_path: Path) -> None:
    result = run("--root", releases.path, "matrix", "--known", "--html", tmp_path / "no/matrix.html")
    assert result.code == 2
    assert "there is no folder" in result.err
    assert "remedy: " in result.err
    assert not (releases.extern / ".git/patchset/matrix").exists()


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_repository_that_is_read_only(
    releases: History, run: Run, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...]
) -> None:
    def refuse(**options: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{options['dir']}/{options['prefix']}")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    result = run("--root", releases.path, "matrix", "--known", *option)
    assert result.code == 9
    assert "patchset/scratch-: Permission denied" in result.out + result.err
    assert "remedy" in result.out + result.err


def bisect(history: History, run: Run, *args: object) -> dict[str, Any]:
    result = run("--root", history.path, "bisect", *args, "--known", "--json")
    assert result.code == 0, result.err
    report: dict[str, Any] = json.loads(result.out)
    return report


def test_bisect_answers_to_its_old_name(releases: History, run: Run) -> None:
    result = run("--root", releases.path, "blame", "second", "--known", "--json")
    assert json.loads(result.out) == bisect(releases, run, "second")
    assert "`patchset blame` is now `patchset bisect`" in result.err


def test_bisect_finds_release_and_commit(releases: History, run: Run) -> None:
    report = bisect(releases, run, "second")
    assert (report["state"], report["after"], report["release"]) == ("conflict", "1.2", "2.0")
    assert report["subject"] == "upstream 2.0.1"
    assert report["conflict"]["files"][0]["hunks"][0]["hunk"] == 1
    text = run("--root", releases.path, "bisect", "second", "--known").out
    assert "second conflicts with 2.0; it applies to 1.2" in text
    assert "upstream 2.0.1" in text
    assert "+two VII" in text


def test_bisect_finds_who_has_it(releases: History, run: Run) -> None:
    report = bisect(releases, run, "first")
    assert (report["state"], report["after"], report["release"]) == ("upstreamed", "1.1", "1.2")
    assert report["subject"] == "upstream 1.2.0"


def test_bisect_of_what_nobody_broke(releases: History, run: Run) -> None:
    report = bisect(releases, run, "third")
    assert (report["state"], report["release"], report["last"]) == (None, None, "2.1")
    assert "third applies up to 2.1" in run("--root", releases.path, "bisect", "third", "--known").out


def test_patches_before_it_are_not_what_upstream_did(history: History, run: Run) -> None:
    history.patch("first", replace("pkg/one.py", "line 7\n", "line seven\n"))
    further = replace("pkg/one.py", "line seven\n", "line seven and more\n")
    history.patch("second", both(further, replace("pkg/two.py", "two 7\n", "two seven\n")))
    git(history.upstream.path, "checkout", "-q", "main")
    history.release("1.1", replace("pkg/one.py", "line 1\n", "line one\n"))
    history.release("2.0", replace("pkg/two.py", "two 7\n", "two VII\n"))
    history.ready()
    report = bisect(history, run, "second")
    assert (report["state"], report["after"], report["release"]) == ("conflict", "1.1", "2.0")
    assert [file["path"] for file in report["conflict"]["files"]] == ["pkg/two.py"]
    output = run("--root", history.path, "rebase", "foo", "2.0").out
    assert "last applies to 1.1, first conflicts with 2.0 (local releases)" in output


def test_bisect_of_nothing(releases: History, run: Run) -> None:
    result = run("--root", releases.path, "bisect", "nothing")
    assert result.code == 2
    assert "known patches: first, second, third" in result.err
    assert run("--root", releases.path, "bisect", "first", "--older", "--known").code == 2


@pytest.fixture
def gradual(history: History) -> History:
    """A file moves in 1.5 and is another one by 2.0: in one merge, nobody knows it again; 3.0 breaks the patch."""
    history.patch("change", replace("pkg/one.py", "line 7\n", "line seven\n"))
    history.patch("other", replace("pkg/two.py", "two 7\n", "two seven\n"))
    grew = "".join(f"line {n}\n" if n < 13 else f"another {n}\n" for n in range(1, 41))
    history.release("1.5", move("pkg/one.py", "lib/uno.py"))
    history.release("2.0", put("lib/uno.py", grew))
    history.release("3.0", replace("lib/uno.py", "line 7\n", "line VII\n"))
    history.ready()
    return history


def test_a_cell_says_what_a_rebase_would_give_along_intermediate_releases(gradual: History, run: Run) -> None:
    report = matrix(gradual, run)
    assert states(report) == {
        "1.0": ["clean", "clean"],
        "1.5": ["merged", "clean"],
        "2.0": ["merged", "clean"],
        "3.0": ["conflict", "unknown"],
    }
    assert report["columns"][2]["cells"][0]["intermediate_releases"] == ["1.5"]
    assert report["columns"][3]["cells"][0]["paths"] == ["lib/uno.py"]
    assert matrix(gradual, run) == report
    assert gradual.rebase(run)["outcome"] == "rebased"


def test_bisect_goes_along_intermediate_releases_as_well(gradual: History, run: Run) -> None:
    report = bisect(gradual, run, "change", "--known")
    assert (report["state"], report["after"], report["release"]) == ("conflict", "2.0", "3.0")
    assert [file["path"] for file in report["conflict"]["files"]] == ["lib/uno.py"]
