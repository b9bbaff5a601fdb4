"""A new kind of source is one file and one line: `folder_kind.py`, and its name in KINDS, carry every command."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINES = "".join(f"line {n}\n" for n in range(1, 21))
PATCH = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Test <test@example.invalid>
Date: Tue, 14 Nov 2023 23:13:20 +0100
Subject: [PATCH] Change line 7

Because.

Upstream-Status: Pending
Applies-To: [1.0, )
Test: tests/test_it.py::test_it
---
diff --git a/pkg/one.py b/pkg/one.py
index {old}..{new} 100644
--- a/pkg/one.py
+++ b/pkg/one.py
@@ -6,3 +6,3 @@
 line 6
-line 7
+line seven
 line 8
"""
TOOL = (
    "import sys\nfrom patchset.sources.kinds import KINDS\nKINDS['folder'] = 'folder_kind:Folder'\n"
    "from patchset.cli.main import main\nsys.exit(main(sys.argv[1:]))"
)


def blob_id(text: str) -> str:
    return hashlib.sha1(f"blob {len(text)}\0{text}".encode(), usedforsecurity=False).hexdigest()


class Project:
    """A component whose releases are folders: 1.0 with a series, 1.1 without."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "root"
        self.series = self.path / "patches/foo/1.0"
        for version, text in (("1.0", LINES), ("1.1", LINES.replace("line 1\n", "line one\n"))):
            (self.path / f"releases/foo-{version}/pkg").mkdir(parents=True)
            (self.path / f"releases/foo-{version}/pkg/one.py").write_text(text)
        self.series.mkdir(parents=True)
        (self.series / "series").write_text("change.patch\n")
        blobs = {"old": blob_id(LINES), "new": blob_id(LINES.replace("line 7\n", "line seven\n"))}
        (self.series / "change.patch").write_text(PATCH.format(**blobs))
        (self.series / "base.toml").write_text('# A folder.\n[folder]\npath = "../../../releases/foo-1.0"\n')
        (self.path / "patches/foo/component.toml").write_text('pinned = "1.0"\n')
        (self.path / "tests").mkdir()
        (self.path / "tests/test_it.py").write_text("def test_it(): ...\n")

    def run(self, *args: str, code: int = 0) -> Any:
        """Run the tool with the new kind registered, and return its JSON."""
        command = [sys.executable, "-c", TOOL, "--root", str(self.path), *args, "--json"]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        ended = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_apply_record_and_status(project: Project) -> None:
    (status,) = project.run("status")
    assert status["would"] == "populate extern/foo from the folder, and apply 1 patch"
    (report,) = project.run("apply", "foo", "--source", "folder")
    assert (report["source"], report["why"]) == ("folder", "its folder is there")
    assert "line seven" in (project.path / "extern/foo/pkg/one.py").read_text()
    (recorded,) = project.run("record", "foo")
    assert (recorded["source"], recorded["changed"]) == ("folder", True)
    text = (project.series / "base.toml").read_text()
    assert text.startswith("# A folder.\n[folder]\npath = ")
    assert f'patched-tree = "{report["tree"]}"' in text
    (status,) = project.run("status")
    assert (status["source"], status["would"], status["tree_is_recorded"]) == ("folder", "do nothing", True)
    assert project.run("lint")["findings"] == []


def test_rebase_matrix_and_bisect(project: Project) -> None:
    report = project.run("rebase", "foo", "1.1")
    assert (report["source"], report["outcome"]) == ("folder", "rebased")
    text = (project.path / "patches/foo/1.1/base.toml").read_text()
    assert 'path = "../../../releases/foo-1.1"' in text
    assert f'patched-tree = "{report["patched_tree"]}"' in text
    (matrix,) = project.run("matrix", "foo@1.0", "--known")
    assert matrix["source"] == "folder"
    states = {column["release"]: [cell["state"] for cell in column["cells"]] for column in matrix["columns"]}
    assert states == {"1.0": ["clean"], "1.1": ["merged"]}
    answer = project.run("bisect", "change", "foo@1.0", "--known")
    assert (answer["state"], answer["last"]) == (None, "1.1")
    (applied,) = project.run("apply", "foo@1.1")
    assert applied["tree"] == report["patched_tree"]


def test_a_stored_release_without_a_series_is_known(project: Project) -> None:
    """A release that another series brought into the repository, without its folder or a base.toml."""
    project.run("rebase", "foo", "1.1")
    for folder in ("patches/foo/1.1", "releases/foo-1.1", "releases/foo-1.0"):
        subprocess.run(["rm", "-r", str(project.path / folder)], check=True)
    (matrix,) = project.run("matrix", "--known")
    assert [column["release"] for column in matrix["columns"]] == ["1.0", "1.1"]
    assert project.run("rebase", "foo", "1.1")["outcome"] == "rebased"


def test_a_missing_folder_is_refused(project: Project) -> None:
    subprocess.run(["rm", "-r", str(project.path / "releases")], check=True)
    error = project.run("apply", "foo", code=7)
    assert error["details"][-1] == f"there is no folder {project.series}/../../../releases/foo-1.0"


def test_no_kind_is_named_outside_its_class() -> None:
    """Code that compares with a kind's name would not know the next kind; KINDS and remedies may name one."""
    named = re.compile(r"""(==|!=|\bin\b|source\(|present\(.*,) *\(?["'](submodule|archive)["']""")
    places = []
    for file in sorted((ROOT / "tools/patchset").rglob("*.py")):
        # .gitmodules has sections of that name.
        if file.name != "superproject.py":
            places += [f"{file.name}: {line.strip()}" for line in file.read_text().splitlines() if named.search(line)]
    assert places == []
