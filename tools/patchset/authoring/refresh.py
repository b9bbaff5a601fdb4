"""`refresh`: the user's commits in `extern/` become the series; patches that they do not touch stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from patchset.authoring import update
from patchset.authoring.commits import Commit, commits_above, fold_fixups
from patchset.authoring.messages import (
    TrailerPrompt,
    lint_header,
    no_prompt,
    prompted_trailers,
    refuse_unusable,
    slug,
    with_trailers,
)
from patchset.engine import export
from patchset.engine.message import author_and_message
from patchset.model.patch import Patch, split, subject_of
from patchset.model.series import PatchFile, Series, SeriesEntry
from patchset.store import merge as merging
from patchset.store.difference import Comparer, comparer
from patchset.workflow.checkout import Checkout
from patchset.workflow.compute import tree_of
from patchset.workflow.steps import Stack, stack_of
from patchset.workflow.workspace import Workspace
from patchset.worktree import local
from patchset.worktree.location import Location
from toolkit.errors import LocalChanges, SeriesError

ChangeKind = Literal["unchanged", "changed", "message changed", "new", "dropped", "outside"]


@dataclass(frozen=True)
class PatchChange:
    """The change of one patch; `commit` is the user's, None if there is none."""

    name: str
    what: ChangeKind
    commit: str | None


