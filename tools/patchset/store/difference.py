"""What differs between two trees: as entries, quickly and many in one process, and as the text of a patch."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from patchset.store.git import Git, GitError
from patchset.store.objects import Entry

Changes = dict[str, tuple[Entry | None, Entry | None]]

_SETTINGS = ("-c", "diff.suppressBlankEmpty=false", "-c", "core.attributesFile=/dev/null")
# What format-patch writes where nobody has configured anything, whatever the user has configured.
_FLAGS = (
    "-p",
    "-r",
    "-M50%",
    "--full-index",
    "--binary",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--diff-algorithm=myers",
    "--indent-heuristic",
    "--inter-hunk-context=0",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)


def patch_text(git: Git, old: str, new: str, context: int) -> bytes:
    """Return the diff of two trees in git's format, with `context` lines around each change."""
    return git.run(*_SETTINGS, "diff-tree", *_FLAGS, f"-U{context}", old, new)


class _DiffTree:
    """One `git diff-tree --stdin` process that answers for one pair of trees after the other."""

    # A line that is no object is printed back and flushed (builtin/diff-tree.c): it ends an answer. No line of a
    # patch is like it: those of a file's content have a sign before them.
    _END = b"end\n"

    def __init__(self, git: Git, *options: str) -> None:
        command = git.command(*_SETTINGS, "diff-tree", "--stdin", "-r", "--full-index", *options)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=git.environment()
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def ask(self, old: str, new: str) -> bytes:
        """Return what the process prints for two trees, without the line that repeats their names.

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

    def close(self) -> None:
        self._in.close()
        self._out.close()
        self._process.wait()


class Comparer:
    """Compares trees on demand, in one process for entries and one for each width of context."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._running: dict[tuple[str, ...], _DiffTree] = {}

    def compare(self, old: str, new: str) -> Changes:
        """Return every path that differs, with its entry before and after.

        Raises:
            GitError: a tree is missing.
        """
        if old == new:
            return {}
        records = self._process("-z", "--raw", "--no-renames").ask(old, new).split(b"\0")
        found: Changes = {}
        for at in range(0, len(records) - 1, 2):
            old_mode, new_mode, old_oid, new_oid, _ = records[at].lstrip(b":").split(b" ")
            before = Entry(int(old_mode, 8), old_oid.decode()) if int(old_mode, 8) else None
            after = Entry(int(new_mode, 8), new_oid.decode()) if int(new_mode, 8) else None
            found[records[at + 1].decode("utf-8", errors="surrogateescape")] = (before, after)
        return found

    def text(self, old: str, new: str, context: int) -> bytes:
        """Return the same as `patch_text`."""
        return self._process(*_FLAGS, f"-U{context}").ask(old, new)

    def _process(self, *options: str) -> _DiffTree:
        if options not in self._running:
            self._running[options] = _DiffTree(self._git, *options)
        return self._running[options]

    def close(self) -> None:
        for process in self._running.values():
            process.close()


@contextmanager
def comparer(git: Git) -> Iterator[Comparer]:
    """Give a comparer for as long as it is needed."""
    made = Comparer(git)
    try:
        yield made
    finally:
        made.close()
