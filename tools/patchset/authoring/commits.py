"""The user's commits in `extern/`, read back as steps of a series, with their messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import partial

from patchset.engine.replay import PatchStep, replay
from patchset.model.patch import subject_of
from patchset.store import merge as merging
from patchset.store.git import Git
from patchset.store.text import decode
from patchset.workflow.compute import tree_of
from toolkit.errors import LocalChanges, PatchConflict, SeriesError

FIXUP = "fixup! "
_OTHERS = ("squash! ", "amend! ")


@dataclass(frozen=True)
class Commit:
    """One commit above the base; `author` is `Name <email>`, `when` git's raw date."""

    oid: str
    before: str
    after: str
    author: str
    when: str
    message: str

    @property
    def subject(self) -> str:
        return subject_of(self.message)

    @property
    def date(self) -> str:
        """The author's date as RFC 5322 has it."""
        seconds, offset = self.when.split()
        sign = -1 if offset.startswith("-") else 1
        zone = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5])))
        return format_datetime(datetime.fromtimestamp(int(seconds), zone))


def commits_above(git: Git, base: str, tip: str) -> list[Commit]:
    """Return the commits from `base`, not included, up to `tip`, oldest first.

    Raises:
        LocalChanges: `tip` does not descend from `base`.
        SeriesError: one of them is a merge.
    """
    code, _, _ = git.attempt("merge-base", "--is-ancestor", base, tip)
    if code:
        raise LocalChanges(
            f"HEAD ({tip[:12]}) does not descend from the base {base[:12]}",
            remedy="check out the branch with your commits, or run `patchset apply`",
        )
    lines = git.run("rev-list", "--reverse", "--topo-order", "--parents", f"{base}..{tip}").decode().splitlines()
    commits = []
    tree = tree_of(git, base)
    for line in lines:
        oid, *parents = line.split()
        if len(parents) != 1:
            raise SeriesError(
                f"commit {oid[:12]} is a merge: a series is a line of patches",
                remedy="make it one: git rebase in extern/, then refresh again",
            )
        commits.append(_read(git, oid, tree))
        tree = commits[-1].after
    return commits


def _read(git: Git, oid: str, before: str) -> Commit:
    raw = git.contents(oid) or b""
    head, _, message = raw.partition(b"\n\n")
    fields: dict[str, str] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        fields.setdefault(key.decode(), decode(value))
    author, _, when = fields["author"].partition("> ")
    text = message.decode(fields.get("encoding", "utf-8"), errors="surrogateescape")
    return Commit(oid, before, fields["tree"], f"{author}>", when, text)


def fold_fixups(git: Git, commits: Sequence[Commit]) -> list[Commit]:
    """Return the commits with every `fixup!` folded into the commit that it names, as `git rebase --autosquash` does.

    `git` is one of `scratch`; the trees in between are computed there.

    Raises:
        SeriesError: a fixup names no commit before it, or is of an unsupported kind.
        PatchConflict: it does not fit there.
    """
    groups: list[list[Commit]] = []
    for commit in commits:
        if commit.subject.startswith(_OTHERS):
            raise SeriesError(
                f"commit {commit.oid[:12]} is {commit.subject.split()[0]!r}, which changes a message too",
                remedy="fold it yourself: git rebase -i --autosquash in extern/, then refresh again",
            )
        if not commit.subject.startswith(FIXUP):
            groups.append([commit])
            continue
        _target(groups, commit).append(commit)
    steps = [PatchStep(commit.oid, commit.before, commit.after) for group in groups for commit in group]
    if not steps:
        return []
    replayed_steps, conflict = replay(steps, steps[0].before, partial(merging.merge, git))
    if conflict is not None:
        subject = next(commit.subject for commit in commits if commit.oid == conflict.step.name)
        raise PatchConflict(
            f"folding does not go through: {subject!r} conflicts in {', '.join(conflict.merged.paths)}",
            remedy="fold it yourself: git rebase -i --autosquash in extern/, then refresh again; nothing was changed",
        )
    trees = {item.step.name: item for item in replayed_steps}
    return [replace(group[0], before=trees[group[0].oid].before, after=trees[group[-1].oid].after) for group in groups]


def _target(groups: Sequence[list[Commit]], fixup: Commit) -> list[Commit]:
    """Return the group of the commit that a fixup names, by subject or abbreviated id."""
    name = fixup.subject
    while name.startswith(FIXUP):
        name = name.removeprefix(FIXUP)
    for group in reversed(groups):
        if group[0].subject == name:
            return group
    for group in groups:
        if group[0].oid.startswith(name) and len(name) > 6:
            return group
    raise SeriesError(
        f"commit {fixup.oid[:12]} is a fixup of {name!r}, and no commit before it has that subject",
        remedy="reword it: git rebase -i in extern/",
    )
