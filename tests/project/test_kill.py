"""Killed at every step: `extern/` is the old or the new tree, and the next run goes through.

A harness installs an audit hook (PEP 578) in the tool's own process, counts its effects (files opened for
writing, renames, links, removals, processes) and kills it with SIGKILL at the n-th; n runs from the first to
the last. The tool itself knows nothing of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Root, git

HARNESS = """
import os, signal, sys
limit, who = int(sys.argv[1]), sys.argv[2]
main_process, count = os.getpid(), 0
EFFECTS = {"os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.chmod",
           "subprocess.Popen", "os.fork", "shutil.rmtree", "fcntl.flock", "os.truncate"}

def hook(event, args):
    global count
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if (event not in EFFECTS and not writes) or "__pycache__" in str(args):
        return
    if (os.getpid() == main_process) != (who == "parent"):
        return
    count += 1
    if count == limit:
        os.kill(os.getpid(), signal.SIGKILL)

from patchset.cli.main import main
sys.addaudithook(hook)
code = main(sys.argv[3:])
print("effects", count)
sys.exit(code)
"""


def killed_at(step: int, who: str, *args: str) -> bool:
    """Run the tool and kill it, or its renaming child, at the n-th effect; returns whether that came."""
    command = [sys.executable, "-c", HARNESS, str(step), who, *args]
    done = subprocess.run(command, capture_output=True, check=False, start_new_session=True)
    if who == "parent":
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        return done.returncode == -signal.SIGKILL
    return done.returncode != 0


def wait_for_children(root: Root) -> None:
    """The renaming child outlives its parent by a moment; it holds no lock that a test could wait for."""
    for _ in range(200):
        out = subprocess.run(["pgrep", "-f", str(root.path)], capture_output=True, check=False)
        if out.returncode:
            return
        subprocess.run(["sleep", "0.01"], check=True)


def fresh(root: Root, saved: Path) -> None:
    shutil.rmtree(root.extern)
    shutil.copytree(saved, root.extern, symlinks=True)
    git(root.extern, "update-index", "-q", "--refresh")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["apply", "unapply"])
@pytest.mark.parametrize("who", ["parent", "child"])
def test_killed_at_every_step(root: Root, tmp_path: Path, command: str, who: str) -> None:
    trees = {"apply": (root.upstream.tree("1.0"), root.upstream.tree())}
    trees["unapply"] = trees["apply"][::-1]
    old, new = trees[command]
    if command == "unapply":
        subprocess.run(
            [sys.executable, "-m", "patchset", "--root", root.path, "apply"], check=True, capture_output=True
        )
    (root.extern / "README").write_text("my own words\n")
    saved = tmp_path / "saved"
    shutil.copytree(root.extern, saved, symlinks=True)
    mine = root.extern / "README"
    step = 0
    while True:
        step += 1
        assert step < 400, "the harness never let the run finish"
        was_killed = killed_at(step, who, "--root", str(root.path), command)
        if not was_killed:
            break
        wait_for_children(root)
        assert mine.read_text() == "my own words\n"
        if who == "parent":
            mine.write_text("a project\n")
            assert root.tree_on_disk() in (old, new), f"step {step}"
            mine.write_text("my own words\n")
        again = subprocess.run(
            [sys.executable, "-m", "patchset", "--root", root.path, command], capture_output=True, check=False
        )
        assert again.returncode == 0, f"step {step}: {again.stderr.decode()}"
        assert mine.read_text() == "my own words\n"
        assert git(root.extern, "rev-parse", "HEAD^{tree}") == new
        assert git(root.extern, "status", "--porcelain") == "M README"
        assert not (root.extern / ".git/patchset/stage").exists()
        assert not lock(root)
        fresh(root, saved)
    assert step > (10 if who == "parent" else 5), "the harness saw too little"
    assert git(root.extern, "rev-parse", "HEAD^{tree}") == new


def lock(root: Root) -> bool:
    return (root.extern / ".git/index.lock").exists()


@pytest.mark.slow
def test_interrupted_by_the_user(root: Root) -> None:
    """Ctrl-C during the renames waits for them; the run ends with 130, the tree is the new one."""
    program = HARNESS.replace("os.kill(os.getpid(), signal.SIGKILL)", "os.kill(main_process, signal.SIGINT)")
    # Whoever is started in the background of a script inherits that SIGINT is ignored; a terminal's user does not.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + program
    ends = set()
    for step in range(1, 40):
        done = subprocess.run(
            [sys.executable, "-c", program, str(step), "child", "--root", str(root.path), "apply"],
            capture_output=True,
            check=False,
        )
        ends.add(done.returncode)
        assert root.tree_on_disk() == root.upstream.tree()
        subprocess.run([sys.executable, "-m", "patchset", "--root", root.path, "unapply"], check=True)
        if done.returncode == 0:
            break
    assert ends == {0, 130}


@pytest.mark.slow
def test_interrupted_at_every_step(root: Root) -> None:
    """Ctrl-C in the tool's own process leaves no lock of git's behind, and the next run goes through."""
    program = HARNESS.replace("signal.SIGKILL", "signal.SIGINT")
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + program
    trees = (root.upstream.tree("1.0"), root.upstream.tree())
    for step in range(1, 200):
        arguments = [str(step), "parent", "--root", str(root.path), "apply"]
        process = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False)
        assert process.returncode in (0, 130), f"step {step}: {process.stderr.decode()}"
        assert not lock(root), f"step {step}"
        assert root.tree_on_disk() in trees
        if process.returncode == 0:
            break
        for command in ("apply", "unapply"):
            arguments = ["-m", "patchset", "--root", str(root.path), command]
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    assert step > 10
    assert process.returncode == 0


def test_two_runs_at_once(root: Root) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from patchset.worktree.lock import hold\n"
        "with hold(Path(sys.argv[1]), 'foo'): print('held', flush=True); time.sleep(60)"
    )
    file = root.path / ".patchset/foo.lock"
    with subprocess.Popen([sys.executable, "-c", holder, str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = subprocess.run(
            [sys.executable, "-m", "patchset", "--root", root.path, "apply"], capture_output=True, check=False
        )
        process.kill()
    assert done.returncode == 8
    assert f"process {process.pid}" in done.stderr.decode()
    assert root.head == root.base
    assert subprocess.run([sys.executable, "-m", "patchset", "--root", root.path, "apply"], check=False).returncode == 0


@pytest.mark.slow
def test_full_disk(root: Root, tmp_path: Path) -> None:
    """On a file system with hardly any room: refused with the remedy, and everything is as before."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        shutil.copytree(root.path, small / "root", symlinks=True)
        copy = Root(small / "root", root.upstream, root.base)
        git(copy.extern, "update-index", "-q", "--refresh")
        with (small / "filler").open("wb") as stream:
            left = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
            stream.write(b"x" * (left - 4096 * 3))
        status = git(copy.extern, "--no-optional-locks", "status", "--porcelain")
        for keep in range(0, 40, 2):
            done = subprocess.run(
                [sys.executable, "-m", "patchset", "--root", copy.path, "apply"], capture_output=True, check=False
            )
            if done.returncode == 0:
                break
            assert done.returncode == 9, done.stderr.decode()
            assert "remedy" in done.stderr.decode()
            assert "Traceback" not in done.stderr.decode()
            assert copy.head == root.base
            assert git(copy.extern, "--no-optional-locks", "status", "--porcelain") == status
            os.truncate(small / "filler", max(0, left - 4096 * (3 + keep)))
        assert done.returncode == 0, "never went through"
        assert git(copy.extern, "rev-parse", "HEAD^{tree}") == root.upstream.tree()
    finally:
        subprocess.run(["umount", str(small)], check=False)


