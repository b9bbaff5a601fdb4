"""Git's plumbing in one repository, with the user's hooks, filters and prompts kept out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from patchset.store.reader import reader
from toolkit.errors import EnvironmentProblem, PatchsetError

# merge-tree --write-tree came with 2.38; a series is applied and rebased with the same git.
OLDEST = (2, 38)
_INSTALL = f"install git {OLDEST[0]}.{OLDEST[1]} or newer"
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


# Folders with the objects of what is computed on the way; see `store.merge.scratch`.
SCRATCH = "scratch-"


class GitError(PatchsetError):
    """A git command failed where it should not; carries git's own messages."""

    exit_code = 9
    slug = "git"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a git process: the user's, less what redirects git elsewhere."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in _KEPT}
    env |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    return env | dict(extra or {})


def clear_scratch(private: Path) -> None:
    """Remove what a run that was killed left behind; the caller holds the component's lock."""
    for folder in private.glob(f"{SCRATCH}*"):
        shutil.rmtree(folder, ignore_errors=True)


# What users set to reach their hosts and to find their configuration.
_KEPT = {
    *("GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_ASKPASS", "GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT"),
    *("GIT_EXEC_PATH", "GIT_TRACE"),
    *(f"GIT_CONFIG_{part}_{number}" for part in ("KEY", "VALUE") for number in range(16)),
}


@dataclass(frozen=True)
class Git:
    """Git in one repository, named by its git directory; `work_tree` only where a command needs one.

    With `scratch`, a folder, new objects go there and not into the repository, whose own are read all the same
    (git's `GIT_ALTERNATE_OBJECT_DIRECTORIES`): what was computed on the way is thrown away with the folder.
    """

    gitdir: Path
    work_tree: Path | None = None
    scratch: Path | None = None

    def command(self, *args: str) -> list[str]:
        """Return the command line of git in this repository."""
        settings = [part for setting in _NEUTRAL for part in ("-c", setting)]
        # Named even where none is needed: git would go to the one in the configuration, which may be gone.
        where = [f"--git-dir={self.gitdir}", f"--work-tree={self.work_tree or self.gitdir}"]
        return ["git", *settings, *where, *args]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of this repository's git processes."""
        env = environment(extra)
        if self.scratch is not None:
            # Git undoes C's quoting here; without it a colon would end the path.
            own = str(self.objects).replace("\\", "\\\\").replace('"', '\\"')
            env |= {"GIT_OBJECT_DIRECTORY": str(self.scratch), "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{own}"'}
        return env

    @property
    def objects(self) -> Path:
        """The folder of the repository's objects; a linked work tree's git directory names another one for them."""
        common = self.gitdir / "commondir"
        top = self.gitdir / common.read_text().strip() if common.is_file() else self.gitdir
        return (top / "objects").resolve()

    def run(
        self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, allowed: Sequence[int] = (0,)
    ) -> bytes:
        """Run a command and return its standard output.

        Raises:
            GitError: it ended with a status that is not in `allowed`.
            EnvironmentProblem: git is not installed, or the disk is full.
        """
        code, out, err = self.attempt(*args, stdin=stdin, env=env)
        if code not in allowed:
            raise failure(args, err)
        return out

    def attempt(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> tuple[int, bytes, bytes]:
        """Run a command and return its status, standard output and standard error.

        Raises:
            EnvironmentProblem: git is not installed.
        """
        # Paths on the command line are relative to the work tree's top.
        process = _run(self.command(*args), self.environment(env), stdin, self.work_tree)
        return process.returncode, process.stdout, process.stderr

    def start(self, *args: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a command that answers requests through pipes.

        Raises:
            EnvironmentProblem: git is not installed.
        """
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(self.command(*args), stdin=pipe, stdout=pipe, stderr=stderr, env=self.environment())
        except FileNotFoundError:
            raise _missing() from None

    def resolve(self, name: str) -> str | None:
        """Return the object id that `name` stands for, or None where there is no such object."""
        answer = self._request(f"info {name}")
        return answer[0] if answer is not None else None

    def contents(self, oid: str) -> bytes | None:
        """Return the content of an object, or None where it is not in the store."""
        answer = self._request(f"contents {oid}")
        return answer[1] if answer is not None else None

    def _request(self, command: str) -> tuple[str, bytes] | None:
        if "\n" in command or not (self.gitdir / "HEAD").exists():
            return None
        try:
            running = reader(self.scratch or self.gitdir, partial(self.start, "cat-file", "--batch-command"))
            return running.request(command)
        except BrokenPipeError:
            require()
            raise GitError("git cat-file ended", details=(str(self.gitdir),)) from None

    def tree_of(self, commit: str) -> str | None:
        """Return the tree of a commit, or None where the object is not there."""
        return self.resolve(f"{commit}^{{tree}}")

    def init(self) -> None:
        """Create an empty repository at `gitdir` if there is none; never with templates or hooks."""
        if (self.gitdir / "HEAD").is_file():
            return
        self.gitdir.parent.mkdir(parents=True, exist_ok=True)
        command = ["git", "init", "--quiet", "--template=", "--bare", "-b", "main", str(self.gitdir)]
        process = _run(command, environment())
        if process.returncode:
            raise failure(("init",), process.stderr)


def _run(
    command: list[str], env: dict[str, str], stdin: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=stdin, capture_output=True, env=env, cwd=cwd, check=False)
    except FileNotFoundError:
        raise _missing() from None


def _missing() -> EnvironmentProblem:
    return EnvironmentProblem("git is not installed", remedy=_INSTALL)


def failure(args: Sequence[str], stderr: bytes) -> PatchsetError:
    """Return the error for a git command that failed."""
    text = stderr.decode("utf-8", errors="replace").strip()
    # strerror(ENOSPC) under LC_ALL=C, and csum-file.c's own words; git has no exit status of its own for it.
    if "No space left on device" in text or "Out of diskspace" in text:
        return EnvironmentProblem(
            "no space left on the disk", remedy="free some space and run again; nothing was changed"
        )
    return GitError(f"git {args[0]} failed", details=tuple(text.splitlines()[-8:]))


@cache
def require() -> tuple[int, ...]:
    """Return git's version.

    Raises:
        EnvironmentProblem: git is missing or too old.
    """
    output = _run(["git", "--version"], environment()).stdout
    match = re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", output)
    version = tuple(int(part or 0) for part in match.groups()) if match else ()
    if version < OLDEST:
        text = output.decode(errors="replace").strip() or "unknown"
        raise EnvironmentProblem(f"git is too old: {text}", remedy=_INSTALL)
    return version
