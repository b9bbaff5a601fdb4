"""A base from its git host: the submodule is registered, and just the one commit is fetched."""

from __future__ import annotations

from pathlib import Path

from patchset.store import remote
from patchset.store.git import Git, GitError
from patchset.store.remote import answers, list_tags
from patchset.store.superproject import gitdir_of, init_submodule, recorded_commit, submodule_at
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter

__all__ = ["answers", "fetch", "list_tags", "recorded_commit", "register", "registered_url"]


def registered_url(root: Path, path: str) -> str | None:
    """Return the URL of the submodule at `path`, or None where the project's repository has none."""
    submodule = submodule_at(root, path) if gitdir_of(root) is not None else None
    return submodule.url if submodule is not None else None


def register(root: Path, path: str, git: Git, url: str) -> None:
    """Initialise the submodule at `path`, as `git submodule init` does, and set its remote."""
    # `git submodule update` gives it a work tree, and git takes none for a bare repository.
    git.run("config", "core.bare", "false")
    git.run("config", "remote.origin.url", url)
    git.run("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    init_submodule(root, path)


def fetch(git: Git, url: str, commit: str, reporter: Reporter, title: str) -> None:
    """Fetch one commit, without history, into the component's repository, whose remote has `url`.

    Raises:
        SourceUnavailable: the host does not answer, stalls (over http), or does not have the commit.
    """
    from patchset.sources.transport import redacted, without_users

    try:
        with reporter.task(f"fetch {title}", None, "objects") as task:
            remote.fetch(git, commit, task)
    except GitError as error:
        raise SourceUnavailable(
            f"{redacted(url)} did not give {title} ({commit})",
            details=tuple(without_users(line) for line in error.details),
            remedy="check the network, or use --source archive",
        ) from None
