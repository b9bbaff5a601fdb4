"""Git hosts: whether one answers, its tags, and the fetch of one commit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable

from patchset.store.git import Git, GitError, environment
from toolkit.progress import Task

# A host that has not answered by then is taken as out of reach, and the archive is used.
ANSWER_SECONDS = 6
# A host that packs objects sends a sign of life every 5 seconds.
STALL_SECONDS = 30


def answers(url: str) -> str | None:
    """Return None if the git host of `url` answers within seconds, or why it does not."""
    try:
        code, _, err = _ls_remote(url, "HEAD")
    except subprocess.TimeoutExpired:
        return f"no answer within {ANSWER_SECONDS} seconds"
    if code == 0:
        return None
    lines = err.strip().splitlines()
    # Git's message, without the URL that the caller names anyway.
    return lines[-1].rpartition("': ")[2] if lines else f"git ls-remote ended with {code}"


def list_tags(url: str, names: Iterable[str]) -> dict[str, str]:
    """Return the commits of those tags that the git host of `url` has; none where it does not answer."""
    try:
        _, out, _ = _ls_remote(url, *(f"refs/tags/{name}{end}" for name in names for end in ("", "^{}")))
    except subprocess.TimeoutExpired:
        return {}
    # An annotated tag's own id comes first; the commit it points to has ^{} after its name.
    pairs = (line.partition("\t") for line in out.splitlines())
    return {ref.removeprefix("refs/tags/").removesuffix("^{}"): commit for commit, _, ref in pairs}


def _ls_remote(url: str, *refs: str) -> tuple[int, str, str]:
    """Return status, standard output and standard error of `git ls-remote`.

    Raises:
        subprocess.TimeoutExpired: the host does not answer.
    """
    command = ["git", "ls-remote", "--quiet", "--", url, *refs]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        env=environment(),
        text=True,
        errors="replace",
        # Git talks to the host through a helper, which a kill of git alone would leave waiting.
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=ANSWER_SECONDS)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err


def fetch(git: Git, commit: str, task: Task) -> None:
    """Fetch one commit, without history, from the repository's remote `origin`, and keep it by a ref.

    Raises:
        GitError: the host does not answer, stalls (over http), or does not have the commit.
    """
    # GitPython takes a tenth of a second to import, and parses the progress that git reports.
    from git.cmd import Git as Command
    from git.cmd import handle_process_output
    from git.exc import GitCommandError
    from git.remote import RemoteProgress
    from git.util import finalize_process

    class Progress(RemoteProgress):
        def update(
            self, op_code: int, cur_count: str | float, max_count: str | float | None = None, message: str = ""
        ) -> None:
            if op_code & self.RECEIVING:
                task.update(int(float(cur_count)), int(float(max_count)) if max_count else None)

    progress = Progress()
    details: tuple[str, ...] = ()
    place = {"GIT_DIR": str(git.gitdir), "GIT_WORK_TREE": str(git.gitdir)}
    # Bytes per second, and for how long fewer are borne; the user's own environment goes first.
    patience = {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": str(STALL_SECONDS)}
    patience = {key: os.environ.get(key, value) for key, value in patience.items()}
    command = Command(str(git.gitdir))
    with command.custom_environment(GIT_TERMINAL_PROMPT="0", LC_ALL="C", **place, **patience):
        # Not Remote.fetch(): it cannot read git's report of a ref that is fetched by its object id.
        options = ("--depth=1", "--no-tags", "--no-recurse-submodules", "--progress")
        process = command.fetch(*options, "origin", f"{commit}:refs/patchset/commit/{commit}", as_process=True)
        try:
            handle_process_output(process, None, progress.new_message_handler(), finalize_process)
        except GitCommandError:
            details = tuple(line for line in progress.error_lines if line.strip())[-4:]
    if details or git.tree_of(commit) is None:
        raise GitError("git fetch failed", details=details)
