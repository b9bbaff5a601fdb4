"""Choosing where a base comes from, and bringing it into the component's repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from patchset.model.component import Base, Component
from patchset.sources import archive as archives
from patchset.sources import submodule
from patchset.store.git import Git
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter

Mode = Literal["auto", "submodule", "archive"]
Kind = Literal["submodule", "archive", "worktree"]


@dataclass(frozen=True)
class Acquired:
    """A base that is in the store: its commit, where from, and why from there.

    `covers` are globs of the paths that this source has (empty: all); `tree` and `patched_tree` are the ids
    recorded for this source, None where none is.
    """

    kind: Kind
    commit: str
    why: str
    covers: tuple[str, ...]
    tree: str | None
    patched_tree: str | None


def present(git: Git, base: Base, mode: Mode = "auto") -> Acquired | None:
    """Return the base if the store has it already; asks no network."""
    if mode != "archive" and base.commit is not None and git.tree_of(base.commit) is not None:
        return _from_submodule(base, "its commit is here")
    if mode != "submodule" and base.archive is not None:
        commit = archives.imported(git, base.archive)
        if commit is not None:
            return _from_archive(base, commit, "it is imported already")
    return None


def acquire(
    root: Path,
    component: Component,
    base: Base,
    git: Git,
    mode: Mode,
    reporter: Reporter,
    *,
    offline: bool = False,
) -> Acquired:
    """Bring a base into the store: its commit from the git host, or its archive from the registry.

    `auto` takes what is here; then the submodule, if its host answers within seconds; else the archive.

    Raises:
        SourceUnavailable: neither can be had; says what was tried.
        IntegrityError: the archive, or what it holds, is not what is recorded.
    """
    found = present(git, base, mode)
    if found is not None:
        return found
    label = f"{component.name} {base.name}"
    refused: list[str] = []
    why = "asked for"
    if mode != "archive":
        url = submodule.registered_url(root, component.path) or component.url
        if base.commit is None:
            refused.append("base.toml records no commit")
            why = "base.toml records no commit"
        elif url is None:
            refused.append(f"neither .gitmodules nor component.toml names a URL for {component.path}")
            why = "no git host is named"
        elif offline:
            refused.append("the git host is not asked (--offline)")
            why = "its git host is not asked"
        else:
            why_not = submodule.answers(url)
            if why_not is None:
                git.init()
                submodule.register(root, component.path, git, url)
                try:
                    submodule.fetch(git, url, base.commit, reporter, label)
                    return _from_submodule(base, "its host answers")
                except SourceUnavailable as error:
                    if mode == "submodule":
                        raise
                    why_not = error.message
                    why = "its git host did not give the commit"
            else:
                from patchset.sources.urls import redacted

                why_not = f"{redacted(url)} does not answer: {why_not}"
                why = "its git host does not answer"
            refused.append(why_not)
    if mode != "submodule":
        if base.archive is None:
            refused.append("base.toml records no archive")
        else:
            if refused:
                reporter.note(f"{label}: {refused[0]}; taking the archive {base.archive.filename}")
            file = archives.download(base.archive, reporter, offline)
            git.init()
            url = submodule.registered_url(root, component.path) or component.url
            if url is not None:
                submodule.register(root, component.path, git, url)
            commit = archives.import_archive(git, base.archive, file, reporter)
            return _from_archive(base, commit, why if mode == "auto" else "asked for")
    raise SourceUnavailable(
        f"{label} cannot be had from {mode if mode != 'auto' else 'anywhere'}",
        details=tuple(refused),
        remedy="check the network, or try the other --source",
    )


def _from_submodule(base: Base, why: str) -> Acquired:
    return Acquired("submodule", base.commit or "", why, (), base.tree, base.patched_tree)


def _from_archive(base: Base, commit: str, why: str) -> Acquired:
    archive = base.archive
    assert archive is not None
    return Acquired("archive", commit, why, archive.covers, archive.tree, archive.patched_tree)
