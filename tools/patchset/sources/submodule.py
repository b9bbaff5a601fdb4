"""A base from its git host: the submodule is registered, and just the one commit is fetched."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from patchset.model.component import Base, Destination, NotObtained, Release, Source
from patchset.store.git import Git, environment
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter
from toolkit.tables import Table
from toolkit.toml_edit import write_values

if TYPE_CHECKING:
    from git.remote import RemoteProgress

    from toolkit.progress import Task

# A host that has not answered by then is taken as out of reach, and the archive is used.
ANSWER_SECONDS = 6
# A host that packs objects sends a sign of life every 5 seconds.
STALL_SECONDS = 30


def answers(url: str) -> str | None:
    """Return None if the git host of `url` answers within seconds, or why it does not."""
    command = ["git", "ls-remote", "--quiet", "--", url, "HEAD"]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        # Git talks to the host through a helper, which a kill of git alone would leave waiting.
        start_new_session=True,
    ) as process:
        try:
            said = process.communicate(timeout=ANSWER_SECONDS)[1].decode(errors="replace").strip().splitlines()
        except subprocess.TimeoutExpired:
            return f"no answer within {ANSWER_SECONDS} seconds"
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == 0:
        return None
    # Git's words, without the URL that the caller names anyway.
    return said[-1].rpartition("': ")[2] if said else f"git ls-remote ended with {process.returncode}"


def list_tags(url: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the commits of those tags that the git host of `url` has; none where it does not answer."""
    refs = [ref for name in names for ref in (f"refs/tags/{name}", f"refs/tags/{name}^{{}}")]
    command = ["git", "ls-remote", "--quiet", "--", url, *refs]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    ) as process:
        try:
            out = process.communicate(timeout=ANSWER_SECONDS)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            return {}
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    found: dict[str, str] = {}
    for line in out.splitlines():
        commit, _, ref = line.partition("\t")
        name = ref.removeprefix("refs/tags/")
        # An annotated tag's own id comes first; what it points to has ^{} after its name.
        found[name.removesuffix("^{}")] = commit
    return found


def registered_url(root: Path, path: str) -> str | None:
    """Return the URL of the submodule at `path`, or None where `.gitmodules` has none."""
    # GitPython takes a tenth of a second to import: only where a submodule is really asked for.
    from git import Repo
    from git.exc import InvalidGitRepositoryError

    try:
        repo = Repo(root)
    except InvalidGitRepositoryError:
        return None
    with repo:
        return next((str(item.url) for item in repo.submodules if item.path == path), None)


def recorded_commit(root: Path, path: str) -> str | None:
    """Return the commit that the superproject records for the submodule at `path`, or None."""
    from git import Repo
    from git.exc import InvalidGitRepositoryError

    try:
        repo = Repo(root)
    except InvalidGitRepositoryError:
        return None
    with repo:
        return next((str(item.hexsha) for item in repo.submodules if item.path == path), None)


