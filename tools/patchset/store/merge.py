"""Three-way merges of trees, by git-merge-tree(1), with nothing of it in a work tree or in the repository.

git 2.38 merges commits, not trees, and finds their base itself: each merge gets three commits of its own, of which
the base is the parent of the other two. They, and what the merge writes, lie in a folder that goes afterwards.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.store import reader
from patchset.store.git import Git, GitError
from patchset.store.objects import Entry

# The user's settings must not decide what a merge gives. Directories are not taken as renamed: where a file that
# a patch adds should follow one, the merge says so and stops.
_SETTINGS = (
    "merge.renames=true",
    "merge.renameLimit=7000",
    "merge.directoryRenames=conflict",
    "merge.renormalize=false",
    "merge.conflictStyle=zdiff3",
    "core.attributesFile=/dev/null",
    # What is written goes soon: packing it well costs more than the merge.
    "core.looseCompression=1",
)
_NOBODY = "patchset <patchset@localhost> 0 +0000"


@dataclass(frozen=True)
class Triple:
    """The trees of a merge: what `theirs` did to `base` is to be done to `ours`."""

    base: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class Stage:
    """A conflicted path as git's index holds it: 1 is the base's, 2 ours, 3 theirs."""

    path: str
    number: int
    entry: Entry


@dataclass(frozen=True)
class Clash:
    """One conflict in git's words: its kind (`contents`, `modify/delete`) and the paths that it is about."""

    kind: str
    paths: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Merged:
    """What a merge gave; with conflicts, `tree` has the files with markers (zdiff3 style)."""

    tree: str
    stages: tuple[Stage, ...] = ()
    clashes: tuple[Clash, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.stages and not self.clashes

    @property
    def paths(self) -> tuple[str, ...]:
        """The conflicted paths."""
        return tuple(dict.fromkeys([stage.path for stage in self.stages]))


@contextmanager
def scratch(git: Git, private: Path) -> Iterator[Git]:
    """Give a git whose new objects lie in a folder below `private`, which goes at the end."""
    private.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=private))
    made = replace(git, scratch=folder)
    try:
        yield made
    finally:
        reader.close(folder)
        shutil.rmtree(folder, ignore_errors=True)


def clear(private: Path) -> None:
    """Remove what a run that was killed left behind; the caller holds the component's lock."""
    for folder in private.glob("scratch-*"):
        shutil.rmtree(folder, ignore_errors=True)


def merge(git: Git, triples: Sequence[Triple]) -> list[Merged]:
    """Merge trees, many at once; `git` is one of `scratch`.

    Raises:
        GitError: git failed, or a tree is missing.
    """
    found: dict[Triple, Merged] = {}
    asked: list[Triple] = []
    lines: list[str] = []
    for triple in dict.fromkeys(triples):
        if triple.ours in (triple.base, triple.theirs):
            found[triple] = Merged(triple.theirs)
        elif triple.theirs == triple.base:
            found[triple] = Merged(triple.ours)
        else:
            base = _commit(git, triple.base)
            lines.append(f"{_commit(git, triple.ours, base)} {_commit(git, triple.theirs, base)}\n")
            asked.append(triple)
    if asked:
        found |= zip(asked, _answered(git, lines), strict=True)
    return [found[triple] for triple in triples]


def _answered(git: Git, lines: list[str]) -> list[Merged]:
    """Give merges to git, as `merge-tree --stdin` wants them, in as many processes as there are processors."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]

    def ask(part: list[str]) -> list[Merged]:
        # 1 tells of conflicts in some versions of git.
        out = git.run(*settings, "merge-tree", "--write-tree", "--stdin", stdin="".join(part).encode(), allowed=(0, 1))
        answers = list(_answers(out))
        if len(answers) != len(part):
            raise GitError(f"git merge-tree answered {len(answers)} of {len(part)} merges")
        return answers

    # A process starts in the time of one small merge.
    count = min(os.cpu_count() or 1, len(lines) // 2)
    if count < 2:
        return ask(lines)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(ask, (lines[at::count] for at in range(count))))
    return [parts[at % count][at // count] for at in range(len(lines))]


def _answers(out: bytes) -> Iterator[Merged]:
    """Read `merge-tree --stdin`'s output (git-merge-tree(1), OUTPUT)."""
    fields = iter(out.decode("utf-8", errors="surrogateescape").split("\0"))
    for status in fields:
        if not status:
            continue
        tree = next(fields)
        stages, clashes = [], []
        if status == "0":
            while line := next(fields):
                head, _, path = line.partition("\t")
                mode, oid, number = head.split()
                stages.append(Stage(path, int(number), Entry(int(mode, 8), oid)))
            while count := next(fields):
                paths = tuple(next(fields) for _ in range(int(count)))
                kind, message = next(fields), next(fields)
                if kind.startswith("CONFLICT"):
                    clashes.append(Clash(kind.partition("(")[2].rstrip(")"), paths, message.strip()))
        else:
            next(fields)
        yield Merged(tree, tuple(stages), tuple(clashes))


def _commit(git: Git, tree: str, parent: str | None = None) -> str:
    """Write a commit as a loose object (gitformat-loose(5)); a process for each would take longer than its merge."""
    assert git.scratch is not None
    above = f"parent {parent}\n" if parent else ""
    body = f"tree {tree}\n{above}author {_NOBODY}\ncommitter {_NOBODY}\n\n\n".encode()
    data = b"commit %d\0" % len(body) + body
    oid = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    file = git.scratch / oid[:2] / oid[2:]
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_suffix(".new")
        temporary.write_bytes(zlib.compress(data, 1))
        os.replace(temporary, file)
    return oid


def edit_tree(git: Git, tree: str, files: dict[str, tuple[int, bytes] | None]) -> str:
    """Return `tree` with files (mode, content) put in place of what it has, or taken away (None)."""
    assert git.scratch is not None
    env = {"GIT_INDEX_FILE": str(git.scratch / "index")}
    git.run("read-tree", tree, env=env)
    lines = []
    # What goes comes first: a file may be put in the place of a folder whose files go.
    for path, file in sorted(files.items(), key=lambda item: item[1] is not None):
        raw = path.encode("utf-8", errors="surrogateescape")
        if file is None:
            lines.append(b"0 " + b"0" * 40 + b"\t" + raw + b"\0")
            continue
        oid = git.run("hash-object", "-w", "--no-filters", "--stdin", stdin=file[1]).strip()
        lines.append(b"%o %b\t%b\0" % (file[0], oid, raw))
    git.run("update-index", "-z", "--index-info", stdin=b"".join(lines), env=env)
    return git.run("write-tree", env=env).decode().strip()
