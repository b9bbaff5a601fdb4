"""`refresh`: the user's commits in `extern/` become the series, and what they did not touch stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from patchset.authoring import commits as reading
from patchset.authoring import update
from patchset.authoring.commits import Commit
from patchset.engine import export
from patchset.engine.message import author_and_message
from patchset.model.patch import Patch, split
from patchset.model.series import Entry, Series
from patchset.model.trailers import lint_trailers, missing, trailers
from patchset.store import merge as merging
from patchset.store.difference import Comparer, comparer
from patchset.store.git import Git
from patchset.workflow.apply import current
from patchset.workflow.status import local_changes
from patchset.workflow.steps import Stack, stack_of
from patchset.workflow.workspace import Workspace
from patchset.worktree import local
from patchset.worktree.location import Location
from patchset.worktree.state import load as load_state
from toolkit.errors import LocalChanges, SeriesError

What = Literal["unchanged", "changed", "message changed", "new", "moved", "dropped", "outside"]
# Asked for the value of a trailer that a new patch lacks; gives None where nobody can answer.
Ask = Callable[[str, str], str | None]


@dataclass(frozen=True)
class Refreshed:
    """What became of one patch; `commit` is the user's, None where there is none."""

    name: str
    what: What
    commit: str | None


@dataclass(frozen=True)
class RefreshReport:
    """What a refresh did; `left` are paths with uncommitted work, which is not in the series."""

    component: str
    base: str
    changed: bool
    tree: str
    patches: tuple[Refreshed, ...]
    left: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Request:
    """What is known beyond the commits.

    `names` gives new patches their names by commit id, `reason` says why patches whose commits are gone are dropped
    (None: then they must not be gone), `ask` is asked for missing trailers.
    """

    names: Mapping[str, str]
    reason: str | None
    ask: Ask


def nobody(patch: str, key: str) -> str | None:
    """An `Ask` for where there is no terminal."""
    return None


def refresh(workspace: Workspace, request: Request) -> RefreshReport:
    """Write the commits that stand in `extern/` above the base back into the series.

    Raises:
        LocalChanges: the work tree holds another series, or was not applied.
        SeriesError: a new patch lacks its trailers, a commit of a patch is gone and nobody says why, or a commit
            cannot be a patch. Nothing was changed then.
    """
    with workspace.open() as (location, series):
        return refresh_locked(workspace.root, location, series, request)


def refresh_locked(root: Path, location: Location, series: Series, request: Request) -> RefreshReport:
    """Refresh a series whose component is locked."""
    if not location.populated:
        raise LocalChanges(
            f"{series.component.path} is empty: nothing is applied", remedy=f"run `patchset apply {series.title}` first"
        )
    local.refuse_under_way(location)
    _, head = current(location)
    base = update.base_of(location, series)
    stack = stack_of(location, series, base)
    _refuse_other(location, series, stack, head)
    above = reading.above(location.git, base.commit, head)
    _refuse_unapplied(location, series, stack, above)
    with merging.scratch(location.git, location.private) as git, comparer(git) as compare:
        items = reading.folded(git, above)
        plan = _Plan(root, series, stack, git, compare, request)
        files, done = plan.files(items)
    dropped = [item for item in done if item.what == "dropped"]
    lines = tuple(f"{item.name}: dropped: {request.reason}" for item in dropped)
    change = update.Change(files, "Changed", lines)
    old = tuple(zip(series.entries, series.files, strict=True))
    changed = tuple((entry.name, data) for entry, data in files) != tuple((entry.name, data) for entry, data in old)
    tree = location.git.tree_of(head) or ""
    new = update.put(location, series, change, expected=tree) if changed else series
    if changed or head != (load_state(location.state_file) or _NoState).tip:
        update.follow(root, new, f"refresh {series.title}")
    return RefreshReport(series.component.name, series.base.name, changed, tree, done, local_changes(location))


class _NoState:
    tip = None