@dataclass(frozen=True)
class RefreshReport:
    """The result of a refresh; `left` are paths with uncommitted work, which is not in the series."""

    component: str
    base: str
    changed: bool
    tree: str
    patches: tuple[PatchChange, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class RefreshOptions:
    """The options of a refresh.

    `names` gives new patches their names by commit id. `reason` is the reason to drop patches whose commits are gone;
    None: they must not be gone. `prompt` gives the trailers that a new patch lacks.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    prompt: TrailerPrompt = no_prompt


def refresh(workspace: Workspace, options: RefreshOptions) -> RefreshReport:
    """Write the commits that stand in `extern/` above the base back into the series.

    Raises:
        LocalChanges: the work tree holds another series, or the series is not applied.
        SeriesError: a new patch lacks its trailers, a commit of a patch is gone without a reason, or a commit cannot be
            a patch. Nothing was changed then.
    """
    with workspace.open() as (location, series):
        return refresh_locked(workspace.root, location, series, options)


def refresh_locked(root: Path, location: Location, series: Series, options: RefreshOptions) -> RefreshReport:
    """Refresh a series whose component is locked."""
    checkout = Checkout(location)
    if not location.populated:
        raise checkout.unapplied_error(series)
    local.refuse_under_way(location)
    stack = stack_of(location, series, checkout.base_of(series))
    _refuse_other(checkout, series, stack)
    commits = commits_above(location.git, stack.base.commit, checkout.commit)
    _refuse_unapplied(checkout, stack, commits)
    with merging.scratch(location.git, location.private) as git, comparer(git) as compare:
        patch_files, changes = _NewSeries(root, stack, compare, options).write(fold_fixups(git, commits))
    lines = tuple(f"{item.name}: dropped: {options.reason}" for item in changes if item.what == "dropped")
    changed = _contents(patch_files) != _contents(series.patch_files)
    tree, new = tree_of(location.git, checkout.commit), series
    if changed:
        new = update.write(location, series, update.SeriesUpdate(patch_files, lines), tree)
    if changed or checkout.state is None or checkout.commit != checkout.state.tip:
        update.follow(location, new, f"refresh {series.title}")
    left = checkout.local_changes()
    return RefreshReport(series.component.name, series.base.name, changed, tree, changes, left)


def _contents(patch_files: Sequence[PatchFile]) -> list[tuple[str, bytes]]:
    return [(entry.name, data) for entry, data in patch_files]


def _refuse_other(checkout: Checkout, series: Series, stack: Stack) -> None:
    """Refuse a work tree with another series, and files of the series that have changed since they were applied."""
    state = checkout.state
    if state is not None and state.base != series.base.name:
        raise LocalChanges(
            f"{series.component.path} holds {state.base}, not {series.base.name}",
            remedy=f"name it: patchset refresh {series.component.name}@{state.base}",
        )
    # Another series with the same tree: an earlier refresh that was stopped before its end.
    interrupted = checkout.location.git.tree_of(checkout.commit) == stack.patched.tree
    if state is not None and state.digest not in ("", series.digest) and not interrupted:
        raise LocalChanges(
            f"the files of {series.title} have changed since they were applied",
            remedy="take those changes back (git checkout), or put them into extern/ (patchset apply), not both",
        )


def _refuse_unapplied(checkout: Checkout, stack: Stack, commits: Sequence[Commit]) -> None:
    """Refuse a series that was never applied: missing commits do not mean then that its patches are dropped."""
    if checkout.patched_state(stack.series) is not None:
        return
    known = {patch.commit for patch in stack.patched.patches}
    if stack.series.entries and not any(commit.oid in known for commit in commits):
        raise checkout.unapplied_error(stack.series)


class _NewSeries:
    """Matches commits to the patches of a series, and writes the patch of each."""

    def __init__(self, root: Path, stack: Stack, compare: Comparer, options: RefreshOptions) -> None:
        self._root = root
        self._stack = stack
        self._series = stack.series
        self._compare = compare
        self._options = options
        self._patches = {patch.name: patch for patch in stack.series.patches}
        self._entries = {entry.patch_name: entry for entry in stack.series.entries}
        self._steps = {step.name: step for step in stack.steps}
        self._context = export.context_of(stack.series.patches)

    def write(self, commits: Sequence[Commit]) -> tuple[tuple[PatchFile, ...], tuple[PatchChange, ...]]:
        """Return the new content of the series, and the change of each patch.

        Raises:
            SeriesError: see `refresh`; every problem is named.
        """
        names = self._match(commits)
        gone = [name for name in self._steps if name not in names.values()]
        if gone and self._options.reason is None:
            raise SeriesError(
                f"no commit is there any more for {', '.join(gone)}",
                remedy='if that is meant, say why: patchset refresh --drop "REASON"; else bring it back',
            )
        patch_files: list[PatchFile] = []
        changes: list[PatchChange] = []
        problems: list[str] = []
        for commit in commits:
            name = names.get(commit.oid)
            what: ChangeKind = "new"
            if name is not None:
                data, what = self._kept(self._patches[name], commit)
                entry = self._entries[name]
                entry = entry if data == self._patches[name].data else replace(entry, strip=1)
            else:
                names_in_use = {entry.patch_name for entry, _ in patch_files} | set(self._entries)
                name = self._options.names.get(commit.oid) or _unique(slug(commit.subject), names_in_use)
                data, breaches = self._new(name, commit)
                problems += breaches
                entry = SeriesEntry(f"{name}.patch", 1, 0)
            patch_files.append((entry, data))
            changes.append(PatchChange(name, what, commit.oid))
        if problems:
            raise SeriesError(
                "a new patch is not complete",
                details=tuple(problems),
                remedy="put the trailers into the commit's message (git commit --amend), or answer on a terminal",
            )
        changes += [PatchChange(name, "dropped", None) for name in gone]
        return self._with_outside(patch_files, changes)

    def _match(self, commits: Sequence[Commit]) -> dict[str, str]:
        """Return commit -> patch: by id, then by whole message, subject, and changes."""
        names: dict[str, str] = {}
        unmatched = dict.fromkeys(self._steps)
        by_commit = {patch.commit: patch.name for patch in self._stack.patched.patches if patch.commit}

        def take(oid: str, name: str | None) -> None:
            if name is not None and name in unmatched:
                names[oid] = name
                del unmatched[name]

        for commit in commits:
            take(commit.oid, by_commit.get(commit.oid))
        messages = {name: author_and_message(self._patches[name])[1] for name in unmatched}
        keys: tuple[Callable[[str, Commit], bool], ...] = (
            lambda name, commit: messages[name].strip() == commit.message.strip(),
            lambda name, commit: subject_of(messages[name]) == commit.subject,
            self._same,
        )
        for key in keys:
            for commit in commits:
                if commit.oid not in names and commit.oid not in self._options.names:
                    take(commit.oid, next((name for name in unmatched if key(name, commit)), None))
        return names

    def _same(self, name: str, commit: Commit) -> bool:
        step = self._steps[name]
        return self._compare.compare(step.before, step.after) == self._compare.compare(commit.before, commit.after)

    def _kept(self, patch: Patch, commit: Commit) -> tuple[bytes, ChangeKind]:
        """Return the file of a patch that has a commit, unchanged as far as the commit is."""
        author, message = author_and_message(patch)
        data = patch.data
        what: ChangeKind = "unchanged"
        if not self._same(patch.name, commit):
            outside = frozenset(self._stack.outside.get(patch.name, ()))
            data = export.rewrite(patch, partial(self._compare.text, commit.before, commit.after), outside)
            what = "changed"
        reworded = message.strip() != commit.message.strip()
        if not reworded and f"{author.name} <{author.email}>" == commit.author:
            return data, what
        if reworded:
            _refuse_message(commit)
            data = export.with_message(data, commit.message)
        else:
            data = export.header_of(commit.message, commit.author, commit.date) + split(data)[1]
        return data, "message changed" if what == "unchanged" else what

    def _new(self, name: str, commit: Commit) -> tuple[bytes, list[str]]:
        """Return the file of a new patch, and what its trailers lack."""
        _refuse_message(commit)
        message = commit.message.strip("\n") + "\n"
        if self._series.base.recorded:
            message = with_trailers(message, prompted_trailers(name, message, self._options.prompt))
        header = export.header_of(message, commit.author, commit.date)
        findings = lint_header(self._series, self._series.folder / f"{name}.patch", header, self._root)
        breaches = [f"{name} ({commit.oid[:12]} {commit.subject}): {finding.message}" for finding in findings]
        return header + self._compare.text(commit.before, commit.after, self._context), breaches

    def _with_outside(
        self, patch_files: list[PatchFile], changes: list[PatchChange]
    ) -> tuple[tuple[PatchFile, ...], tuple[PatchChange, ...]]:
        """Put the patches that the source has no files of back after those that they stood after."""
        above: str | None = None
        for entry, data in self._series.patch_files:
            name = entry.patch_name
            if name not in self._steps:
                names = [item.patch_name for item, _ in patch_files]
                at = names.index(above) + 1 if above in names else 0
                patch_files.insert(at, (entry, data))
                changes.append(PatchChange(name, "outside", None))
            above = name
        return tuple(patch_files), tuple(changes)


def _unique(name: str, names_in_use: set[str]) -> str:
    candidate, number = name, 2
    while candidate in names_in_use:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _refuse_message(commit: Commit) -> None:
    refuse_unusable(commit.message, f"commit {commit.oid[:12]}", "reword it: git commit --amend, or git rebase -i")
