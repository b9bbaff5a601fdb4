"""What an earlier version has left on the disk is read as its own: state.json, made/*.json and the refs beside them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from patchset.model.component import Base, Component
from patchset.model.series import load as load_series
from patchset.sources.submodule import Submodule

from ..conftest import Root, Run, git

# As the last version before the restructuring wrote it; the ids and stats are filled in.
STATE = """{
 "schema": 1,
 "base": "1.0",
 "source": "submodule",
 "digest": "%(digest)s",
 "base_commit": "%(base)s",
 "tip": "%(tip)s",
 "tree": "%(tree)s",
 "patches": [
  {
   "name": "change-one",
   "commit": "%(first)s",
   "placement": "exact",
   "outside": []
  },
  {
   "name": "change-two",
   "commit": "%(tip)s",
   "placement": "exact",
   "outside": []
  }
 ],
 "branch": null,
 "stats": %(stats)s
}"""
TREE = (
    '{"base_commit": "%(base)s", "tip": "%(tip)s", "tree": "%(tree)s", "patches": ['
    '{"name": "change-one", "commit": "%(first)s", "placement": "exact", "outside": []}, '
    '{"name": "change-two", "commit": "%(tip)s", "placement": "exact", "outside": []}]}'
)
TOUCHED = ("pkg/new/file.py", "pkg/one.py", "pkg/sub/three.txt", "pkg/two.py")


def digest_of(root: Root) -> str:
    """Return the series' digest by the rule of the earlier version."""
    text = f"foo\0001.0\0{root.base}\0".encode()
    for name in ("change-one.patch", "change-two.patch"):
        content = (root.series / name).read_bytes()
        text += f"{name}\0001\0{hashlib.sha256(content).hexdigest()}\0".encode()
    return hashlib.sha256(text).hexdigest()


def applied_by_an_earlier_version(root: Root, run: Run) -> tuple[Path, Path]:
    """Bring extern/ into the state that an earlier version leaves; return its state and its computed tree."""
    assert run("--root", root.path, "apply").code == 0
    stats: dict[str, list[int] | None] = {}
    for name in TOUCHED:
        file = root.extern / name
        look = os.lstat(file) if file.exists() else None
        stats[name] = [look.st_mtime_ns, look.st_size, look.st_ino, look.st_mode] if look else None
    values = {
        "digest": digest_of(root),
        "base": root.base,
        "tip": root.head,
        "first": git(root.extern, "rev-parse", "HEAD~1"),
        "tree": root.upstream.tree(),
        "stats": json.dumps(stats),
    }
    private = root.extern / ".git/patchset"
    key = hashlib.sha256(f"{values['digest']}\0{root.base}\0()".encode()).hexdigest()
    computed = private / "made" / f"{key}.json"
    assert [path.name for path in computed.parent.iterdir()] == [computed.name]
    assert git(root.extern, "rev-parse", f"refs/patchset/series/{key}") == root.head
    (private / "state.json").write_text(STATE % values)
    computed.write_text(TREE % values)
    return private / "state.json", computed


def test_a_tree_that_an_earlier_version_applied(root: Root, run: Run) -> None:
    state, _ = applied_by_an_earlier_version(root, run)
    before = state.read_bytes()
    (status,) = json.loads(run("--root", root.path, "status", "--json").out)
    assert status["would"] == "do nothing"
    assert [patch["state"] for patch in status["patches"]] == ["applied", "applied"]
    assert status["tree_is_recorded"] is True
    (report,) = json.loads(run("--root", root.path, "apply", "--json").out)
    assert report["outcome"] == "unchanged"
    assert state.read_bytes() == before
    assert run("--root", root.path, "unapply").code == 0
    assert root.tree_on_disk() == root.upstream.tree("1.0")
    assert root.head == root.base


def test_a_tree_that_an_earlier_version_computed_is_not_computed_again(root: Root, run: Run) -> None:
    state, computed = applied_by_an_earlier_version(root, run)
    assert run("--root", root.path, "unapply").code == 0
    state.unlink()
    os.utime(computed, (1, 1))
    before = computed.read_bytes()
    assert run("--root", root.path, "apply").code == 0
    assert root.tree_on_disk() == root.upstream.tree()
    assert (computed.read_bytes(), computed.stat().st_mtime) == (before, 1)
    written = json.loads(state.read_text())
    assert list(written) == [
        "schema",
        "base",
        "source",
        "digest",
        "base_commit",
        "tip",
        "tree",
        "patches",
        "branch",
        "stats",
    ]


def test_what_a_killed_run_of_an_earlier_version_left_is_removed(root: Root, run: Run) -> None:
    private = root.extern / ".git/patchset"
    (private / "stage").mkdir(parents=True)
    (private / "journal.new").write_text("{")
    assert run("--root", root.path, "apply").code == 0
    assert sorted(path.name for path in private.iterdir()) == ["made", "state.json"]


def test_the_digest_of_a_series_stays(tmp_path: Path) -> None:
    """It stands in state files, in the names of computed trees and in the versions of wheels."""
    (tmp_path / "series").write_text("b.patch -p0\na.patch\n")
    (tmp_path / "a.patch").write_bytes(b"Subject: a\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n")
    (tmp_path / "b.patch").write_bytes(b"Subject: b\n\n--- f\n+++ f\n@@ -1 +1 @@\n-b\n+\xff\n")
    base = Base("v1.0", tmp_path, (Submodule("1" * 40),))
    series, findings = load_series(Component("foo", "extern/foo", None, None, None, (base,)), base)
    assert findings == []
    assert series is not None
    assert series.digest == "f987569308f7d7a8c5420ad5a8b26f1bc76bb20ede84f78981878d340dc11df9"
