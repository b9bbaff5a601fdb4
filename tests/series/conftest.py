"""The upstreams' real code, unpatched and patched, run by an interpreter that has what they import."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

from patchset.model.component import Base, Component
from patchset.project.project import load
from patchset.sources import archive
from patchset.sources.acquire import StoredBase
from patchset.store.git import Git
from patchset.workflow.compute import compute
from patchset.workflow.workspace import read_series
from patchset.worktree.location import Location
from toolkit.progress import Quiet

ROOT = Path(__file__).parents[2]
Which = Literal["base", "patched"]

# A distribution's metadata as upstream's own `importlib.metadata.version()` wants to find it.
_METADATA = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"


@dataclass(frozen=True)
class Trees:
    """One component's base, checked out twice: as upstream has it, and with the series."""

    base: Path
    patched: Path

    def __getitem__(self, which: Which) -> Path:
        return self.base if which == "base" else self.patched


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trees]:
    """Return a function that gives a component's trees (`modelopt@0.46.0`), from its archive."""

    @cache
    def make(spec: str) -> Trees:
        ((component, base),) = load(ROOT).select((spec,))
        source = base.source("archive")
        assert isinstance(source, archive.Archive)
        folder = tmp_path_factory.mktemp(spec.replace("@", "-"))
        git = Git(folder / "store.git")
        git.init()
        commit = archive.import_archive(git, source, archive.download(source, Quiet()), Quiet())
        return check_out(component, base, git, StoredBase.of(source, git, commit))

    return make


def check_out(component: Component, base: Base, git: Git, source: StoredBase) -> Trees:
    """Apply the series to a base that is in the store, and check out both trees beside the store."""
    folder = git.gitdir.parent
    location = Location(component.name, folder / "none", git.gitdir, folder, False)
    applied = compute(location, read_series(component, base), source)
    checkouts = []
    for name, tip in (("base", source.commit), ("patched", applied.tip)):
        tree = folder / name
        tree.mkdir()
        Git(git.gitdir, tree).run("read-tree", "--reset", "-u", tip, env={"GIT_INDEX_FILE": str(folder / "index")})
        # vLLM asks for its own distribution to choose a platform: without one it takes none, as is wanted here.
        if component.name == "modelopt":
            project = base.index_project or ""
            info = tree / f"{project.replace('-', '_')}-{base.name.removeprefix('v')}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(_METADATA.format(name=project, version=base.name))
        checkouts.append(tree)
    return Trees(*checkouts)


@dataclass(frozen=True)
class Answer:
    """A script's answer: `value` is the argument of `answer()`, `err` its standard error."""

    value: Any
    err: str


Ask = Callable[..., Answer]

_PRELUDE = """
import json, sys
def answer(value):
    with open(sys.argv[1], "w") as stream:
        json.dump(value, stream)
"""


def interpreter(environment: str) -> str:
    """Return the interpreter of an environment of tests/requirements; without one, skip the test."""
    variable = f"PATCHSET_{environment.upper()}_PYTHON"
    python = os.environ.get(variable)
    if python is None:
        listed = (ROOT / "tests/requirements" / f"{environment}.txt").is_file()
        pytest.skip(f"{variable} names no interpreter" + ("; `nox -s tests` makes one" if listed else ""))
    return python


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Return a function that runs a script with a tree of an upstream on its path, in the series environment."""
    python = interpreter("series")

    def run(tree: Path, script: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Answer:
        out = tmp_path_factory.mktemp("answer") / "answer.json"
        done = subprocess.run(
            [python, "-c", _PRELUDE + script, str(out)],
            env={**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1", **(env or {})},
            cwd=cwd or out.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return Answer(json.loads(out.read_text()), done.stderr + done.stdout)

    return run
