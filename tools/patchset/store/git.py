"""Running git's plumbing in one repository, with the user's hooks, filters and prompts kept out."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from patchset.store.reader import Reader, reader
from toolkit.errors import EnvironmentProblem, PatchsetError

# merge-tree --write-tree came with 2.38; a series is applied and rebased with the same git.
OLDEST = (2, 38)
_NEUTRAL = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "core.warnAmbiguousRefs=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "advice.detachedHead=false",
)


class GitError(PatchsetError):
    """A git command failed where it should not; carries what git said."""

    exit_code = 9
    slug = "git"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a git process: the user's, less what redirects git elsewhere."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in _KEPT}
    env |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    return env | dict(extra or {})


# What users set to reach their hosts and to find their configuration.
_KEPT = frozenset(
    {
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_ASKPASS",
        "GIT_SSL_CAINFO",
        "GIT_SSL_NO_VERIFY",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_COUNT",
        "GIT_PROXY_COMMAND",
        "GIT_TRACE",
        "GIT_EXEC_PATH",
    }
    | {f"GIT_CONFIG_{part}_{number}" for part in ("KEY", "VALUE") for number in range(16)}
)


@dataclass(frozen=True)
class Git:
    """Git in one repository, named by its git directory; `work_tree` only where a command needs one.

    With `scratch`, a folder, new objects go there and not into the repository, whose own are read all the same
    (git's `GIT_ALTERNATE_OBJECT_DIRECTORIES`): what was computed on the way is thrown away with the folder.
    """

    gitdir: Path
    work_tree: Path | None = None
    scratch: Path | None = None

    def command(self, *args: str, neutral: bool = True) -> list[str]:
        settings = [part for setting in _NEUTRAL for part in ("-c", setting)] if neutral else []
        # Named even where none is needed: git would go to the one in the configuration, which may be gone.
        where = [f"--git-dir={self.gitdir}", f"--work-tree={self.work_tree or self.gitdir}"]
        return ["git", *settings, *where, *args]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of this repository's git processes."""
        found = environment(extra)
        if self.scratch is not None:
            # Git undoes C's quoting here; without it a colon would end the path.
            own = str(self.objects).replace("\\", "\\\\").replace('"', '\\"')
            found |= {"GIT_OBJECT_DIRECTORY": str(self.scratch), "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{own}"'}
        return found

    @property
    def objects(self) -> Path:
        """Where the repository keeps its objects; a linked work tree's git directory names another for them."""
        common = self.gitdir / "commondir"
        top = self.gitdir / common.read_text().strip() if common.is_file() else self.gitdir
        return (top / "objects").resolve()

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        allowed: Sequence[int] = (0,),
    ) -> bytes:
        """Run a command and return its standard output.

        Raises:
            GitError: it ended with a status that is not in `allowed`.
            EnvironmentProblem: git is not there, or the disk is full.
        """
        code, out, err = self.attempt(*args, stdin=stdin, env=env)
        if code not in allowed:
            raise failure(args, err)
        return out

    def attempt(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> tuple[int, bytes, bytes]:
        """Run a command and return its status, standard output and standard error.

        Raises:
            EnvironmentProblem: git is not there.
        """
        try:
            done = subprocess.run(
                self.command(*args),
                input=stdin,
                capture_output=True,
                env=self.environment(env),
                # Paths on the command line are relative to the work tree's top.
                cwd=self.work_tree,
                check=False,
            )
        except FileNotFoundError:
            raise missing() from None
        return done.returncode, done.stdout, done.stderr

    def resolve(self, name: str) -> str | None:
        """Return the object id that `name` stands for, or None where there is no such object."""
        found = self._ask(f"info {name}")
        return found[0] if found is not None else None

    def contents(self, oid: str) -> bytes | None:
        """Return the content of an object, or None where it is not in the store."""
        found = self._ask(f"contents {oid}")
        return found[1] if found is not None else None

    def _ask(self, request: str) -> tuple[str, bytes] | None:
        if "\n" in request or not (self.gitdir / "HEAD").exists():
            return None
        try:
            return reader(self.scratch or self.gitdir, self._start).ask(request)
        except BrokenPipeError:
            require()
            raise GitError("git cat-file ended", details=(str(self.gitdir),)) from None

    def _start(self) -> Reader:
        try:
            return Reader(self.command("cat-file", "--batch-command"), self.environment())
        except FileNotFoundError:
            raise missing() from None

    def tree_of(self, commit: str) -> str | None:
        """Return the tree of a commit, or None where the object is not there."""
        return self.resolve(f"{commit}^{{tree}}")

    def init(self) -> None:
        """Make an empty repository at `gitdir` if there is none; never with templates or hooks."""
        if (self.gitdir / "HEAD").is_file():
            return
        self.gitdir.parent.mkdir(parents=True, exist_ok=True)
        command = ["git", "init", "--quiet", "--template=", "--bare", "-b", "main", str(self.gitdir)]
        try:
            done = subprocess.run(command, capture_output=True, env=environment(), check=False)
        except FileNotFoundError:
            raise missing() from None
        if done.returncode:
            raise failure(("init",), done.stderr)


def missing() -> EnvironmentProblem:
    return EnvironmentProblem("git was not found", remedy=f"install git {OLDEST[0]}.{OLDEST[1]} or newer")


def failure(args: Sequence[str], stderr: bytes) -> PatchsetError:
    """Return the error for a git command that failed."""
    said = stderr.decode("utf-8", errors="replace").strip()
    # strerror(ENOSPC) under LC_ALL=C; git has no exit status of its own for it.
    if "No space left on device" in said:
        return EnvironmentProblem(
            "no space left on the disk", remedy="free some space and run again; nothing was changed"
        )
    return GitError(f"git {args[0]} failed", details=tuple(said.splitlines()[-8:]))


@cache
def require() -> tuple[int, ...]:
    """Return git's version.

    Raises:
        EnvironmentProblem: git is missing or too old.
    """
    try:
        done = subprocess.run(["git", "--version"], capture_output=True, env=environment(), check=False)
    except FileNotFoundError:
        raise missing() from None
    found = re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    version = tuple(int(part or 0) for part in found.groups()) if found else ()
    if version < OLDEST:
        said = done.stdout.decode(errors="replace").strip() or "unknown"
        raise EnvironmentProblem(f"git is too old: {said}", remedy=f"install git {OLDEST[0]}.{OLDEST[1]} or newer")
    return version
