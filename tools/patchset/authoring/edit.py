"""`new`, `edit` and `drop`: one patch of a series is created, changed or taken out."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from patchset.authoring import update
from patchset.authoring.commits import FIXUP
from patchset.authoring.messages import TrailerPrompt, lint_header, prompted_trailers, refuse_unusable, with_trailers
from patchset.authoring.refresh import RefreshOptions, RefreshReport, refresh_locked
from patchset.engine import export
from patchset.engine.message import UNKNOWN, author_and_message
from patchset.engine.replay import ReplayedStep, replay
from patchset.model.patch import split, subject_of
from patchset.model.series import PatchFile, Series
from patchset.model.trailers import current
from patchset.store import merge as merging
from patchset.store.difference import Comparer, comparer
from patchset.store.git import Git
from patchset.workflow.checkout import Checkout
from patchset.workflow.compute import tree_of
from patchset.workflow.steps import Stack, stack_of
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import LocalChanges, PatchConflict, UsageError
from toolkit.finding import refuse

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True)
class EditReport:
    """The change of a series; `later` are the patches after it that changed, `followed` is True if `extern/` did."""

    component: str
    base: str
    patch: str
    what: str
    later: tuple[str, ...]
    followed: bool


@contextmanager
def _open(workspace: Workspace, name: str | None = None) -> Iterator[tuple[Location, Series, Stack]]:
    """Lock the component and compute its series, which must have the patch `name` if one is given."""
    with workspace.open() as (location, series):
        if name is not None and name not in series.names:
            known = ", ".join(series.names) or "none"
            raise UsageError(f"{series.title} has no patch {name!r}", remedy=f"known patches: {known}")
        yield location, series, stack_of(location, series, Checkout(location).base_of(series))


def new(workspace: Workspace, name: str, message: str, lines: Sequence[str], prompt: TrailerPrompt) -> RefreshReport:
    """Write a patch of the uncommitted changes in `extern/`: the staged ones, or else all.

    `lines` are trailers to go below the message.

    Raises:
        UsageError: the name is in use, or is none.
        LocalChanges: there are no changes.
        SeriesError: a trailer is missing or wrong; nothing is committed then.
    """
    if not _NAME.match(name):
        raise UsageError(f"{name!r} is no name for a patch", remedy="letters, digits, `.`, `_` and `-`")
    with _open(workspace) as (location, series, _):
        if name in series.names or f"{name}.patch" in series.disabled:
            raise UsageError(f"{series.title} has a patch {name} already", remedy="choose another name, or edit it")
        _refuse_unapplied(location, series)
        text = current(with_trailers(message.strip("\n") + "\n", lines))
        if series.base.recorded:
            text = with_trailers(text, prompted_trailers(name, text, prompt))
        header = export.header_of(text, f"{UNKNOWN.name} <{UNKNOWN.email}>", "")
        refuse(lint_header(series, series.folder / f"{name}.patch", header, workspace.root), f"the new patch {name}")
        refuse_unusable(text, "the new patch")
        return _commit_and_refresh(workspace, location, series, ("--file=-",), text, name)


def edit(workspace: Workspace, name: str) -> RefreshReport:
    """Fold the uncommitted changes in `extern/` into a patch: the staged ones, or else all.

    Raises:
        UsageError: there is no such patch.
        LocalChanges: there are no changes, or the series is not applied.
        PatchConflict: the change does not fit before the later patches; nothing was changed then.
    """
    with _open(workspace, name) as (location, series, stack):
        _refuse_unapplied(location, series)
        if stack.is_outside(name):
            raise UsageError(f"{name} is outside the {stack.base.kind}", remedy="apply from the submodule first")
        _refuse_conflict(location, stack, name)
        subject = subject_of(author_and_message(series.patch(name))[1])
        return _commit_and_refresh(workspace, location, series, (f"--message={FIXUP}{subject}",))


def _refuse_unapplied(location: Location, series: Series) -> None:
    checkout = Checkout(location)
    if checkout.state_of(series) is None:
        raise checkout.unapplied_error(series)


def _commit_and_refresh(
    workspace: Workspace,
    location: Location,
    series: Series,
    args: Sequence[str],
    message: str = "",
    name: str | None = None,
) -> RefreshReport:
    """Commit the staged changes, or else all, and refresh the series; `name` is that of the new patch.

    If the refresh fails, the commit is taken back and the files keep the changes.
    """
    git = Git(location.gitdir, location.work_tree)
    if not _anything_staged(git):
        git.run("add", "-A", ".")
        if not _anything_staged(git):
            raise LocalChanges(
                f"nothing was changed in {location.work_tree}", remedy="edit the files there first, then run again"
            )
    before = Checkout(location).commit
    git.run("commit", "--quiet", "--no-verify", "--cleanup=whitespace", *args, stdin=message.encode())
    names = {} if name is None else {Checkout(location).commit: name}
    try:
        return refresh_locked(workspace.root, location, series, RefreshOptions(names))
    except BaseException:
        git.run("reset", "--quiet", "--soft", before)
        raise


def _anything_staged(git: Git, env: dict[str, str] | None = None) -> bool:
    return git.attempt("diff", "--cached", "--quiet", env=env)[0] != 0


def _refuse_conflict(location: Location, stack: Stack, name: str) -> None:
    """Refuse a change that conflicts with a later patch, before anything is committed."""
    with merging.scratch(location.git, location.private) as git:
        assert git.scratch is not None
        inner = Git(location.gitdir, location.work_tree, git.scratch)
        index = git.scratch / "index-edit"
        shutil.copyfile(location.gitdir / "index", index)
        env = {"GIT_INDEX_FILE": os.fspath(index)}
        if not _anything_staged(inner, env):
            inner.run("add", "-A", ".", env=env)
        tree = inner.run("write-tree", env=env).decode().strip()
        at = len(stack.earlier(name))
        own = replace(stack.steps[at], before=stack.steps[-1].after, after=tree)
        _, conflict = replay([own, *stack.steps[at + 1 :]], stack.steps[at].after, partial(merging.merge, git))
        if conflict is not None:
            where = f"{', '.join(conflict.merged.paths)} conflicts with {conflict.step.name}"
            raise PatchConflict(
                f"the change does not fit into {name}: {where}",
                remedy="make it a patch of its own (patchset new), or split it; nothing was changed",
            )


def reword(workspace: Workspace, name: str, change: Callable[[str], str]) -> EditReport:
    """Change the message of a patch, trailers included; `change` gives the new one for the old one.

    Raises:
        UsageError: there is no such patch.
        SeriesError: the new message breaks the format.
    """
    with _open(workspace, name) as (location, series, stack):
        patch = series.patch(name)
        old = author_and_message(patch)[1]
        message = change(old)
        if message.strip() == old.strip():
            return EditReport(series.component.name, series.base.name, name, "unchanged", (), False)
        message = current(message)
        refuse_unusable(message, name)
        data = export.with_message(patch.data, message.strip("\n") + "\n")
        refuse(lint_header(series, patch.file, split(data)[0], workspace.root), name)
        patch_files = tuple((item, data if item.patch_name == name else other) for item, other in series.patch_files)
        update.refuse_follow(location, series, stack.patched.tip)
        changed_series = update.write(location, series, update.SeriesUpdate(patch_files), stack.patched.tree)
        followed = update.follow(location, changed_series, f"reword {name}")
        return EditReport(series.component.name, series.base.name, name, "message changed", (), followed)


def drop(workspace: Workspace, name: str, reason: str) -> EditReport:
    """Take a patch out of a series; the reason goes into its changelog. Later patches are merged onto the rest.

    Raises:
        UsageError: there is no such patch.
        PatchConflict: a later patch needs it.
        LocalChanges: work of the user's in `extern/` is in the way.
    """
    with _open(workspace, name) as (location, series, stack):
        with merging.scratch(location.git, location.private) as git, comparer(git) as compare:
            start = tree_of(location.git, stack.base.commit)
            replayed_steps, conflict = replay(stack.steps, start, partial(merging.merge, git), skip={name: reason})
            if conflict is not None:
                raise PatchConflict(
                    f"{conflict.step.name} needs {name}: {', '.join(conflict.merged.paths)} conflicts without it",
                    remedy=f"change or drop {conflict.step.name} first; nothing was changed",
                )
            changed = {item.step.name: item for item in replayed_steps if not item.skipped and not _same(compare, item)}
            patch_files: list[PatchFile] = []
            for entry, data in series.without({name}).patch_files:
                item = changed.get(entry.patch_name)
                if item is not None:
                    kept = frozenset(stack.outside.get(entry.patch_name, ()))
                    text = partial(compare.text, item.before, item.after)
                    data = export.rewrite(series.patch(entry.patch_name), text, kept)
                    entry = replace(entry, strip=1)
                patch_files.append((entry, data))
            tree = replayed_steps[-1].after if replayed_steps else start
        _refuse_own_commits(location, series, stack)
        change = update.SeriesUpdate(tuple(patch_files), (f"{name}: dropped: {reason}",))
        changed_series = update.write(location, series, change, tree)
        followed = update.follow(location, changed_series, f"drop {name}")
        return EditReport(series.component.name, series.base.name, name, "dropped", tuple(changed), followed)


def _refuse_own_commits(location: Location, series: Series, stack: Stack) -> None:
    """Refuse commits of the user's on top, which would be left behind: they have to become patches first."""
    checkout = Checkout(location)
    state = checkout.patched_state(series)
    if state is not None and checkout.commit != state.tip:
        raise LocalChanges(
            f"{series.component.path} has commits that are not in the series",
            remedy="run `patchset refresh` first, then again",
        )
    update.refuse_follow(location, series, stack.patched.base_commit)


def _same(compare: Comparer, item: ReplayedStep) -> bool:
    return compare.compare(item.before, item.after) == compare.compare(item.step.before, item.step.after)
