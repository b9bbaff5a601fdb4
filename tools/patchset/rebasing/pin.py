"""`pin`: make another base the default of its component; gitlink, component.toml and docs in one commit."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from patchset.model.component import Base, Component
from patchset.project import base_toml
from patchset.rebasing import new_base
from patchset.sources.submodule import Submodule, registered_url
from patchset.store.git import Git, require
from patchset.store.index import index_entries, update_index, write_tree
from patchset.store.objects import GITLINK, TreeEntry
from patchset.store.superproject import gitdir_of, submodule_at
from patchset.store.text import records
from patchset.workflow.workspace import Workspace
from toolkit.errors import LocalChanges, UsageError
from toolkit.files import replace_file
from toolkit.toml_edit import write_values


@dataclass(frozen=True)
class PinReport:
    """The result: `commit` in the project, `files` that changed in it, `mentions` of the old base left alone."""

    component: str
    before: str | None
    base: str
    commit: str | None
    files: tuple[str, ...]
    mentions: tuple[str, ...]


def pin(workspace: Workspace) -> PinReport:
    """Pin the base of the workspace and commit just that; what else is staged or changed in the project stays as it is.

    A base that records no commit gets that of upstream's tag, from the repository or its remote.

    In README.md and docs/*.md, the new name replaces the old one between `<!-- pinned: COMPONENT -->` and
    `<!-- /pinned -->`; other places that name the old base are returned in the report.

    Raises:
        UsageError: the submodule needs a commit, and neither base.toml nor the remote names one; or the component
            has no component.toml.
        LocalChanges: a file to be written has changes that are not committed.
    """
    require()
    root, component, base = workspace.root, workspace.component, workspace.base
    if component.pinned == base.name:
        return PinReport(component.name, base.name, base.name, None, (), ())
    toml = base.folder.parent / "component.toml"
    if not toml.is_file():
        raise UsageError(f"{component.name} has no component.toml", remedy="write one (docs/formats.md)")
    changes = {toml: write_values(toml.read_text("utf-8"), {"pinned": base.name})}
    gitlink = submodule_at(root, component.path) is not None
    if gitlink and base.commit is None:
        base = _with_commit(workspace)
        changes[base.folder / base_toml.NAME] = base_toml.base_text(base, base_toml.read_text(base))
    mentions: list[str] = []
    if component.pinned is not None:
        for file in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
            if not file.is_file():
                continue
            text = file.read_text("utf-8")
            new = _docs(text, component.name, component.pinned, base.name)
            if new != text:
                changes[file] = new
            mentions += _mentions(file.relative_to(root).as_posix(), new, component.pinned)
    gitdir = gitdir_of(root)
    link = (component.path, base.commit) if gitlink and base.commit is not None else None
    commit = None
    if gitdir is not None:
        commit = _commit(Git(gitdir, root), root, component, base, changes, link)
    for file, text in changes.items():
        replace_file(file, text)
    names = tuple(file.relative_to(root).as_posix() for file in changes)
    return PinReport(
        component.name, component.pinned, base.name, commit, (*names, *(link[:1] if link else ())), tuple(mentions)
    )


def _with_commit(workspace: Workspace) -> Base:
    """Return the workspace's base, which records no commit, with the commit that upstream's tag names."""
    base, component = workspace.base, workspace.component
    commit = new_base.commit_of(workspace, workspace.location, base.name)
    if commit is None:
        url = registered_url(workspace.root, component.path) or component.url
        raise UsageError(
            f"{base.name} records no commit, which the submodule {component.path} needs",
            details=(f"{url} was not reached, or has no tag {base.name}",) if url else (),
            remedy=f"put upstream's commit of {base.name} into {base.folder.relative_to(workspace.root) / 'base.toml'}",
        )
    return base.with_source(Submodule(commit))


def _docs(text: str, component: str, old: str, new: str) -> str:
    block = re.compile(rf"(<!-- pinned: {re.escape(component)} -->)(.*?)(<!-- /pinned -->)", re.DOTALL)
    return block.sub(lambda match: match[1] + _named(old).sub(new, match[2]) + match[3], text)


def _named(base: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.]){re.escape(base)}(?!\w|\.\d)")


def _mentions(name: str, text: str, old: str) -> list[str]:
    pattern = _named(old)
    return [f"{name}:{number}" for number, line in enumerate(text.split("\n"), 1) if pattern.search(line)]


def _commit(
    git: Git, root: Path, component: Component, base: Base, changes: dict[Path, str], link: tuple[str, str] | None
) -> str:
    """Commit the new texts and gitlink on HEAD, beside whatever the user has staged."""
    head = git.run("rev-parse", "--verify", "HEAD^{commit}").decode().strip()
    names = [file.relative_to(root).as_posix() for file in changes]
    mine = records(git.run("diff", "--name-only", "-z", "HEAD", "--", *names))
    mine += records(git.run("ls-files", "-z", "--others", "--", *names))
    if mine:
        raise LocalChanges(
            f"changes of yours are not committed in {', '.join(mine)}",
            remedy="commit them first, then run again; nothing was changed",
        )
    old = index_entries(git, names)
    entries = {}
    for name, text in zip(names, changes.values(), strict=True):
        oid = git.run("hash-object", "-w", "--stdin", f"--path={name}", stdin=text.encode()).decode().strip()
        entries[name] = TreeEntry(old[name].mode, oid)
    if link is not None:
        entries[link[0]] = TreeEntry(GITLINK, link[1])
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(git, head, entries, Path(folder) / "index")
    message = f"Pin {component.name} to {base.name}\n"
    if component.pinned is not None:
        message += f"\nIt was {component.pinned}.\n"
    commit = git.run("commit-tree", tree, "-p", head, stdin=message.encode()).decode().strip()
    git.run("update-ref", "-m", f"patchset: pin {component.name} to {base.name}", "HEAD", commit, head)
    update_index(git, entries)
    return commit
