"""Where a base comes from, through the command: archives with every fault, submodules with a real git host."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from patchset.store import remote

from ..conftest import TRAILERS, Result, Root, Run, Upstream, git

sys.path.insert(0, str(Path(__file__).parents[1] / "sources"))
from local_index import LocalIndex, status, truncated

NAME = "demo-1.0.tar.gz"


def pack(upstream: Upstream, commit: str, *, without: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    """Make an sdist of a commit: its files in a top folder, less `without`, and what a build generates."""
    names = git(upstream.path, "ls-tree", "-r", "--name-only", commit).splitlines()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        files = {
            name: git_bytes(upstream, commit, name) for name in names if not (without and name.startswith(without))
        }
        for name, data in {**files, "PKG-INFO": b"Version: 1.0\n", **(extra or {})}.items():
            info = tarfile.TarInfo(f"demo-1.0/{name}")
            info.size, info.mtime = len(data), 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def git_bytes(upstream: Upstream, commit: str, name: str) -> bytes:
    command = ["git", "cat-file", "blob", f"{commit}:{name}"]
    return subprocess.run(command, cwd=upstream.path, capture_output=True, check=True).stdout


class Project:
    """The `root` fixture's project, with no tree in `extern/` and an archive that stands in for the commit."""

    def __init__(self, root: Root, index: LocalIndex) -> None:
        self.root = root
        self.index = index
        shutil.rmtree(root.extern)
        self.record(pack(root.upstream, root.base))

    def record(self, data: bytes, **keys: str) -> None:
        self.index.files[NAME] = data
        values = {
            "project": "demo",
            "file": NAME,
            "sha256": hashlib.sha256(data).hexdigest(),
            "tree": self.root.upstream.tree("1.0"),
            "patched-tree": self.root.upstream.tree(),
        } | keys
        lines = "".join(f'{key} = "{value}"\n' for key, value in values.items() if value)
        base = f'commit = "{self.root.base}"\n[archive]\n{lines}exclude = ["PKG-INFO"]\n'
        (self.root.series / "base.toml").write_text(base)

    def untouched(self) -> bool:
        return not self.root.extern.exists() or not any(self.root.extern.iterdir())


@pytest.fixture
def project(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for name in list(os.environ):
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PATCHSET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_TIMEOUT", "1")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with LocalIndex() as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.simple)
        yield Project(root, index)


def apply(run: Run, project: Project, *args: object) -> Result:
    return run("--root", project.root.path, "apply", *args)


def test_the_archive(project: Project, run: Run) -> None:
    result = apply(run, project, "--json", "--source", "archive")
    assert result.code == 0, result.err
    (report,) = json.loads(result.out)
    assert (report["source"], report["why"]) == ("archive", "requested")
    assert project.root.tree_on_disk() == project.root.upstream.tree()
    assert git(project.root.extern, "status", "--porcelain") == ""
    # The second root takes it from the cache, and comes to the same commits.
    project.index.requests.clear()
    other = project.root.path.parent / "other"
    shutil.copytree(project.root.path / "patches", other / "patches")
    again = json.loads(run("--root", other, "apply", "--json", "--source", "archive").out)[0]
    assert again["commit"] == report["commit"]
    assert project.index.requests == []


@pytest.mark.parametrize("fault", [truncated(100), status(503)])
def test_a_fault_that_passes(project: Project, run: Run, fault: object) -> None:
    project.index.faults.append(fault)  # type: ignore[arg-type]
    result = apply(run, project)
    assert result.code == 0, result.err
    assert "trying again" in result.err
    assert "on archive (no git host is named)" in result.out


def stall(handler: object) -> None:
    handler.file(b"", pause=True)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(404), "HTTP 404"),
        (status(500), "HTTP 500"),
        (truncated(0), "IncompleteRead"),
        (stall, "no answer in time"),
    ],
)
def test_a_fault_that_stays(project: Project, run: Run, fault: object, words: str) -> None:
    project.index.faults += [fault] * 9  # type: ignore[list-item]
    result = apply(run, project, "--source", "archive")
    assert result.code == 7
    assert words in result.err
    assert "remedy:" in result.err
    assert project.untouched()
    project.index.faults.clear()
    project.index.released.set()
    assert apply(run, project, "--source", "archive").code == 0


def test_other_bytes_than_recorded(project: Project, run: Run) -> None:
    project.index.offers_hashes = False
    project.index.files[NAME] += b"more"
    result = apply(run, project, "--source", "archive", "--json")
    error = json.loads(result.out)
    assert (result.code, error["error"], error["exit_code"]) == (5, "integrity", 5)
    assert "expected sha256" in error["details"][0]
    assert project.untouched()


def test_no_index_has_it(project: Project, run: Run) -> None:
    del project.index.files[NAME]
    result = apply(run, project, "--source", "archive")
    assert result.code == 7
    assert f"no package index gives {NAME}" in result.err
    assert project.untouched()