def _refuse_other(location: Location, series: Series, stack: Stack, head: str) -> None:
    """The work tree must hold this series, and the files of the series what was applied."""
    state = load_state(location.state_file)
    if state is not None and state.base != series.base.name:
        raise LocalChanges(
            f"{series.component.path} holds {state.base}, not {series.base.name}",
            remedy=f"name it: patchset refresh {series.component.name}@{state.base}",
        )
    # Another series with the same tree: an earlier refresh that was stopped before its end.
    stopped = location.git.tree_of(head) == stack.patched.tree
    if state is not None and state.digest not in ("", series.digest) and not stopped:
        raise LocalChanges(
            f"the files of {series.title} have changed since they were applied",
            remedy="take those changes back (git checkout), or put them into extern/ (patchset apply), not both",
        )


def _refuse_unapplied(location: Location, series: Series, stack: Stack, above: Sequence[Commit]) -> None:
    """Where the series was never applied, that its commits are not there says nothing."""
    state = load_state(location.state_file)
    known = {patch.commit for patch in stack.patched.patches}
    if state is not None and state.tip != state.base_commit:
        return
    if series.entries and not any(commit.oid in known for commit in above):
        raise LocalChanges(
            f"{series.title} is not applied to {series.component.path}",
            remedy=f"run `patchset apply {series.title}` first, then commit on top of it",
        )


