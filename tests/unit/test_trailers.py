"""Trailers: the vocabulary, the ranges, and the finding for each breach."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchset.authoring.messages import prompted_trailers, replace_trailers, with_trailers
from patchset.model import trailers as model
from patchset.model.trailers import (
    LintContext,
    TrailerRule,
    hint,
    lint_trailers,
    release_range,
    trailers,
    upstream_status,
    value,
    values,
)

from ..conftest import TRAILERS, Root, Run, git

HEADER = """\
From: A <a@b>
Subject: [PATCH] x

Why: this is prose, in a paragraph of its own.

Upstream-Status: Pending
Applies-To: [v0.26.0, v0.34.0)
Test: tests/test_a.py::test_b
---
"""


def lint(header: str, base: str | None = "v0.30.0", root: Path | None = None) -> str:
    return "\n".join(finding.render() for finding in lint_trailers(Path("p.patch"), header, base, root))


def test_only_the_last_paragraph_holds_trailers() -> None:
    assert [item.key for item in trailers(HEADER)] == ["Upstream-Status", "Applies-To", "Test"]
    assert lint(HEADER) == ""


@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        ("Pending", "Pending", ""),
        ("Pending [waits for the release]", "Pending", "waits for the release"),
        ("Backport [v0.31.0]", "Backport", "v0.31.0"),
        ("Inappropriate [ours alone]", "Inappropriate", "ours alone"),
    ],
)
def test_status(value: str, status: str, reason: str) -> None:
    parsed = upstream_status(value)
    assert (parsed.status, parsed.reason) == (status, reason)


@pytest.mark.parametrize("value", ["Submitted", "Backport", "Denied []", "Inappropriate", "Pendng", "pending", ""])
def test_status_that_is_none(value: str) -> None:
    with pytest.raises(ValueError, match=r"wants|unknown"):
        upstream_status(value)


def test_range_is_half_open_and_ordered_as_releases() -> None:
    releases = release_range("[v0.9.0, v0.30.0)")
    assert "v0.9.0" in releases
    assert "v0.10.1" in releases
    assert "0.29.9" in releases
    assert "v0.30.0" not in releases
    assert "v0.8.9" not in releases
    assert "v99.0" in release_range("[v0.9.0, )")


@pytest.mark.parametrize("value", ["v0.1", "[v0.1, v0.2]", "[v0.2, v0.1)", "[v0.1, v0.1)", "[x, y)", "(v0.1, v0.2)"])
def test_range_that_is_none(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        release_range(value)


def test_every_breach_is_named_at_once() -> None:
    text = lint(HEADER.replace("Pending", "Pendng").replace("[v0.26.0, v0.34.0)", "[v0.26.0, v0.28.0)"))
    assert "p.patch:6:18: Upstream-Status: unknown status 'Pendng'" in text
    assert "p.patch:7:13: Applies-To: leaves out v0.30.0" in text


def test_missing_and_doubled_trailers() -> None:
    assert "has no Test trailer" in lint(HEADER.replace("Test:", "Tested:"))
    assert "stands twice" in lint(HEADER.replace("Test:", "Upstream-Status:"))


def test_a_patch_may_name_several_tests() -> None:
    header = HEADER.replace("---\n", "Test: tests/test_a.py::test_c\n---\n")
    assert lint(header) == ""
    assert values(header, "Test") == ["tests/test_a.py::test_b", "tests/test_a.py::test_c"]
    assert value(header, "Test") == "tests/test_a.py::test_b"
    assert value(header, "Build-Route") is None


def test_a_test_under_the_old_trailer_is_named_with_the_new_one() -> None:
    header = HEADER.replace("Test:", "Tested-By:")
    text = lint(header)
    assert "p.patch:8:12: Tested-By: names a person in git; write Test: tests/test_a.py::test_b" in text
    assert "has no Test trailer" not in text
    assert values(header, "Test") == ["tests/test_a.py::test_b"]


def test_a_person_who_tested_is_git_s_own_trailer() -> None:
    people = "Tested-By: A <a@example.invalid>\nTested-By: B <b@example.invalid>\n"
    header = HEADER.replace("---\n", f"{people}---\n")
    assert lint(header) == ""
    assert values(header, "Test") == ["tests/test_a.py::test_b"]
    assert "has no Test trailer" in lint(HEADER.replace("Test: tests/test_a.py::test_b\n", people))


def test_a_new_trailer_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe: lint, the hint of `patchset new` and the questions follow the table."""

    def check(text: str, context: LintContext) -> None:
        if not text.isdigit():
            raise ValueError("is not a number")

    row = TrailerRule("Risk", "a number from 0 to 9", check, required=True)
    monkeypatch.setattr(model, "RULES", (*model.RULES, row))
    assert "has no Risk trailer" in lint(HEADER)
    assert "Risk: is not a number" in lint(HEADER.replace("---\n", "Risk: high\n---\n"))
    assert "stands twice" in lint(HEADER.replace("---\n", "Risk: 1\nRisk: 2\n---\n"))
    good = HEADER.replace("---\n", "Risk: 3\n---\n")
    assert lint(good) == ""
    assert hint("Risk") == "a number from 0 to 9"
    assert prompted_trailers("p", HEADER, lambda patch, key: "3") == ["Risk: 3"]
    assert prompted_trailers("p", good, lambda patch, key: "3") == []