def test_a_cache_that_was_tampered_with(project: Project, run: Run) -> None:
    assert apply(run, project, "--source", "archive").code == 0
    (cached,) = Path(os.environ["PATCHSET_CACHE_DIR"]).rglob(NAME)
    cached.write_bytes(b"evil")
    shutil.rmtree(project.root.path / ".patchset")
    shutil.rmtree(project.root.extern)
    offline = apply(run, project, "--offline")
    assert offline.code == 5
    assert "is corrupted" in offline.err
    online = apply(run, project, "--source", "archive")
    assert online.code == 0
    assert "fetching it anew" in online.err


def test_offline_with_nothing_here(project: Project, run: Run) -> None:
    result = apply(run, project, "--offline")
    assert result.code == 7
    assert "not in the cache" in result.err
    assert project.index.requests == []


def test_an_archive_that_is_not_the_recorded_tree(project: Project, run: Run) -> None:
    project.record(pack(project.root.upstream, project.root.base, extra={"new.txt": b"unexpected\n"}))
    result = apply(run, project, "--source", "archive")
    assert result.code == 5
    assert "recorded is" in result.err
    assert project.untouched()
    # Nothing of it is left that a later run would take for good.
    assert apply(run, project, "--source", "archive").code == 5


@pytest.mark.parametrize("name", ["../outside.txt", ".git/config", "pkg/../../x"])
def test_an_archive_that_reaches_out(project: Project, run: Run, name: str) -> None:
    project.record(pack(project.root.upstream, project.root.base, extra={name: b"evil"}), tree="")
    result = apply(run, project, "--source", "archive")
    assert result.code == 5
    assert NAME in result.err
    assert project.untouched()


def test_a_patch_outside_the_archive_is_named_and_applies_on_the_submodule(
    project: Project, run: Run, tmp_path: Path
) -> None:
    upstream = project.root.upstream
    commit = upstream.commit(f"Docs\n\nBecause.\n\n{TRAILERS}", {"README": "a better project\n"})
    project.root.add_patch("docs", upstream.format_patch(commit))
    data = pack(upstream, project.root.base, without="README")
    project.record(data, tree="", **{"patched-tree": ""})
    text = (project.root.series / "base.toml").read_text()
    (project.root.series / "base.toml").write_text(text + 'covers = ["pkg/*"]\n')
    result = apply(run, project, "--source", "archive")
    assert result.code == 0, result.err
    (report,) = json.loads(apply(run, project, "--source", "archive", "--json").out)
    assert report["patches"][-1]["outside"] == ["README"]
    assert "outside" in result.out
    assert "docs: not in the archive: README" in result.out
    (status,) = json.loads(run("--root", project.root.path, "status", "--json").out)
    assert [(item["name"], item["state"], item["outside"]) for item in status["patches"]][-1] == (
        "docs",
        "outside",
        ["README"],
    )
    other = tmp_path / "other"
    shutil.copytree(project.root.path / "patches", other / "patches")
    git(tmp_path, "clone", "-q", str(upstream.path), str(other / "extern/foo"))
    git(other / "extern/foo", "checkout", "-q", "--detach", "1.0")
    assert run("--root", other, "apply", "--source", "submodule").code == 0
    assert (other / "extern/foo/README").read_text() == "a better project\n"


class Super:
    """A superproject with a true submodule, freshly cloned: `extern/foo` is empty."""

    def __init__(self, project: Project, url: str) -> None:
        path = project.root.path
        (path / ".gitmodules").write_text(
            f'[submodule "extern/foo"]\n\tpath = extern/foo\n\turl = {url}\n\tshallow = true\n\tignore = all\n'
        )
        git(path, "init", "-q")
        git(path, "add", "patches", ".gitmodules")
        git(path, "update-index", "--add", "--cacheinfo", f"160000,{project.root.base},extern/foo")
        git(path, "commit", "-q", "-m", "project")
        self.path = path.parent / "clone"
        git(path.parent, "clone", "-q", str(path), str(self.path))

    @property
    def extern(self) -> Path:
        return self.path / "extern/foo"


@pytest.fixture
def host(project: Project, tmp_path: Path) -> str:
    """A git host: a bare repository that gives single commits, as forges do."""
    bare = tmp_path / "host.git"
    git(tmp_path, "clone", "-q", "--bare", str(project.root.upstream.path), str(bare))
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    return bare.as_uri()


def test_the_submodule(project: Project, host: str, run: Run) -> None:
    above = Super(project, host)
    result = run("--root", above.path, "apply", "--json")
    assert result.code == 0, result.err
    (report,) = json.loads(result.out)
    assert (report["source"], report["why"]) == ("submodule", "its host answers")
    assert git(above.extern, "rev-parse", "HEAD^{tree}") == project.root.upstream.tree()
    assert git(above.extern, "rev-list", "--count", "HEAD") == "3"
    assert project.index.requests == []
    # It is a submodule like any other: git knows it, and the superproject sees no change.
    assert git(above.path, "config", "submodule.extern/foo.url") == host
    assert git(above.path, "submodule", "status").lstrip("+").split()[1] == "extern/foo"
    assert git(above.path, "status", "--porcelain") == ""
    assert run("--root", above.path, "unapply").code == 0
    assert git(above.extern, "rev-parse", "HEAD") == project.root.base


