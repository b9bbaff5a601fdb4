"""Three-way merges of trees, by git-merge-tree(1), with nothing of it in a work tree or in the repository.

git 2.38 merges commits, not trees, and finds their base itself: each merge gets three commits of its own, of which
the base is the parent of the other two. They, and what the merge writes, lie in a folder that goes afterwards.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.store import reader
from patchset.store.git import SCRATCH, Git, GitError
from patchset.store.index import Stage
from patchset.store.objects import TreeEntry
from patchset.store.text import decode
from toolkit.files import replace_file

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
class MergeConflict:
    """One conflict as git reports it: its kind (`contents`, `modify/delete`), the paths it is about, its message."""

    kind: str
    paths: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class MergeResult:
    """The result of a merge; with conflicts, `tree` has the files with markers (zdiff3 style)."""

    tree: str
    stages: tuple[Stage, ...] = ()
    conflicts: tuple[MergeConflict, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.stages and not self.conflicts

    @property
    def paths(self) -> tuple[str, ...]:
        """The conflicted paths."""
        return tuple(dict.fromkeys([stage.path for stage in self.stages]))


@contextmanager
def scratch(git: Git, private: Path) -> Iterator[Git]:
    """Give a git whose new objects lie in a folder below `private`, which goes at the end."""
    # Imported here: most runs merge nothing.
    import tempfile

    private.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=private))
    try:
        yield replace(git, scratch=folder)
    finally:
        reader.close(folder)
        shutil.rmtree(folder, ignore_errors=True)


def merge(git: Git, triples: Sequence[Triple]) -> list[MergeResult]:
    """Merge trees, many at once; `git` is one of `scratch`.

    Raises:
        GitError: git failed, or a tree is missing.
    """
    results: dict[Triple, MergeResult] = {}
    requests: dict[Triple, str] = {}
    for triple in dict.fromkeys(triples):
        if triple.ours in (triple.base, triple.theirs):
            results[triple] = MergeResult(triple.theirs)
        elif triple.theirs == triple.base:
            results[triple] = MergeResult(triple.ours)
        else:
            base = _commit(git, triple.base)
            requests[triple] = f"{_commit(git, triple.ours, base)} {_commit(git, triple.theirs, base)}\n"
    if requests:
        results |= zip(requests, _answers(git, list(requests.values())), strict=True)
    return [results[triple] for triple in triples]


def _answers(git: Git, lines: list[str]) -> list[MergeResult]:
    """Give requests to git, as `merge-tree --stdin` takes them, in as many processes as there are processors."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]

    def run(part: list[str]) -> list[MergeResult]:
        # Status 1 stands for conflicts in some versions of git.
        out = git.run(*settings, "merge-tree", "--write-tree", "--stdin", stdin="".join(part).encode(), allowed=(0, 1))
        answers = list(_parse(out))
        if len(answers) != len(part):
            raise GitError(f"git merge-tree answered {len(answers)} of {len(part)} merges")
        return answers

    # A process starts in the time of one small merge.
    count = min(os.cpu_count() or 1, len(lines) // 2)
    if count < 2:
        return run(lines)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(run, (lines[at::count] for at in range(count))))
    return [parts[at % count][at // count] for at in range(len(lines))]


def _parse(out: bytes) -> Iterator[MergeResult]:
    """Parse `merge-tree --stdin`'s output (git-merge-tree(1), OUTPUT)."""
    fields = iter(decode(out).split("\0"))
    for status in fields:
        if not status:
            continue
        tree = next(fields)
        stages, conflicts = [], []
        if status == "0":
            while line := next(fields):
                head, _, path = line.partition("\t")
                mode, oid, number = head.split()
                stages.append(Stage(path, int(number), TreeEntry(int(mode, 8), oid)))
            while count := next(fields):
                paths = tuple(next(fields) for _ in range(int(count)))
                kind, message = next(fields), next(fields)
                if kind.startswith("CONFLICT"):
                    conflicts.append(MergeConflict(kind.partition("(")[2].rstrip(")"), paths, message.strip()))
        else:
            next(fields)
        yield MergeResult(tree, tuple(stages), tuple(conflicts))


def _commit(git: Git, tree: str, parent: str | None = None) -> str:
    """Write a commit as a loose object (gitformat-loose(5)); a process for each would take longer than its merge."""
    assert git.scratch is not None
    above = f"parent {parent}\n" if parent else ""
    body = f"tree {tree}\n{above}author {_NOBODY}\ncommitter {_NOBODY}\n\n\n".encode()
    data = b"commit %d\0" % len(body) + body
    oid = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    file = git.scratch / oid[:2] / oid[2:]
    if not file.exists():
        replace_file(file, zlib.compress(data, 1))
    return oid
