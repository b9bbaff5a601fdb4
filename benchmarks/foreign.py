"""Rebases series of Debian's `debian/patches` from one upstream release to another, and holds the result against git.

Give it folders that hold two Debian source packages each (`.orig.tar.*` and `.debian.tar.*`), the older one first,
as `apt-get source --download-only` fetches them:

    python benchmarks/foreign.py openssh/bookworm:openssh/trixie ...

Every patch that conflicts is left out, in `git rebase` by --skip as well. Where both take the same patches the trees
must be the same one; a patch that only one of them takes is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from patchset.engine.message import author_and_message
from patchset.engine.replay import PatchStep, ReplayedStep, replay
from patchset.model.component import Base, Component
from patchset.model.series import Series, load
from patchset.store import merge as merging
from patchset.store.git import Git
from patchset.store.objects import NewCommit, write_commits
from patchset.workflow.compute import apply_in_memory, tree_of
from toolkit.errors import PatchsetError

WHO = ("-c", "user.name=trial", "-c", "user.email=trial@localhost", "-c", "advice.skippedCherryPicks=false")


def git(folder: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "GIT_EDITOR": "true", "LC_ALL": "C"}
    answer = subprocess.run(
        ["git", *WHO, *args], cwd=folder, capture_output=True, text=True, errors="replace", env=env, check=False
    )
    if check and answer.returncode:
        raise SystemExit(f"git {' '.join(args)}: {answer.stderr}")
    return answer


@dataclass
class Count:
    packages: int = 0
    patches: int = 0
    clean: int = 0
    conflicts: int = 0
    upstreamed: int = 0
    same_tree: int = 0
    ours: float = 0.0
    theirs: float = 0.0


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive without the folder at its top."""
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        tops = {member.name.removeprefix("./").split("/")[0] for member in members if member.name not in (".", "./")}
        top = f"{tops.pop()}/" if len(tops) == 1 and not archive.name.count(".debian.tar") else ""
        for member in members:
            name = member.name.removeprefix("./")
            if name.startswith(top) and name != top.rstrip("/"):
                member.name = name.removeprefix(top)
                member.mode |= 0o600
                tar.extract(member, folder, filter="tar")


def one(source: Path, suffix: str) -> Path:
    files = [path for path in source.iterdir() if suffix in path.name and not path.name.endswith((".asc", ".sig"))]
    if len(files) != 1:
        raise LookupError(f"{source}: {len(files)} files with {suffix}")
    return files[0]


def commit_release(work: Path, archive: Path, name: str) -> str:
    for path in work.iterdir():
        if path.name != ".git":
            subprocess.run(["rm", "-rf", str(path)], check=True)
    unpack(archive, work)
    git(work, "add", "-A", "-f")
    git(work, "commit", "-q", "--allow-empty", "-m", name)
    git(work, "tag", name)
    return git(work, "rev-parse", "HEAD").stdout.strip()


def trial(old: Path, new: Path, folder: Path, count: Count) -> None:
    title = old.parent.name
    work = folder / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    git(work, "config", "core.autocrlf", "false")
    start = commit_release(work, one(old, ".orig.tar."), "old")
    onto = commit_release(work, one(new, ".orig.tar."), "new")
    unpack(one(old, ".debian.tar."), folder / "debian-files")
    patches = folder / "debian-files/debian/patches"
    if not (patches / "series").is_file():
        print(f"{title}: no series")
        return
    component = Component(title, ".", None, None, None, ())
    # Files that the series does not list are Debian's own affair.
    listed = {line.split()[0] for line in (patches / "series").read_text().splitlines() if line.split("#")[0].strip()}
    for path in patches.rglob("*"):
        if path.suffix in (".patch", ".diff") and path.relative_to(patches).as_posix() not in listed:
            path.unlink()
    series, findings = load(component, Base("", patches))
    if series is None:
        print(f"{title}: {findings[0].render()}")
        return
    store = Git(work / ".git")
    try:
        steps, tip = commit_series(store, series, start)
    except PatchsetError as error:
        print(f"{title}: not applied: {error.message}")
        return
    begin = time.perf_counter()
    replayed, refused, tree = ours(store, steps, tree_of(store, onto), folder)
    count.ours += time.perf_counter() - begin
    git(work, "branch", "series", tip)
    git(work, "checkout", "-q", "--detach", onto)
    begin = time.perf_counter()
    their_tree, skipped = theirs(work, onto)
    count.theirs += time.perf_counter() - begin
    names = [step.name for step in steps]
    count.packages += 1
    count.patches += len(steps)
    count.conflicts += len(refused)
    count.upstreamed += sum(item.after == item.before for item in replayed if not item.skipped)
    count.clean += len(steps) - len(refused)
    by_commit = dict(zip(commits_of(work, start, tip), names, strict=True))
    their_names = {by_commit.get(commit, commit) for commit in skipped}
    same = tree == their_tree
    count.same_tree += same
    verdict = "same tree" if same else f"OTHER TREE {tree} {their_tree}"
    print(f"{title}: {len(steps)} patches, {len(refused)} conflict, {verdict}", flush=True)
    for name in sorted(set(refused) ^ their_names):
        print(f"    {name}: conflicts in {'ours' if name in refused else 'git rebase'} only")


