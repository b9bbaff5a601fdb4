"""`new`, `edit` and `drop`: one patch of a series is made, changed or taken out."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from patchset.authoring import commits as reading
from patchset.authoring import update
from patchset.authoring.refresh import Ask, RefreshReport, Request, answered, nobody, refresh_locked, with_trailers
from patchset.engine import export
from patchset.engine.message import author_and_message
from patchset.engine.replay import ReplayedStep, replay
from patchset.model.patch import split
from patchset.model.series import Entry, Series
from patchset.model.trailers import lint_trailers
from patchset.store import merge as merging
from patchset.store.difference import Comparer, comparer
from patchset.store.git import Git
from patchset.workflow.apply import current
from patchset.workflow.steps import Stack, stack_of
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from patchset.worktree.state import load as load_state
from toolkit.errors import LocalChanges, PatchConflict, SeriesError, UsageError
from toolkit.finding import refuse

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True)
class EditReport:
    """The change of a series; `followed` is True where `extern/` was brought along."""

    component: str
    base: str
    patch: str
    what: str
    later: tuple[str, ...]
    followed: bool

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@contextmanager
def _opened(workspace: Workspace) -> Iterator[tuple[Location, Series, Stack]]:
    with workspace.open() as (location, series):
        yield location, series, stack_of(location, series, update.base_of(location, series))


def new(workspace: Workspace, name: str, message: str, lines: Sequence[str], ask: Ask) -> RefreshReport:
    """Make a patch of what was changed in `extern/` and is not committed: what is staged, or else all of it.

    `lines` are trailers to go below the message.

    Raises:
        UsageError: the name is taken, or is none.
        LocalChanges: nothing was changed.
        SeriesError: a trailer is missing or wrong; nothing is committed then.
    """
    if not _NAME.match(name):
        raise UsageError(f"{name!r} is no name for a patch", remedy="letters, digits, `.`, `_` and `-`")
    with _opened(workspace) as (location, series, _):
        if name in (entry.patch_name for entry in series.entries) or f"{name}.patch" in series.disabled:
            raise UsageError(f"{series.title} has a patch {name} already", remedy="choose another name, or edit it")
        _refuse_unapplied(location, series)
        text = with_trailers(message.strip("\n") + "\n", lines)
        if series.base.recorded:
            text = _complete(workspace.root, series, name, text, ask)
        if why := export.unusable(text):
            raise SeriesError(f"the new patch: {why}", remedy="reword it")
        oid = _commit(location, ["--file=-"], text)
        try:
            return refresh_locked(workspace.root, location, series, Request({oid: name}, None, nobody))
        except BaseException:
            # The files keep what was changed; only the commit is taken back.
            Git(location.gitdir, location.work_tree).run("reset", "--quiet", "--soft", f"{oid}~1")
            raise


def _complete(root: Path, series: Series, name: str, text: str, ask: Ask) -> str:
    """Return the message with the trailers that were asked for; refuse it where it is not complete."""
    text = with_trailers(text, answered(name, text, ask))
    header = export.header_of(text, "patchset <patchset@localhost>", "").decode()
    file = series.folder / f"{name}.patch"
    refuse(lint_trailers(file, header, series.base.name or None, root), f"the new patch {name}")
    return text


def _refuse_unapplied(location: Location, series: Series) -> None:
    state = load_state(location.state_file) if location.populated else None
    if state is None or state.base != series.base.name:
        raise LocalChanges(
            f"{series.title} is not applied to {series.component.path}",
            remedy=f"run `patchset apply {series.title}` first",
        )


def _commit(location: Location, args: Sequence[str], message: str = "") -> str:
    """Commit what is staged, or else everything that was changed; returns the commit."""
    git = Git(location.gitdir, location.work_tree)
    code, _, _ = git.attempt("diff", "--cached", "--quiet")
    if code == 0:
        git.run("add", "-A", ".")
        code, _, _ = git.attempt("diff", "--cached", "--quiet")
        if code == 0:
            raise LocalChanges(
                f"nothing was changed in {location.work_tree}", remedy="edit the files there first, then run again"
            )
    git.run("commit", "--quiet", "--no-verify", "--cleanup=whitespace", *args, stdin=message.encode())
    return current(location)[1]


def edit(workspace: Workspace, name: str) -> RefreshReport:
    """Fold what was changed in `extern/` and is not committed into a patch: what is staged, or else all of it.

    Raises:
        UsageError: there is no such patch.
        LocalChanges: nothing was changed, or the series is not applied.
        PatchConflict: the change does not fit before the later patches; nothing was changed then.
    """
    with _opened(workspace) as (location, series, stack):
        _known(series, name)
        _refuse_unapplied(location, series)
        commits = {patch.name: patch.commit for patch in stack.patched.patches}
        commit = commits.get(name)
        if commit is None:
            raise UsageError(f"{name} is outside the {stack.base.kind}", remedy="apply from the submodule first")
        before = current(location)[1]
        _refuse_conflict(location, stack, name)
        _commit(location, [f"--message={reading.FIXUP}{_subject_of(series, name)}"])
        try:
            return refresh_locked(workspace.root, location, series, Request({}, None, nobody))
        except BaseException:
            Git(location.gitdir, location.work_tree).run("reset", "--quiet", "--soft", before)
            raise


def _refuse_conflict(location: Location, stack: Stack, name: str) -> None:
    """Look, before anything is committed, whether the change goes through all later patches."""
    with merging.scratch(location.git, location.private) as git:
        assert git.scratch is not None
        inner = Git(location.gitdir, location.work_tree, git.scratch)
        index = git.scratch / "index-edit"
        shutil.copyfile(location.gitdir / "index", index)
        env = {"GIT_INDEX_FILE": os.fspath(index)}
        if inner.attempt("diff", "--cached", "--quiet", env=env)[0] == 0:
            inner.run("add", "-A", ".", env=env)
        tree = inner.run("write-tree", env=env).decode().strip()
        names = [step.name for step in stack.steps]
        at = names.index(name)
        top = stack.steps[-1].after
        own = replace(stack.steps[at], name=name, before=top, after=tree)
        _, stopped = replay([own, *stack.steps[at + 1 :]], stack.steps[at].after, partial(merging.merge, git))
        if stopped is not None:
            where = f"{', '.join(stopped.merged.paths)} conflicts with {stopped.step.name}"
            raise PatchConflict(
                f"the change does not fit into {name}: {where}",
                remedy="make it a patch of its own (patchset new), or split it; nothing was changed",
            )


def reword(workspace: Workspace, name: str, how: Callable[[str], str | None]) -> EditReport:
    """Change the message of a patch, trailers included; `how` gives the new one, None to leave it.

    Raises:
        UsageError: there is no such patch.
        SeriesError: the new message breaks the format.
    """
    with _opened(workspace) as (location, series, stack):
        _known(series, name)
        patch = next(item for item in series.patches if item.name == name)
        message = author_and_message(patch)[1]
        made = how(message)
        if made is None or made.strip() == message.strip():
            return EditReport(series.component.name, series.base.name, name, "unchanged", (), False)
        if why := export.unusable(made):
            raise SeriesError(f"{name}: {why}", remedy="reword it")
        data = export.with_message(patch.data, made.strip("\n") + "\n")
        if series.base.recorded:
            header = split(data)[0].decode("utf-8", errors="replace")
            refuse(lint_trailers(patch.file, header, series.base.name or None, workspace.root), name)
        files = [
            (entry, data if entry.patch_name == name else old)
            for entry, old in zip(series.entries, series.files, strict=True)
        ]
        update.refuse_follow(workspace.root, series, stack.patched.tip)
        written = update.put(location, series, update.Change(tuple(files)), expected=stack.patched.tree)
        followed = update.follow(workspace.root, written, f"reword {name}")
        return EditReport(series.component.name, series.base.name, name, "message changed", (), followed)


def drop(workspace: Workspace, name: str, reason: str) -> EditReport:
    """Take a patch out of a series; the reason goes into its changelog. Later patches are merged onto the rest.

    Raises:
        UsageError: there is no such patch.
        PatchConflict: a later patch needs it.
        LocalChanges: work of the user's in `extern/` is in the way.
    """
    with _opened(workspace) as (location, series, stack):
        _known(series, name)
        with merging.scratch(location.git, location.private) as git, comparer(git) as compare:
            start = location.git.tree_of(stack.patched.base_commit) or ""
            done, stopped = replay(stack.steps, start, partial(merging.merge, git), skip={name: reason})
            if stopped is not None:
                raise PatchConflict(
                    f"{stopped.step.name} needs {name}: {', '.join(stopped.merged.paths)} conflicts without it",
                    remedy=f"change or drop {stopped.step.name} first; nothing was changed",
                )
            results = {item.step.name: item for item in done}
            patches = {patch.name: patch for patch in series.patches}
            files: list[tuple[Entry, bytes]] = []
            later = []
            for entry, data in zip(series.entries, series.files, strict=True):
                item = results.get(entry.patch_name)
                if entry.patch_name == name:
                    continue
                if item is not None and not _same(compare, item):
                    kept = frozenset(stack.outside.get(entry.patch_name, ()))
                    text = partial(compare.text, item.before, item.after)
                    data = export.rewrite(patches[entry.patch_name], text, kept)
                    entry = replace(entry, strip=1)
                    later.append(entry.patch_name)
                files.append((entry, data))
            tree = done[-1].after if done else start
        line = f"{name}: dropped: {reason}"
        change = update.Change(tuple(files), "Changed", (line,))
        _refuse_own(workspace.root, location, series, stack)
        written = update.put(location, series, change, expected=tree)
        followed = update.follow(workspace.root, written, f"drop {name}")
        return EditReport(series.component.name, series.base.name, name, "dropped", tuple(later), followed)


def _refuse_own(root: Path, location: Location, series: Series, stack: Stack) -> None:
    """Commits of the user's on top would be left behind: they have to become patches first."""
    state = load_state(location.state_file) if location.populated else None
    if state is None or state.base != series.base.name or state.tip == state.base_commit:
        return
    if current(location)[1] != state.tip:
        raise LocalChanges(
            f"{series.component.path} has commits that are not in the series",
            remedy="run `patchset refresh` first, then again",
        )
    update.refuse_follow(root, series, stack.patched.base_commit)


def _same(compare: Comparer, item: ReplayedStep) -> bool:
    return compare.compare(item.before, item.after) == compare.compare(item.step.before, item.step.after)


def _subject_of(series: Series, name: str) -> str:
    patch = next(item for item in series.patches if item.name == name)
    return " ".join(author_and_message(patch)[1].partition("\n")[0].split())


def _known(series: Series, name: str) -> None:
    names = [entry.patch_name for entry in series.entries]
    if name not in names:
        raise UsageError(f"{series.title} has no patch {name!r}", remedy=f"known patches: {', '.join(names) or 'none'}")
