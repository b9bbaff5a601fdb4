"""Releases listed by a package index: described, recorded by hash, and compared archive with archive."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ..conftest import TRAILERS, Run, Upstream, git


class Index:
    """A package index in a folder, as `--index-url file:///...` reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page = folder / "simple/foo/index.html"
        self.page.parent.mkdir(parents=True)
        self.links: list[str] = []

    def publish(self, upstream: Upstream, version: str) -> str:
        """Make an sdist of the tree, without docs/; returns its sha256."""
        name = f"foo-{version}"
        file = self.folder / f"{name}.tar.gz"
        with tarfile.open(file, "w:gz") as tar:
            for path in git(upstream.path, "ls-files").split("\n"):
                if not path.startswith("docs/"):
                    tar.add(upstream.path / path, f"{name}/{path}")
            (self.folder / "PKG-INFO").write_text(f"Name: foo\nVersion: {version}\n")
            tar.add(self.folder / "PKG-INFO", f"{name}/PKG-INFO")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        wheel = self.folder / f"{name}-py3-none-any.whl"
        wheel.write_bytes(f"wheel {version}".encode())
        for path, sha256 in ((file, digest), (wheel, hashlib.sha256(wheel.read_bytes()).hexdigest())):
            self.links.append(f'<a href="{path.as_uri()}#sha256={sha256}">{path.name}</a>')
        self.page.write_text("<!DOCTYPE html><html><body>" + "\n".join(self.links) + "</body></html>")
        return digest


