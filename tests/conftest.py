"""Real git repositories for the tests: nothing of git is mocked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

Content = Mapping[str, str | bytes | None]

TRAILERS = """\
Upstream-Status: Pending
Applies-To: [1.0, )
Test: tests/test_it.py::test_it
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first: whoever broke something small hears of it before the real trees are fetched."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def _own_git_configuration(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's git configuration, and the tool's cache, out of the tests."""
    home = tmp_path_factory.mktemp("home")
    config = home / "gitconfig"
    config.write_text(
        "[user]\n\tname = Test\n\temail = test@example.invalid\n"
        '[init]\n\tdefaultBranch = main\n[protocol "file"]\n\tallow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for key in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(key, raising=False)


def git(folder: Path, *args: str, stdin: bytes | None = None) -> str:
    """Run git in a folder and return what it printed; a failure fails the test with git's words."""
    done = subprocess.run(["git", *args], cwd=folder, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr.decode()}"
    return done.stdout.decode().strip()


def write(folder: Path, files: Content) -> None:
    """Write files below a folder; None removes one."""
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@dataclass
class Upstream:
    """A git repository that stands for an upstream project."""

    path: Path

    def commit(self, message: str, files: Content) -> str:
        write(self.path, files)
        return self.commit_all(message)

    def commit_all(self, message: str) -> str:
        git(self.path, "add", "-A", "-f")
        env = {**os.environ, "GIT_AUTHOR_DATE": "1700000000 +0100", "GIT_COMMITTER_DATE": "1700000000 +0100"}
        command = ["git", "commit", "-q", "--allow-empty", "-m", message]
        subprocess.run(command, cwd=self.path, env=env, check=True)
        return self.head

    @property
    def head(self) -> str:
        return git(self.path, "rev-parse", "HEAD")

    def tree(self, name: str = "HEAD") -> str:
        return git(self.path, "rev-parse", f"{name}^{{tree}}")

    def format_patch(self, commit: str) -> bytes:
        flags = ["--zero-commit", "--full-index", "--no-stat", "--no-signature", "--no-numbered", "--binary"]
        done = subprocess.run(
            ["git", "format-patch", *flags, "--stdout", "-1", commit], cwd=self.path, capture_output=True, check=True
        )
        return done.stdout


@dataclass
class Root:
    """A project of ours with one component `foo`, whose tree stands in `extern/foo`."""

    path: Path
    upstream: Upstream
    base: str

    @property
    def extern(self) -> Path:
        return self.path / "extern/foo"

    @property
    def series(self) -> Path:
        return self.path / "patches/foo/1.0"

    def add_patch(self, name: str, data: bytes) -> None:
        self.series.mkdir(parents=True, exist_ok=True)
        (self.series / f"{name}.patch").write_bytes(data)
        with (self.series / "series").open("a") as stream:
            stream.write(f"{name}.patch\n")

    def write_base(self, **keys: str) -> None:
        self.series.mkdir(parents=True, exist_ok=True)
        lines = [f'{key.replace("_", "-")} = "{value}"' for key, value in keys.items()]
        (self.series / "base.toml").write_text("\n".join(lines) + "\n")

    @property
    def head(self) -> str:
        return git(self.extern, "rev-parse", "HEAD")

    def tree_on_disk(self) -> str:
        """The tree of the files as they stand, whatever the index says."""
        index = self.path / "index-of-the-test"
        env = {**os.environ, "GIT_INDEX_FILE": str(index)}
        for command in (["read-tree", "--empty"], ["add", "-A", "-f", "."]):
            subprocess.run(["git", *command], cwd=self.extern, env=env, check=True, capture_output=True)
        done = subprocess.run(["git", "write-tree"], cwd=self.extern, env=env, check=True, capture_output=True)
        index.unlink()
        return done.stdout.decode().strip()


BASE: Content = {
    "README": "a project\n",
    "pkg/__init__.py": "",
    "pkg/one.py": "".join(f"line {n}\n" for n in range(1, 31)),
    "pkg/two.py": "".join(f"two {n}\n" for n in range(1, 11)),
    "pkg/sub/three.txt": "three\n",
}


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    path = tmp_path / "upstream"
    path.mkdir()
    git(path, "init", "-q")
    made = Upstream(path)
    made.commit("base", BASE)
    git(path, "tag", "1.0")
    return made


@pytest.fixture
def root(tmp_path: Path, upstream: Upstream) -> Root:
    """A project with two patches on `foo` 1.0, its tree already in `extern/foo`."""
    path = tmp_path / "root"
    made = Root(path, upstream, upstream.head)
    made.series.mkdir(parents=True)
    first = upstream.commit(
        f"Change one\n\nBecause.\n\n{TRAILERS}",
        {"pkg/one.py": str(BASE["pkg/one.py"]).replace("line 7\n", "line seven\n"), "pkg/new/file.py": "new\n"},
    )
    made.add_patch("change-one", upstream.format_patch(first))
    second = upstream.commit(
        f"Change two\n\nBecause.\n\n{TRAILERS}",
        {"pkg/two.py": str(BASE["pkg/two.py"]) + "two 11\n", "pkg/sub/three.txt": None},
    )
    made.add_patch("change-two", upstream.format_patch(second))
    made.write_base(commit=made.base, tree=upstream.tree("1.0"), patched_tree=upstream.tree())
    git(tmp_path, "clone", "-q", "--no-local", str(upstream.path), str(made.extern))
    git(made.extern, "checkout", "-q", "--detach", "1.0")
    return made


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Drive the command's own main(), and return exit code and output."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*args: object) -> Result:
        from patchset.cli.main import main

        capfd.readouterr()
        code = main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call
