"""A base that is new to the project, described from the git host and the package index."""

from __future__ import annotations

from dataclasses import replace

from patchset.model.component import Base
from patchset.sources import releases, submodule
from patchset.sources.submodule import Submodule
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import UsageError


def find(workspace: Workspace, location: Location, wanted: str) -> Base:
    """Return release `wanted` as a base: the commit of its tag, the listed archive and wheels, as far as known.

    It is described after the base of the workspace.

    Raises:
        UsageError: there is no such release; the index's releases are named.
    """
    component, model, git = workspace.component, workspace.base, location.git
    version = releases.version_of(wanted)
    if version is None:
        commit = git.resolve(f"{wanted}^{{commit}}") if (git.gitdir / "HEAD").exists() else None
        if commit is None:
            raise UsageError(f"{wanted!r} is not a release, nor a commit in {component.path}", remedy="name a release")
        return Base(wanted, model.folder.parent / wanted.replace("/", "-"), (Submodule(commit),))
    name = releases.named(model, version)
    projects = dict.fromkeys((model.index_project, *(wheel.project for wheel in model.wheels)))
    files = {
        project: releases.list_files(project, location.private, workspace.reporter, offline=workspace.offline)
        for project in projects
        if project is not None
    }
    listed = files.get(model.index_project or "", {})
    base = releases.describe(model, version, listed, commit_of(workspace, location, name))
    if base is None:
        base = next((item for item in releases.stored(component, model, git) if item.name == name), None)
    if base is None:
        known = [item.name for item in releases.published(component, model, listed)]
        raise UsageError(
            f"{component.name} has no release {name} that can be had",
            details=(f"the index lists {', '.join(known[-12:])}",) if known else (),
            remedy="name a listed release" if known else "check the network",
        )
    return replace(base, wheels=releases.wheels_of(model, version, files))


def commit_of(workspace: Workspace, location: Location, name: str) -> str | None:
    """Return the commit of a release's tag, from the repository or its remote, or None where neither has it."""
    git = location.git
    if (git.gitdir / "HEAD").exists():
        plain = name.removeprefix("v")
        for tag in (f"v{plain}", plain):
            if commit := git.resolve(f"refs/tags/{tag}^{{commit}}"):
                return commit
    if workspace.offline:
        return None
    component = workspace.component
    url = submodule.registered_url(workspace.root, component.path) or component.url
    return releases.tagged_commit(url, name) if url is not None else None