class _Plan:
    """Matches commits to patches and makes their files."""

    def __init__(self, root: Path, series: Series, stack: Stack, git: Git, compare: Comparer, request: Request) -> None:
        self._root = root
        self._series = series
        self._git = git
        self._compare = compare
        self._request = request
        self._stack = stack
        self._patches = {patch.name: patch for patch in series.patches}
        self._entries = {entry.patch_name: entry for entry in series.entries}
        self._commits = {patch.name: patch.commit for patch in stack.patched.patches}
        self._steps = {step.name: step for step in stack.steps}
        self._context = export.context_of(series.patches)

    def files(self, items: Sequence[Commit]) -> tuple[tuple[tuple[Entry, bytes], ...], tuple[Refreshed, ...]]:
        """Return the new series' entries with their files, and what became of each patch.

        Raises:
            SeriesError: see `refresh`; every problem is named.
        """
        names = self._matched(items)
        gone = [name for name in self._steps if name not in names.values()]
        if gone and self._request.reason is None:
            raise SeriesError(
                f"no commit is there any more for {', '.join(gone)}",
                remedy='if that is meant, say why: patchset refresh --drop "REASON"; else bring it back',
            )
        made: list[tuple[Entry, bytes]] = []
        done: list[Refreshed] = []
        problems: list[str] = []
        for item in items:
            name = names.get(item.oid)
            if name is not None:
                data, what = self._kept(self._patches[name], item)
                entry = self._entries[name]
                made.append((entry if data == self._patches[name].data else replace(entry, strip=1), data))
                done.append(Refreshed(name, what, item.oid))
                continue
            taken = {entry.patch_name for entry, _ in made} | set(self._entries)
            name = self._request.names.get(item.oid) or _unique(slug(item.subject), taken)
            data, lacking = self._new(name, item)
            problems += lacking
            made.append((Entry(f"{name}.patch", 1, 0), data))
            done.append(Refreshed(name, "new", item.oid))
        if problems:
            raise SeriesError(
                "a new patch is not complete",
                details=tuple(problems),
                remedy="put the trailers into the commit's message (git commit --amend), or answer on a terminal",
            )
        done += [Refreshed(name, "dropped", None) for name in gone]
        return self._with_outside(made, done)

    def _matched(self, items: Sequence[Commit]) -> dict[str, str]:
        """Return commit -> patch: by id, then by whole message, subject, and what it changes."""
        names: dict[str, str] = {}
        left = dict.fromkeys(self._steps)
        by_commit = {commit: name for name, commit in self._commits.items() if commit}

        def take(oid: str, name: str | None) -> None:
            if name is not None and name in left:
                names[oid] = name
                del left[name]

        for item in items:
            take(item.oid, by_commit.get(item.oid))
        messages = {name: author_and_message(self._patches[name])[1] for name in left}
        keys: tuple[Callable[[Commit], str | None], ...] = (
            lambda item: next((name for name in left if messages[name].strip() == item.message.strip()), None),
            lambda item: next((name for name in left if _subject(messages[name]) == item.subject), None),
            lambda item: next((name for name in left if self._same(name, item)), None),
        )
        for key in keys:
            for item in items:
                if item.oid not in names and item.oid not in self._request.names:
                    take(item.oid, key(item))
        return names

    def _same(self, name: str, item: Commit) -> bool:
        step = self._steps[name]
        return self._compare.compare(step.before, step.after) == self._compare.compare(item.before, item.after)

    def _kept(self, patch: Patch, item: Commit) -> tuple[bytes, What]:
        author, message = author_and_message(patch)
        data, what = patch.data, "unchanged"
        outside = frozenset(self._stack.outside.get(patch.name, ()))
        if not self._same(patch.name, item):
            data = export.rewrite(patch, partial(self._compare.text, item.before, item.after), outside)
            what = "changed"
        if message.strip() != item.message.strip():
            _refuse_message(item)
            data, what = export.with_message(data, item.message), "message changed" if what == "unchanged" else what
        elif f"{author.name} <{author.email}>" != item.author:
            diff = split(data)[1]
            data = export.header_of(item.message, item.author, item.date) + diff
            what = "message changed" if what == "unchanged" else what
        return data, what  # type: ignore[return-value]

    def _new(self, name: str, item: Commit) -> tuple[bytes, list[str]]:
        _refuse_message(item)
        message = item.message.strip("\n") + "\n"
        if self._series.base.recorded:
            message = self._asked(name, message)
        header = export.header_of(message, item.author, item.date)
        text = header + self._compare.text(item.before, item.after, self._context)
        if not self._series.base.recorded:
            return text, []
        file = self._series.folder / f"{name}.patch"
        found = lint_trailers(file, header.decode(), self._series.base.name or None, self._root)
        return text, [f"{name} ({item.oid[:12]} {item.subject}): {finding.message}" for finding in found]

    def _asked(self, name: str, message: str) -> str:
        return with_trailers(message, answered(name, message, self._request.ask))

    def _with_outside(
        self, made: list[tuple[Entry, bytes]], done: list[Refreshed]
    ) -> tuple[tuple[tuple[Entry, bytes], ...], tuple[Refreshed, ...]]:
        """Put the patches that the source has no files of back after those that they stood after."""
        above: str | None = None
        for entry, data in zip(self._series.entries, self._series.files, strict=True):
            name = entry.patch_name
            if name not in self._steps:
                names = [item.patch_name for item, _ in made]
                at = names.index(above) + 1 if above in names else 0
                made.insert(at, (entry, data))
                done.append(Refreshed(name, "outside", None))
            above = name
        return tuple(made), tuple(done)


def answered(name: str, message: str, ask: Ask) -> list[str]:
    """Return the lines of the required trailers that a message lacks and `ask` has an answer for."""
    return [f"{rule.key}: {value}" for rule in missing(_below_subject(message)) if (value := ask(name, rule.key))]


def with_trailers(message: str, lines: Sequence[str]) -> str:
    """Return a message with more trailers in its last paragraph, or in a new one."""
    if not lines:
        return message
    text = message.rstrip("\n")
    gap = "\n" if any(trailers(_below_subject(text))) else "\n\n"
    return text + gap + "\n".join(lines) + "\n"


def _below_subject(message: str) -> str:
    """Return a message without its subject, which may look like a trailer: `Fix: ...`."""
    return message.partition("\n\n")[2]


def slug(subject: str) -> str:
    """Return a patch's name after its subject, as git-format-patch makes file names, in lower case."""
    return re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:52].strip("-") or "patch"


def _unique(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found


def _subject(message: str) -> str:
    return " ".join(message.strip("\n").partition("\n\n")[0].split())


def _refuse_message(item: Commit) -> None:
    if why := export.unusable(item.message):
        raise SeriesError(f"commit {item.oid[:12]}: {why}", remedy="reword it: git commit --amend, or git rebase -i")
