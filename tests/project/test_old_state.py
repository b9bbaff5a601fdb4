"""Files that an earlier version left in a component's git directory are read as before."""

from __future__ import annotations

import json
from pathlib import Path

from ..conftest import Root, Run

# As the version before wrote it: a patch's `match` was called `placement`.
OLD_PATCHES = [
    {"name": "change-one", "commit": None, "placement": "exact", "outside": []},
    {"name": "two", "commit": None, "placement": "context", "outside": ["docs/two.md"]},
]


def with_old_patches(file: Path) -> None:
    values = json.loads(file.read_bytes())
    assert all("match" in patch for patch in values["patches"])
    commits = [patch["commit"] for patch in values["patches"]]
    values["patches"] = [{**old, "commit": commit} for old, commit in zip(OLD_PATCHES, commits, strict=False)]
    file.write_text(json.dumps(values))


def test_an_old_state_is_read(root: Root, run: Run) -> None:
    assert run("--root", root.path, "apply").code == 0
    with_old_patches(root.extern / ".git/patchset/state.json")
    (report,) = json.loads(run("--root", root.path, "apply", "--json").out)
    assert report["outcome"] == "unchanged"
    assert [patch["match"] for patch in report["patches"]] == ["exact", "context"]
    assert report["patches"][1]["outside"] == ["docs/two.md"]


def test_an_old_computation_is_read(root: Root, run: Run) -> None:
    assert run("--root", root.path, "apply").code == 0
    assert run("--root", root.path, "unapply").code == 0
    (file,) = (root.extern / ".git/patchset/made").glob("*.json")
    with_old_patches(file)
    before = file.read_bytes()
    (report,) = json.loads(run("--root", root.path, "apply", "--json").out)
    assert report["outcome"] == "applied"
    # Read, and not computed again: the file is as it was, and its patches are reported.
    assert file.read_bytes() == before
    assert [patch["match"] for patch in report["patches"]] == ["exact", "context"]