@pytest.fixture
def project(tmp_path: Path, upstream: Upstream, run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Index]:
    """A series for foo 1.0 of two patches, the second for docs/, which no archive has; 1.1, 2.0 and 3.0rc1 listed."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PATCHSET_CACHE_DIR", str(tmp_path / "cache"))
    index = Index(tmp_path / "index")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "index/simple").as_uri())
    root = tmp_path / "root"
    series = root / "patches/foo/1.0"
    series.mkdir(parents=True)
    upstream.commit("docs", {"docs/guide.txt": "guide\n"})
    digest = index.publish(upstream, "1.0")
    git(upstream.path, "branch", "next")
    one = (upstream.path / "pkg/one.py").read_text()
    for name, files in (
        ("code", {"pkg/one.py": one.replace("line 7\n", "line seven\n")}),
        ("docs", {"docs/guide.txt": "a guide\n"}),
    ):
        commit = upstream.commit(f"Change {name}\n\nBecause.\n\n{TRAILERS}", files)
        (series / f"{name}.patch").write_bytes(upstream.format_patch(commit))
    (series / "series").write_text("code.patch\ndocs.patch\n")
    (series / "base.toml").write_text(
        f'# An sdist.\n[archive]\nproject = "foo"\nfile = "foo-1.0.tar.gz"\nsha256 = "{digest}"\n'
        'exclude = ["PKG-INFO"]\ncovers = ["README", "pkg/*"]\n\n[[wheel]]\nvariant = "default"\nplatform = "any"\n'
        'project = "foo"\nfile = "foo-1.0-py3-none-any.whl"\nsha256 = "' + "0" * 64 + '"\n'
    )
    (root / "patches/foo/component.toml").write_text('pinned = "1.0"\n')
    git(upstream.path, "checkout", "-q", "next")
    upstream.commit("1.1", {"pkg/one.py": one.replace("line 1\n", "one\n")})
    index.publish(upstream, "1.1")
    upstream.commit("2.0", {"pkg/one.py": one.replace("line 7\n", "line VII\n"), "README": "other\n"})
    index.publish(upstream, "2.0")
    index.publish(upstream, "3.0rc1")
    assert run("--root", root, "record", "foo").code == 0
    return root, index


def call(run: Run, root: Path, *args: object, code: int = 0) -> Any:
    result = run("--root", root, *args, "--json")
    assert result.code == code, result.out + result.err
    return json.loads(result.out)


def test_a_release_from_the_index_is_recorded_by_hash(project: tuple[Path, Index], run: Run) -> None:
    root, index = project
    report = call(run, root, "rebase", "foo", "1.1")
    assert [(item["name"], item["outcome"]) for item in report["patches"]] == [
        ("code", "unmodified"),
        ("docs", "outside"),
    ]
    assert report["source"] == "archive"
    text = (root / "patches/foo/1.1/base.toml").read_text()
    digest = hashlib.sha256((index.folder / "foo-1.1.tar.gz").read_bytes()).hexdigest()
    wheel = hashlib.sha256((index.folder / "foo-1.1-py3-none-any.whl").read_bytes()).hexdigest()
    assert text.startswith("# An sdist.\n[archive]\n")
    assert f'file = "foo-1.1.tar.gz"\nsha256 = "{digest}"' in text
    assert f'file = "foo-1.1-py3-none-any.whl"\nsha256 = "{wheel}"' in text
    assert f'patched-tree = "{report["patched_tree"]}"' in text
    # A patch that cannot be evaluated is carried over as it is, and reported so.
    old, new = (root / f"patches/foo/{base}/docs.patch" for base in ("1.0", "1.1"))
    assert old.read_bytes() == new.read_bytes()
    assert "docs: outside; not evaluated" in (root / "patches/foo/1.1/CHANGELOG.md").read_text()
    (applied,) = call(run, root, "apply", "foo@1.1")
    assert applied["tree"] == report["patched_tree"]


def test_what_is_outside_and_for_older_releases_is_commented_out(project: tuple[Path, Index], run: Run) -> None:
    root, _ = project
    patch = root / "patches/foo/1.0/docs.patch"
    patch.write_text(patch.read_text().replace("Applies-To: [1.0, )", "Applies-To: [1.0, 1.1)"))
    assert run("--root", root, "record", "foo").code == 0
    report = call(run, root, "rebase", "foo", "1.1")
    (docs,) = (item for item in report["patches"] if item["name"] == "docs")
    assert docs["outcome"] == "outside"
    assert "commented out" in docs["detail"]
    lines = (root / "patches/foo/1.1/series").read_text().splitlines()
    assert lines[0] == "code.patch"
    assert lines[1].startswith("# docs.patch: ")
    assert (root / "patches/foo/1.1/docs.patch").read_bytes() == patch.read_bytes()
    assert "commented out" in (root / "patches/foo/1.1/CHANGELOG.md").read_text()
    assert "Applies-To" not in run("--root", root, "lint").out
    (applied,) = call(run, root, "apply", "foo@1.1")
    assert applied["disabled"] == ["docs.patch"]


def test_the_matrix_finds_new_releases_and_remembers_them(
    project: tuple[Path, Index], run: Run, upstream: Upstream
) -> None:
    root, index = project
    (report,) = call(run, root, "matrix")
    states = {column["release"]: [cell["state"] for cell in column["cells"]] for column in report["columns"]}
    assert states == {"1.0": ["clean", "outside"], "1.1": ["merged", "outside"], "2.0": ["conflict", "outside"]}
    upstream.commit("2.1", {"README": "newest\n"})
    index.publish(upstream, "2.1")
    (report,) = call(run, root, "matrix")
    assert [column["release"] for column in report["columns"]] == ["1.0", "1.1", "2.0", "2.1"]
    # Without the index there is what is here.
    index.page.unlink()
    (again,) = call(run, root, "matrix", "--known")
    assert again == report
    (again,) = call(run, root, "matrix")
    assert again == report


def test_a_release_that_cannot_be_had_is_named(project: tuple[Path, Index], run: Run) -> None:
    root, index = project
    (index.folder / "foo-2.0.tar.gz").write_bytes(b"other bytes")
    (report,) = call(run, root, "matrix")
    problems = {column["release"]: column["problem"] for column in report["columns"] if column["problem"]}
    assert list(problems) == ["2.0"]
    result = run("--root", root, "matrix")
    assert "2.0 was not evaluated" in result.out


def test_bisect_fetches_what_it_asks_for(project: tuple[Path, Index], run: Run) -> None:
    root, _ = project
    report = call(run, root, "bisect", "code")
    assert (report["state"], report["after"], report["release"]) == ("conflict", "1.1", "2.0")
    assert report["commit"] is None


def test_a_release_that_nobody_lists(project: tuple[Path, Index], run: Run) -> None:
    root, _ = project
    error = call(run, root, "rebase", "foo", "9.9", code=2)
    assert "has no release 9.9" in error["message"]
    assert "1.1, 2.0" in error["details"][0]
    assert not list((root / "patches/foo").glob(".*"))


def test_refresh_keeps_what_the_archive_has_not(project: tuple[Path, Index], run: Run) -> None:
    root, _ = project
    call(run, root, "apply", "foo")
    extern = root / "extern/foo"
    docs = (root / "patches/foo/1.0/docs.patch").read_bytes()
    file = extern / "pkg/one.py"
    file.write_text(file.read_text().replace("line seven", "line 7, seven"))
    git(extern, "commit", "-q", "-a", "--amend", "--no-edit")
    (report,) = call(run, root, "refresh", "foo")
    assert {item["name"]: item["what"] for item in report["patches"]} == {"code": "changed", "docs": "outside"}
    assert (root / "patches/foo/1.0/series").read_text() == "code.patch\ndocs.patch\n"
    assert (root / "patches/foo/1.0/docs.patch").read_bytes() == docs
    (status,) = call(run, root, "status", "foo")
    assert (status["would"], status["tree_is_recorded"]) == ("do nothing", True)