def test_every_trailer_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/formats.md").read_text()
    for rule in model.RULES:
        assert f"\n| `{rule.key}` | " in text, rule.key


def test_the_named_test_must_exist(tmp_path: Path) -> None:
    assert "there is no file tests/test_a.py" in lint(HEADER, root=tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("def test_c(): ...\n")
    assert "holds no test_b" in lint(HEADER, root=tmp_path)
    (tmp_path / "tests/test_a.py").write_text("def test_b(): ...\n")
    assert lint(HEADER, root=tmp_path) == ""


def test_test_without_a_name() -> None:
    assert "names no test" in lint(HEADER.replace("::test_b", ""))


def test_a_series_with_the_old_trailer_goes_on_working(root: Root, run: Run) -> None:
    for file in root.series.glob("*.patch"):
        file.write_text(file.read_text().replace("\nTest: ", "\nTested-By: "))
    before = {file.name: file.read_bytes() for file in root.series.iterdir()}
    assert run("--root", root.path, "apply").code == 0
    assert "Tested-By: tests/test_it.py::test_it" in git(root.extern, "log", "-1", "--format=%B")
    assert run("--root", root.path, "refresh").code == 0
    assert {file.name: file.read_bytes() for file in root.series.iterdir()} == before
    git(root.extern, "commit", "-q", "--amend", "-m", f"Change two\n\nAnother reason.\n\n{TRAILERS}")
    assert run("--root", root.path, "refresh").code == 0
    assert (root.series / "change-one.patch").read_bytes() == before["change-one.patch"]
    assert "Another reason.\n\nUpstream-Status: Pending\n" in (root.series / "change-two.patch").read_text()
    (root.path / "tests").mkdir()
    (root.path / "tests/test_it.py").write_text("def test_it(): ...\n")
    answer = run("--root", root.path, "lint")
    assert answer.code == 3
    assert "names a person in git; write Test: tests/test_it.py::test_it" in answer.out + answer.err


@pytest.mark.parametrize("message", ["Fix: a subject that looks like a trailer\n", "A subject\n\nBecause.\n"])
def test_trailers_go_into_a_paragraph_below_the_message(message: str) -> None:
    assert with_trailers(message, ["Test: a::b"]) == f"{message}\nTest: a::b\n"
    assert with_trailers(f"{message}\nTest: a::b\n", ["Test: a::c"]) == f"{message}\nTest: a::b\nTest: a::c\n"
    assert replace_trailers(f"{message}\nTest: a::b\n", ["Test: a::c"]) == f"{message}\nTest: a::c\n"


def test_a_subject_is_no_trailer() -> None:
    subject = "Test: a subject that looks like a trailer\n"
    assert replace_trailers(subject, ["Test: a::b"]) == f"{subject}\nTest: a::b\n"
    assert prompted_trailers("p", subject, lambda patch, key: key.lower()) == [
        "Upstream-Status: upstream-status",
        "Applies-To: applies-to",
        "Test: test",
    ]


@pytest.mark.parametrize("trailer", ["Upstream-Status: Denied [no]", "Test: tests/a.py::b", "Tested-By: tests/a.py::b"])
def test_edit_brings_the_old_trailer_into_its_new_form(root: Root, run: Run, trailer: str) -> None:
    (root.path / "tests").mkdir()
    (root.path / "tests/test_it.py").write_text("def test_it(): ...\n")
    (root.path / "tests/a.py").write_text("def b(): ...\n")
    file = root.series / "change-one.patch"
    file.write_text(file.read_text().replace("\nTest: ", "\nTested-By: "))
    before = file.read_text()
    same = f"Change one\n\nBecause.\n\n{TRAILERS}".replace("Test:", "Tested-By:")
    assert run("--root", root.path, "edit", "change-one", "-m", same).code == 0
    assert file.read_text() == before
    result = run("--root", root.path, "edit", "change-one", "--trailer", trailer)
    assert result.code == 0, result.err
    test = "tests/test_it.py::test_it" if trailer.startswith("Upstream") else "tests/a.py::b"
    assert values(file.read_text().partition("diff --git")[0], "Test") == [test]
    assert "Tested-By" not in file.read_text()
    assert run("--root", root.path, "lint").code == 0


def test_new_writes_the_old_trailer_in_its_new_form(root: Root, run: Run) -> None:
    (root.path / "tests").mkdir()
    (root.path / "tests/test_it.py").write_text("def test_it(): ...\n")
    assert run("--root", root.path, "apply").code == 0
    (root.extern / "README").write_text("ours\n")
    lines = ("Upstream-Status: Pending", "Applies-To: [1.0, )", "Tested-By: tests/test_it.py::test_it")
    args = [arg for line in lines for arg in ("--trailer", line)]
    result = run("--root", root.path, "new", "third", "foo", "-m", "Third\n\nBecause.", *args)
    assert result.code == 0, result.err
    assert "\nTest: tests/test_it.py::test_it\n" in (root.series / "third.patch").read_text()
    assert run("--root", root.path, "lint").code == 0