def test_unwritable_folder_puts_everything_back(root: Root) -> None:
    if os.geteuid() == 0:
        done = subprocess.run(["chattr", "+i", root.extern / "pkg/two.py"], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("runs as root, and the file system has no immutable files")
    else:
        (root.extern / "pkg").chmod(0o555)
    before = root.tree_on_disk()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "patchset", "--root", root.path, "apply"], capture_output=True, check=False
        )
    finally:
        subprocess.run(["chattr", "-i", root.extern / "pkg/two.py"], capture_output=True, check=False)
        (root.extern / "pkg").chmod(0o755)
    assert done.returncode == 9, done.stderr.decode()
    assert root.tree_on_disk() == before
    assert root.head == root.base
    assert not (root.extern / ".git/index.lock").exists()
    again = subprocess.run([sys.executable, "-m", "patchset", "--root", root.path, "apply"], check=False)
    assert again.returncode == 0
    assert root.tree_on_disk() == root.upstream.tree()


@pytest.mark.parametrize(
    ("program", "words"), [("", "git is not installed"), ("echo git version 2.17.1", "git is too old")]
)
def test_git_missing_or_too_old(root: Root, tmp_path: Path, program: str, words: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    if program:
        (folder / "git").write_text(f"#!/bin/sh\n{program}\n")
        (folder / "git").chmod(0o755)
        shutil.copy("/bin/sh", folder / "sh")
    done = subprocess.run(
        [sys.executable, "-m", "patchset", "--root", root.path, "apply"],
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 9
    assert words in done.stderr.decode()
    assert "2.38" in done.stderr.decode()
