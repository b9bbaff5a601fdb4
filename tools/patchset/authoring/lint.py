"""`lint`: all problems of all series."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_string
from email.utils import parseaddr
from pathlib import Path

from patchset.model.series import load
from patchset.model.trailers import lint_trailers
from patchset.project.project import Project, read
from patchset.store.index import index_entries
from patchset.store.objects import GITLINK
from patchset.store.superproject import git_of
from toolkit.finding import Finding


def lint(root: Path) -> tuple[int, list[Finding]]:
    """Return the number of patches checked, and all findings, paths relative to `root`.

    Raises:
        UsageError: `root` is no project.
    """
    project, findings = read(root)
    findings += _gitlinks(project)
    count = 0
    for component in project.components:
        for base in component.bases:
            series, breaches = load(component, base)
            findings += breaches
            if series is None:
                continue
            findings += series.findings
            for patch in series.patches:
                count += 1
                findings += lint_trailers(patch.file, patch.header, base.name or None, root)
                if base.recorded and "@" not in parseaddr(str(message_from_string(patch.header)["From"]))[1]:
                    message = "names no author with an address (From: Name <address>), which git am refuses"
                    findings.append(Finding(patch.file, message))
                if base.recorded and not patch.records_blobs:
                    message = "names no full blob ids: export it with `git format-patch --full-index`"
                    findings.append(Finding(patch.file, message))
    return count, [replace(item, path=_relative(root, item.path)) for item in findings]


def _gitlinks(project: Project) -> list[Finding]:
    """Return a finding for every submodule at another commit, in the project's index, than its pinned base.

    `git add -A` stages the commit in `extern/`, even the patched one, which nobody else has.
    """
    git = git_of(project.root)
    pinned = {}
    for component in project.components:
        base = component.base(component.pinned) if component.pinned is not None else None
        if base is not None and base.commit is not None:
            pinned[component.path] = (base.name, base.commit)
    if git is None:
        return []
    findings = []
    for path, entry in index_entries(git, pinned).items():
        name, commit = pinned[path]
        if entry.mode == GITLINK and entry.oid != commit:
            remedy = f"git update-index --cacheinfo 160000,{commit},{path}"
            message = f"the submodule records {entry.oid}, the pinned base {name} is {commit}: {remedy}"
            findings.append(Finding(project.root / path, message))
    return findings


def _relative(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