def test_a_submodule_that_the_user_updated(project: Project, host: str, run: Run) -> None:
    above = Super(project, host)
    git(above.path, "submodule", "update", "-q", "--init", "--depth", "1")
    result = run("--root", above.path, "apply", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)[0]["why"] == "its commit is here"
    assert git(above.extern, "rev-parse", "HEAD^{tree}") == project.root.upstream.tree()


def test_a_submodule_that_the_user_updates_after_the_tool_fetched_it(project: Project, host: str, run: Run) -> None:
    above = Super(project, host)
    assert run("--root", above.path, "record", "foo").code == 0
    assert not (above.extern / ".git").exists()
    git(above.path, "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init", "--depth", "1")
    assert git(above.extern, "rev-parse", "HEAD") == project.root.base
    assert git(above.extern, "status", "--porcelain") == ""
    assert run("--root", above.path, "apply").code == 0


def test_auto_takes_the_archive_where_the_host_is_gone(project: Project, run: Run, tmp_path: Path) -> None:
    above = Super(project, (tmp_path / "nowhere.git").as_uri())
    result = run("--root", above.path, "apply", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)[0]["why"] == "its git host does not answer"
    assert "nowhere.git does not answer" in result.err
    assert f"taking the archive {NAME}" in result.err
    result = run("--root", above.path, "apply", "--source", "submodule")
    assert result.code == 7
    assert "--source" in result.err


def test_a_host_that_hangs_is_given_up_within_seconds(project: Project, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        above = Super(project, f"git://127.0.0.1:{server.getsockname()[1]}/foo.git")
        start = time.monotonic()
        result = run("--root", above.path, "apply", "--json")
        assert time.monotonic() - start < 15
    assert result.code == 0, result.err
    assert "no answer within" in result.err
    assert json.loads(result.out)[0]["source"] == "archive"


def processes_with(text: str) -> list[str]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            commands.append(command)
    return commands


def test_a_host_that_hangs_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git asks an http host through a helper, which outlives a git that is killed."""
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/hangs.git"
        assert "no answer within" in str(remote.answers(url))
        deadline = time.monotonic() + 2
        while (left := processes_with(url)) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert left == []


class Stalling(BaseHTTPRequestHandler):
    """A git host that lists its refs, and then never sends an object."""

    repository: Path
    released: threading.Event

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        command = ["git", "upload-pack", "--stateless-rpc", "--advertise-refs", str(self.repository)]
        refs = subprocess.run(command, capture_output=True, check=True).stdout
        self.send_response(200)
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.end_headers()
        self.wfile.write(b"001e# service=git-upload-pack\n0000" + refs)

    def do_POST(self) -> None:
        self.released.wait(30)


def test_a_host_that_stalls_in_the_transfer(
    project: Project, host: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "STALL_SECONDS", 1)
    released = threading.Event()
    handler = type("Bound", (Stalling,), {"repository": tmp_path / "host.git", "released": released})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        above = Super(project, f"http://127.0.0.1:{server.server_port}/foo.git")
        start = time.monotonic()
        result = run("--root", above.path, "apply", "--json")
        assert time.monotonic() - start < 10
        released.set()
        server.shutdown()
    assert result.code == 0, result.err
    assert json.loads(result.out)[0]["why"] == "its git host did not give the commit"


@pytest.mark.parametrize("source", ["auto", "submodule"])
def test_a_git_hosts_password_is_never_shown(project: Project, run: Run, source: str) -> None:
    above = Super(project, "http://me:secret@127.0.0.1:9/foo.git")
    result = run("--root", above.path, "apply", "--source", source)
    assert result.code == (0 if source == "auto" else 7)
    assert "127.0.0.1:9/foo.git does not answer" in result.err
    assert "secret" not in result.err + result.out


def test_a_submodule_is_not_asked_for_offline(project: Project, host: str, run: Run) -> None:
    above = Super(project, host)
    result = run("--root", above.path, "apply", "--source", "submodule", "--offline")
    assert result.code == 7
    assert "--offline" in result.err
    assert not any(above.extern.iterdir())


def test_a_host_without_the_commit(project: Project, host: str, run: Run) -> None:
    project.root.base = "1" * 40
    project.record(project.index.files[NAME])
    git(project.root.path, "init", "-q")
    above = Super(project, host)
    refused = run("--root", above.path, "apply", "--source", "submodule")
    assert refused.code == 7
    assert "1" * 40 in refused.err
    # `auto` has another way, and says that it takes it.
    taken = run("--root", above.path, "apply", "--json")
    assert taken.code == 0, taken.err
    assert json.loads(taken.out)[0]["why"] == "its git host did not give the commit"
    assert f"taking the archive {NAME}" in taken.err


def test_both_sources_have_the_same_tree(project: Project, host: str, run: Run) -> None:
    above = Super(project, host)
    first = json.loads(run("--root", above.path, "apply", "--json", "--source", "submodule").out)[0]
    second = json.loads(run("--root", above.path, "apply", "--json", "--source", "archive").out)[0]
    assert first["tree"] == second["tree"]
    assert first["commit"] != second["commit"]
    assert second["source"] == "archive"