def commits_of(work: Path, start: str, tip: str) -> list[str]:
    return git(work, "rev-list", "--reverse", f"{start}..{tip}").stdout.split()


def commit_series(store: Git, series: Series, start: str) -> tuple[list[PatchStep], str]:
    applied = apply_in_memory(store, series, start)
    written = write_commits(
        store, "refs/trial", start, [NewCommit(*author_and_message(item.patch), item.files) for item in applied]
    )
    steps = []
    tree = tree_of(store, start)
    for item, commit in zip(applied, written, strict=True):
        steps.append(PatchStep(item.patch.name, tree, commit.tree))
        tree = commit.tree
    return steps, written[-1].commit


def ours(store: Git, steps: list[PatchStep], onto: str, folder: Path) -> tuple[list[ReplayedStep], dict[str, str], str]:
    """Replay the steps, each conflict skipped; return those replayed, the names of those skipped, and the tree."""
    skip: dict[str, str] = {}
    with merging.scratch(store, folder / "private") as scratch:
        tree, replayed = onto, list[ReplayedStep]()
        rest = steps
        while True:
            part, stopped = replay(rest, tree, partial(merging.merge, scratch))
            replayed += part
            tree = part[-1].after if part else tree
            if stopped is None:
                return replayed, skip, tree
            skip[stopped.step.name] = "conflict"
            rest = rest[rest.index(stopped.step) + 1 :]


def theirs(work: Path, onto: str) -> tuple[str, list[str]]:
    """`git rebase` of the branch, each conflict skipped; return its tree and the commits that were skipped."""
    skipped = []
    settings = ("-c", "merge.renameLimit=7000", "-c", "rebase.instructionFormat=%H")
    answer = git(work, *settings, "rebase", "-q", "--empty=drop", "--onto", onto, "old", "series", check=False)
    while answer.returncode:
        state = work / ".git/rebase-merge"
        if not state.is_dir():
            raise SystemExit(f"git rebase: {answer.stderr}")
        skipped.append((state / "stopped-sha").read_text().strip())
        answer = git(work, *settings, "rebase", "--skip", check=False)
    full = [git(work, "rev-parse", commit).stdout.strip() for commit in skipped]
    return git(work, "rev-parse", "HEAD^{tree}").stdout.strip(), full


def main() -> None:
    count = Count()
    for pair in sys.argv[1:]:
        old, new = map(Path, pair.split(":"))
        with tempfile.TemporaryDirectory(prefix="patchset-trial-") as folder:
            try:
                trial(old, new, Path(folder), count)
            except LookupError as error:
                print(error)
    print(
        f"{count.packages} packages, {count.patches} patches: {count.clean} merged ({count.upstreamed} of them were "
        f"upstream already), {count.conflicts} conflicts; the same tree as git rebase for {count.same_tree} packages; "
        f"{count.ours:.1f} s, git rebase {count.theirs:.1f} s"
    )


if __name__ == "__main__":
    main()
