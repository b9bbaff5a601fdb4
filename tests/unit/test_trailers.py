"""Trailers: the vocabulary, the ranges, and what the linter says of each breach."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchset.model.trailers import lint_trailers, release_range, trailers, upstream_status

HEADER = """\
From: A <a@b>
Subject: [PATCH] x

Why: this is prose, in a paragraph of its own.

Upstream-Status: Pending
Applies-To: [v0.26.0, v0.34.0)
Tested-By: tests/test_a.py::test_b
---
"""


def lint(header: str, base: str | None = "v0.30.0", root: Path | None = None) -> str:
    return "\n".join(finding.render() for finding in lint_trailers(Path("p.patch"), header, base, root))


def test_only_the_last_paragraph_holds_trailers() -> None:
    assert [item.key for item in trailers(HEADER)] == ["Upstream-Status", "Applies-To", "Tested-By"]
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
    found = upstream_status(value)
    assert (found.status, found.reason) == (status, reason)


@pytest.mark.parametrize("value", ["Submitted", "Backport", "Denied []", "Inappropriate", "Pendng", "pending", ""])
def test_status_that_is_none(value: str) -> None:
    with pytest.raises(ValueError, match=r"wants|unknown"):
        upstream_status(value)


def test_range_is_half_open_and_ordered_as_releases() -> None:
    found = release_range("[v0.9.0, v0.30.0)")
    assert "v0.9.0" in found
    assert "v0.10.1" in found
    assert "0.29.9" in found
    assert "v0.30.0" not in found
    assert "v0.8.9" not in found
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
    assert "has no Tested-By trailer" in lint(HEADER.replace("Tested-By", "Tested-by-hand"))
    assert "stands twice" in lint(HEADER.replace("Tested-By", "Upstream-Status"))


def test_the_named_test_must_exist(tmp_path: Path) -> None:
    assert "there is no file tests/test_a.py" in lint(HEADER, root=tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("def test_c(): ...\n")
    assert "holds no test_b" in lint(HEADER, root=tmp_path)
    (tmp_path / "tests/test_a.py").write_text("def test_b(): ...\n")
    assert lint(HEADER, root=tmp_path) == ""


def test_test_without_a_name() -> None:
    assert "names no test" in lint(HEADER.replace("::test_b", ""))
