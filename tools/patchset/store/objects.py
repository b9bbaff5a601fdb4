"""Reading trees and blobs, and writing commits, in an object store with no work tree."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from patchset.store.git import Git, environment, failure, missing
from toolkit.errors import IntegrityError

DIRECTORY = 0o040000
SYMLINK = 0o120000
GITLINK = 0o160000  # a submodule: its object is a commit of another repository


@dataclass(frozen=True)
class Entry:
    """A tree entry: git's file mode and the object id (40 hex digits)."""

    mode: int
    oid: str


@dataclass(frozen=True)
class File:
    """A file with its content; `blob` is the git blob id of `data`."""

    mode: int
    blob: str
    data: bytes

    @property
    def entry(self) -> Entry:
        return Entry(self.mode, self.blob)


@dataclass(frozen=True)
class Signature:
    """Author or committer; `when` is git's raw date, seconds and offset (`1763899200 +0000`)."""

    name: str
    email: str
    when: str


@dataclass(frozen=True)
class NewCommit:
    """A commit to write: its message, and per path the new file, or None for one that goes."""

    author: Signature
    message: str
    files: Mapping[str, File | None]


@dataclass(frozen=True)
class Written:
    """A commit that was written, with its tree."""

    commit: str
    tree: str


def blob_id(data: bytes) -> str:
    """Return git's object id of a blob: SHA-1 over `blob <size>\\0` and the content."""
    digest = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


def new_file(mode: int, data: bytes) -> File:
    return File(mode, blob_id(data), data)


def entries(git: Git, tree: str, paths: Iterable[str]) -> dict[str, Entry]:
    """Return the entries of `tree` at exactly `paths`; those that do not exist are left out."""
    wanted = sorted(set(paths))
    found: dict[str, Entry] = {}
    # The argument list has a limit; a series that touches thousands of files is read in turns.
    for at in range(0, len(wanted), 500):
        out = git.run("ls-tree", "-z", "--full-tree", tree, "--", *wanted[at : at + 500])
        for record in out.split(b"\0"):
            if record:
                head, _, name = record.partition(b"\t")
                mode, _, oid = head.split()
                found[_text(name)] = Entry(int(mode, 8), oid.decode())
    return {path: found[path] for path in wanted if path in found}


def blobs(git: Git, oids: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of blobs, each read once.

    Raises:
        IntegrityError: an object is missing from the store.
    """
    found = {}
    for oid in dict.fromkeys(oids):
        data = git.contents(oid)
        if data is None:
            raise IntegrityError(
                f"object {oid} is missing from {git.gitdir}", remedy="remove that folder and run again"
            )
        found[oid] = data
    return found


def diff(git: Git, old: str, new: str) -> dict[str, tuple[Entry | None, Entry | None]]:
    """Return every path that differs between two trees, with its entry before and after."""
    if old == new:
        return {}
    out = git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", old, new).split(b"\0")
    found: dict[str, tuple[Entry | None, Entry | None]] = {}
    for at in range(0, len(out) - 1, 2):
        old_mode, new_mode, old_oid, new_oid, _ = out[at].lstrip(b":").split(b" ")
        before = Entry(int(old_mode, 8), old_oid.decode()) if int(old_mode, 8) else None
        after = Entry(int(new_mode, 8), new_oid.decode()) if int(new_mode, 8) else None
        found[_text(out[at + 1])] = (before, after)
    return found


def write_commits(git: Git, ref: str, parent: str | None, commits: Sequence[NewCommit]) -> list[Written]:
    """Write commits one on the other, the first on `parent`, and set `ref` to the last.

    The commits depend on nothing but their content: the committer is the author. Nothing becomes visible
    unless all were written.

    Raises:
        GitError, EnvironmentProblem: git failed, or the disk is full.
    """
    with FastImport(git) as session:
        written = []
        for number, commit in enumerate(commits, 1):
            start = parent if number == 1 else f":{number - 1}"
            session.commit(ref, number, commit.author, commit.message, start)
            for path, file in commit.files.items():
                if file is None:
                    session.delete(path)
            for path, file in commit.files.items():
                if file is not None:
                    session.modify(path, file.mode, file.data)
            session.end()
            written.append(session.written(number))
    return written


class FastImport:
    """One `git fast-import` process (git-fast-import(1)) that writes objects and answers for them."""

    def __init__(self, git: Git) -> None:
        command = git.command("-c", "core.compression=1", "-c", "fastimport.unpackLimit=100")
        command += ["fast-import", "--quiet", "--done", "--force", "--cat-blob-fd=1", "--depth=0"]
        self._process = self._start(command)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin
        self._out = self._process.stdout

    @staticmethod
    def _start(command: list[str]) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment())
        except FileNotFoundError:
            raise missing() from None

    def __enter__(self) -> FastImport:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._write(b"done\n")
            self._finish()
            return
        # Without `done`, fast-import fails at the end of its input and updates no ref.
        self._process.kill()
        self._process.communicate()

    def commit(self, ref: str, mark: int, author: Signature, message: str, parent: str | None) -> None:
        """Start a commit; `modify` and `delete` fill it, `end` closes it."""
        who = f"{author.name} <{author.email}> {author.when}"
        text = message.encode("utf-8", errors="surrogateescape")
        self._write(f"commit {ref}\nmark :{mark}\nauthor {who}\ncommitter {who}\n".encode())
        self._write(b"data %d\n%b\n" % (len(text), text))
        if parent is not None:
            self._write(f"from {parent}\n".encode())

    def modify(self, path: str, mode: int, data: bytes) -> None:
        self._write(b"M %o inline %b\ndata %d\n" % (mode, _quote(path), len(data)))
        self._write(data)
        self._write(b"\n")

    def delete(self, path: str) -> None:
        self._write(b"D %b\n" % _quote(path))

    def end(self) -> None:
        self._write(b"\n")

    def written(self, mark: int) -> Written:
        """Return the ids of the commit with that mark and of its tree."""
        self._write(b'get-mark :%d\nls :%d ""\n' % (mark, mark))
        self._in.flush()
        commit = self._out.readline().decode().strip()
        tree = self._out.readline().split()
        if not commit or len(tree) < 3:
            raise self._finish_failed()
        return Written(commit, tree[2].decode())

    def _write(self, data: bytes) -> None:
        try:
            self._in.write(data)
        except BrokenPipeError:
            raise self._finish_failed() from None

    def _finish(self) -> None:
        try:
            self._in.close()
        except BrokenPipeError:
            raise self._finish_failed() from None
        self._out.read()
        if self._process.wait():
            raise self._finish_failed()

    def _finish_failed(self) -> Exception:
        assert self._process.stderr is not None
        said = self._process.stderr.read()
        self._process.wait()
        return failure(("fast-import",), said)


def import_files(
    git: Git,
    ref: str,
    author: Signature,
    message: str,
    files: Iterable[tuple[str, int, bytes]],
    progress: Callable[[int], None] = lambda done: None,
) -> Written:
    """Write one parentless commit of (path, mode, content) and set `ref` to it; streams, one file at a time.

    Raises:
        GitError, EnvironmentProblem: git failed, or the disk is full.
    """
    with FastImport(git) as session:
        session.commit(ref, 1, author, message, None)
        for count, (path, mode, data) in enumerate(files, 1):
            session.modify(path, mode, data)
            progress(count)
        session.end()
        return session.written(1)


def _quote(path: str) -> bytes:
    raw = path.encode("utf-8", errors="surrogateescape")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="surrogateescape")