def register(root: Path, path: str, git: Git, url: str) -> None:
    """Initialise the submodule at `path`, as `git submodule init` does, and set its remote."""
    from git import Repo
    from git.exc import InvalidGitRepositoryError

    # `git submodule update` gives it a work tree, and git takes none for a bare repository.
    git.run("config", "core.bare", "false")
    git.run("config", "remote.origin.url", url)
    git.run("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    try:
        repo = Repo(root)
    except InvalidGitRepositoryError:
        return
    with repo:
        if any(item.path == path for item in repo.submodules):
            repo.git.submodule("init", "--quiet", "--", path)


def fetch(git: Git, url: str, commit: str, reporter: Reporter, title: str) -> None:
    """Fetch one commit, without history, into the component's repository.

    Raises:
        SourceUnavailable: the host does not answer, stalls (over http), or does not have the commit.
    """
    from git.cmd import Git as Command
    from git.cmd import handle_process_output
    from git.exc import GitCommandError
    from git.util import finalize_process

    from patchset.sources.transport import redacted, without_users

    said: list[str] = []
    command = Command(str(git.gitdir))
    place = {"GIT_DIR": str(git.gitdir), "GIT_WORK_TREE": str(git.gitdir)}
    # Bytes per second, and for how long fewer are borne; the user's own environment goes first.
    patience = {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": str(STALL_SECONDS)}
    patience = {key: os.environ.get(key, value) for key, value in patience.items()}
    with reporter.task(f"fetch {title}", None, "objects") as task:
        progress = _progress(task)
        with command.custom_environment(GIT_TERMINAL_PROMPT="0", LC_ALL="C", **place, **patience):
            # Not Remote.fetch(): it cannot read git's report of a ref that is fetched by its object id.
            process = command.fetch(
                "--depth=1",
                "--no-tags",
                "--no-recurse-submodules",
                "--progress",
                "origin",
                f"{commit}:refs/patchset/commit/{commit}",
                as_process=True,
            )
            try:
                handle_process_output(process, None, progress.new_message_handler(), finalize_process)
            except GitCommandError:
                said = [without_users(line) for line in progress.error_lines if line.strip()][-4:]
    if said or git.tree_of(commit) is None:
        raise SourceUnavailable(
            f"{redacted(url)} did not give {title} ({commit})",
            details=tuple(said),
            remedy="check the network, or use --source archive",
        )


def _progress(task: Task) -> RemoteProgress:
    from git.remote import RemoteProgress

    class Show(RemoteProgress):
        def update(
            self,
            op_code: int,
            cur_count: str | float,
            max_count: str | float | None = None,
            message: str = "",
        ) -> None:
            if op_code & self.RECEIVING:
                task.update(int(float(cur_count)), int(float(max_count)) if max_count else None)

    return Show()


@dataclass(frozen=True)
class Submodule(Source):
    """Upstream's commit, fetched from the git host of the component's submodule."""

    kind: ClassVar[str] = "submodule"
    record: ClassVar[str] = "commit"
    has_history: ClassVar[bool] = True

    commit: str
    tree: str | None = None
    patched_tree: str | None = None
    covers: tuple[str, ...] = ()

    @classmethod
    def parse(cls, table: Table) -> Self | None:
        commit, tree, patched_tree = (
            table.text(key, "hex40", required=False) for key in ("commit", "tree", "patched-tree")
        )
        return cls(commit, tree, patched_tree) if commit is not None else None

    def write(self, text: str) -> str:
        return write_values(text, {"commit": self.commit, "tree": self.tree, "patched-tree": self.patched_tree})

    @classmethod
    def erase(cls, text: str) -> str:
        return write_values(text, {"commit": None, "tree": None, "patched-tree": None})

    @classmethod
    def of_release(cls, release: Release) -> Self | None:
        return cls(release.commit) if release.commit is not None else None

    @classmethod
    def stored_releases(cls, git: Git, model: Base) -> Iterator[tuple[str, Self]]:
        out = git.run("for-each-ref", "--format=%(refname)%00%(objectname)%00%(*objectname)", "refs/tags/")
        for line in out.decode(errors="replace").splitlines():
            ref, oid, peeled = line.split("\0")
            yield ref.removeprefix("refs/tags/"), cls(peeled or oid)

    def commit_in(self, git: Git) -> str | None:
        return self.commit if git.tree_of(self.commit) is not None else None

    def fetch(self, destination: Destination) -> str:
        from patchset.sources.transport import redacted

        url = destination.url
        if url is None:
            message = f"neither .gitmodules nor component.toml names a URL for {destination.path}"
            raise NotObtained(message, why="no git host is named")
        if destination.offline:
            raise NotObtained("the git host is not asked (--offline)", why="its git host is not asked")
        if (reason := answers(url)) is not None:
            raise NotObtained(f"{redacted(url)} does not answer: {reason}", why="its git host does not answer")
        destination.prepare()
        try:
            fetch(destination.git, url, self.commit, destination.reporter, destination.label)
        except SourceUnavailable as error:
            why = "its git host did not give the commit"
            raise NotObtained(error.message, why=why, remedy=error.remedy, details=error.details) from error
        return self.commit

    @property
    def stored_why(self) -> str:
        return "its commit is here"

    @property
    def fetched_why(self) -> str:
        return "its host answers"

    @property
    def title(self) -> str:
        return f"the commit {self.commit[:12]}"

    @property
    def upstream_commit(self) -> str | None:
        return self.commit
