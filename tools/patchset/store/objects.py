"""Reading trees and blobs, and writing commits, in an object store with no work tree."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from patchset.store.git import Git, failure
from patchset.store.reader import PipeProcess
from patchset.store.text import encode, records
from toolkit.errors import IntegrityError

DIRECTORY = 0o040000
SYMLINK = 0o120000
GITLINK = 0o160000  # a submodule: its object is a commit of another repository


@dataclass(frozen=True)
class TreeEntry:
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
    def entry(self) -> TreeEntry:
        return TreeEntry(self.mode, self.blob)


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
class CommitIds:
    """The ids of a commit that was written, and of its tree."""

    commit: str
    tree: str


def blob_id(data: bytes) -> str:
    """Return git's object id of a blob: SHA-1 over `blob <size>\\0` and the content."""
    digest = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


def new_file(mode: int, data: bytes) -> File:
    return File(mode, blob_id(data), data)


def entries(git: Git, tree: str, paths: Iterable[str]) -> dict[str, TreeEntry]:
    """Return the entries of `tree` at exactly `paths`; those that do not exist are left out."""
    wanted = sorted(set(paths))
    listed: dict[str, TreeEntry] = {}
    # The argument list has a limit; a series that touches thousands of files is read in turns.
    for at in range(0, len(wanted), 500):
        for record in records(git.run("ls-tree", "-z", "--full-tree", tree, "--", *wanted[at : at + 500])):
            head, _, path = record.partition("\t")
            mode, _, oid = head.split()
            listed[path] = TreeEntry(int(mode, 8), oid)
    return {path: listed[path] for path in wanted if path in listed}


def files_below(git: Git, tree: str, folder: str) -> list[str]:
    """Return the paths of all files of `tree` below a folder."""
    return records(git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", tree, "--", f"{folder}/"))


def blobs(git: Git, oids: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of blobs, each read once.

    Raises:
        IntegrityError: an object is missing from the store.
    """
    contents = {}
    for oid in dict.fromkeys(oids):
        data = git.contents(oid)
        if data is None:
            raise IntegrityError(
                f"object {oid} is missing from {git.gitdir}", remedy="remove that folder and run again"
            )
        contents[oid] = data
    return contents


def write_commits(git: Git, ref: str, parent: str | None, commits: Sequence[NewCommit]) -> list[CommitIds]:
    """Write commits one on the other, the first on `parent`, and set `ref` to the last.

    The commits depend on nothing but their content: the committer is the author. Nothing becomes visible
    unless all were written.

    Raises:
        GitError, EnvironmentProblem: git failed, or the disk is full.
    """
    with FastImport(git) as session:
        ids = []
        for number, commit in enumerate(commits, 1):
            start = parent if number == 1 else f":{number - 1}"
            session.commit(ref, number, commit.author, commit.message, start)
            for path in (path for path, file in commit.files.items() if file is None):
                session.delete(path)
            for path, file in commit.files.items():
                if file is not None:
                    session.modify(path, file.mode, file.data)
            session.end()
            ids.append(session.ids(number))
    return ids


class FastImport(PipeProcess):
    """One `git fast-import` process (git-fast-import(1)) that writes objects and answers for them."""

    def __init__(self, git: Git) -> None:
        settings = ("-c", "core.compression=1", "-c", "fastimport.unpackLimit=100")
        options = ("--quiet", "--done", "--force", "--cat-blob-fd=1", "--depth=0")
        # The objects are to stay, and go into the repository itself.
        own = replace(git, scratch=None)
        super().__init__(own.start(*settings, "fast-import", *options, stderr=subprocess.PIPE))

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
        text = encode(message)
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

    def ids(self, mark: int) -> CommitIds:
        """Return the ids of the commit with that mark and of its tree."""
        self._write(b'get-mark :%d\nls :%d ""\n' % (mark, mark))
        self._in.flush()
        commit = self._out.readline().decode().strip()
        tree = self._out.readline().split()
        if not commit or len(tree) < 3:
            raise self._finish_failed()
        return CommitIds(commit, tree[2].decode())

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
        message = self._process.stderr.read()
        self._process.wait()
        return failure(("fast-import",), message)


def import_files(
    git: Git,
    ref: str,
    author: Signature,
    message: str,
    files: Iterable[tuple[str, int, bytes]],
    progress: Callable[[int], None] = lambda count: None,
) -> CommitIds:
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
        return session.ids(1)


def _quote(path: str) -> bytes:
    return b'"' + encode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
