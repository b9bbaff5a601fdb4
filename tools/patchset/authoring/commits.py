"""The user's commits in `extern/`, read back as what they are to a series: steps with a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import partial

from patchset.engine.replay import PatchStep, replay
from patchset.store import merge as merging
from patchset.store.git import Git
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
        return " ".join(self.message.strip("\n").partition("\n\n")[0].split())

    @property
    def date(self) -> str:
        """The author's date as RFC 5322 has it."""
        seconds, offset = self.when.split()
        sign = -1 if offset.startswith("-") else 1
        zone = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5])))
        return format_datetime(datetime.fromtimestamp(int(seconds), zone))


def above(git: Git, base: str, tip: str) -> list[Commit]:
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
    listed = git.run("rev-list", "--reverse", "--topo-order", "--parents", f"{base}..{tip}").decode().splitlines()
    found = []
    tree = git.tree_of(base) or ""
    for line in listed:
        oid, *parents = line.split()
        if len(parents) != 1:
            raise SeriesError(
                f"commit {oid[:12]} is a merge: a series is a line of patches",
                remedy="make it one: git rebase in extern/, then refresh again",
            )
        commit = _read(git, oid, tree)
        found.append(commit)
        tree = commit.after
    return found


def _read(git: Git, oid: str, before: str) -> Commit:
    raw = git.contents(oid) or b""
    head, _, message = raw.partition(b"\n\n")
    fields: dict[str, str] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        fields.setdefault(key.decode(), value.decode("utf-8", errors="surrogateescape"))
    author, _, when = fields["author"].partition("> ")
    text = message.decode(fields.get("encoding", "utf-8"), errors="surrogateescape")
    return Commit(oid, before, fields["tree"], f"{author}>", when, text)


def folded(git: Git, commits: Sequence[Commit]) -> list[Commit]:
    """Return the commits with every `fixup!` folded into the one that it names, as `git rebase --autosquash` does.

    `git` is one of `scratch`; the trees in between are computed there.

    Raises:
        SeriesError: a fixup names no commit before it, or is of a kind that this does not do.
        PatchConflict: it does not fit there.
    """
    order: list[list[Commit]] = []
    for commit in commits:
        if commit.subject.startswith(_OTHERS):
            raise SeriesError(
                f"commit {commit.oid[:12]} is {commit.subject.split()[0]!r}, which changes a message too",
                remedy="fold it yourself: git rebase -i --autosquash in extern/, then refresh again",
            )
        if not commit.subject.startswith(FIXUP):
            order.append([commit])
            continue
        wanted = commit.subject
        while wanted.startswith(FIXUP):
            wanted = wanted.removeprefix(FIXUP)
        target = next((group for group in reversed(order) if group[0].subject == wanted), None)
        if target is None:
            target = next((group for group in order if group[0].oid.startswith(wanted) and len(wanted) > 6), None)
        if target is None:
            raise SeriesError(
                f"commit {commit.oid[:12]} is a fixup of {wanted!r}, and no commit before it has that subject",
                remedy="reword it: git rebase -i in extern/",
            )
        target.append(commit)
    steps = [PatchStep(commit.oid, commit.before, commit.after) for group in order for commit in group]
    if not steps:
        return []
    done, stopped = replay(steps, steps[0].before if steps else "", partial(merging.merge, git))
    if stopped is not None:
        found = next(commit for commit in commits if commit.oid == stopped.step.name)
        raise PatchConflict(
            f"folding does not go through: {found.subject!r} conflicts in {', '.join(stopped.merged.paths)}",
            remedy="fold it yourself: git rebase -i --autosquash in extern/, then refresh again; nothing was changed",
        )
    trees = {item.step.name: item for item in done}
    return [replace(group[0], before=trees[group[0].oid].before, after=trees[group[-1].oid].after) for group in order]
