"""The difference of two trees: as entries, or as the text of a patch; for one pair, or for many in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from patchset.store.git import Git, GitError
from patchset.store.objects import TreeEntry
from patchset.store.reader import PipeProcess
from patchset.store.text import records

# Each path that differs, with its entry before and after.
Changes = Mapping[str, tuple[TreeEntry | None, TreeEntry | None]]

_SETTINGS = ("-c", "diff.suppressBlankEmpty=false", "-c", "core.attributesFile=/dev/null")
_RAW = ("-r", "-z", "--raw", "--no-renames", "--full-index")
# format-patch's output where nobody has configured anything, whatever the user has configured.
_PATCH = (
    *("-p", "-r", "-M50%", "--full-index", "--binary", "--no-color", "--no-ext-diff", "--no-textconv"),
    *("--diff-algorithm=myers", "--indent-heuristic", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/"),
)


def diff(git: Git, old: str, new: str) -> Changes:
    """Return every path that differs between two trees."""
    return {} if old == new else _changes(git.run("diff-tree", *_RAW, old, new))


def patch_text(git: Git, old: str, new: str, context: int) -> bytes:
    """Return the diff of two trees in git's format, with `context` lines around each change."""
    return git.run(*_SETTINGS, "diff-tree", *_PATCH, f"-U{context}", old, new)


def _changes(output: bytes) -> Changes:
    """Parse `diff-tree --raw -z` (git-diff-tree(1), RAW OUTPUT FORMAT)."""
    fields = iter(records(output))
    changes = {}
    for record, path in zip(fields, fields, strict=True):
        old_mode, new_mode, old_oid, new_oid, _ = record.removeprefix(":").split(" ")
        changes[path] = (_entry(old_mode, old_oid), _entry(new_mode, new_oid))
    return changes


def _entry(mode: str, oid: str) -> TreeEntry | None:
    return TreeEntry(int(mode, 8), oid) if int(mode, 8) else None


class _DiffTree(PipeProcess):
    """One `git diff-tree --stdin` process that answers for one pair of trees after the other."""

    # A line that is no object is printed back and flushed (builtin/diff-tree.c): it ends an answer. No line of a
    # patch is like it: those of a file's content have a sign before them.
    _END = b"end\n"

    def compare(self, old: str, new: str) -> bytes:
        """Return the process's output for two trees, without the line that repeats their names.

        Raises:
            GitError: a tree is missing.
        """
        self._in.write(f"{old} {new}\n".encode() + self._END)
        self._in.flush()
        answer = bytearray()
        while not answer.endswith((b"\0" + self._END, b"\n" + self._END)):
            line = self._out.readline()
            answer += line
            if not line or answer == self._END:
                raise GitError(f"git diff-tree could not compare {old} and {new}")
        return bytes(answer).partition(b"\n")[2][: -len(self._END)]


class Comparer:
    """Compares trees on demand, in one process for entries and one for each width of context."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._running: dict[tuple[str, ...], _DiffTree] = {}

    def compare(self, old: str, new: str) -> Changes:
        """Return the same as `diff`.

        Raises:
            GitError: a tree is missing.
        """
        return {} if old == new else _changes(self._process(*_RAW).compare(old, new))

    def text(self, old: str, new: str, context: int) -> bytes:
        """Return the same as `patch_text`."""
        return self._process(*_PATCH, f"-U{context}").compare(old, new)

    def _process(self, *options: str) -> _DiffTree:
        if options not in self._running:
            self._running[options] = _DiffTree(self._git.start(*_SETTINGS, "diff-tree", "--stdin", *options))
        return self._running[options]

    def close(self) -> None:
        for process in self._running.values():
            process.close()


@contextmanager
def comparer(git: Git) -> Iterator[Comparer]:
    """Give a comparer for as long as it is needed."""
    instance = Comparer(git)
    try:
        yield instance
    finally:
        instance.close()
