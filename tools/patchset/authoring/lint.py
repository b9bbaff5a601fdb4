"""`lint`: every problem of every series at once."""

from __future__ import annotations

from email import message_from_string
from email.utils import parseaddr
from pathlib import Path

from patchset.model.series import load
from patchset.model.trailers import lint_trailers
from patchset.project.project import Project, read
from patchset.store.git import Git
from patchset.store.superproject import gitdir_of
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
            series, found = load(component, base)
            findings += found
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
    return count, [_relative(root, finding) for finding in findings]


def _gitlinks(project: Project) -> list[Finding]:
    """The commits that the superproject records for the submodules must be those of the pinned bases.

    `git add -A` stages what stands in `extern/`, the patched commit too, and nobody else has that one.
    """
    gitdir = gitdir_of(project.root)
    wanted = {}
    for component in project.components:
        base = component.base(component.pinned) if component.pinned is not None else None
        if base is not None and base.commit is not None:
            wanted[component.path] = (base.name, base.commit)
    if gitdir is None or not wanted:
        return []
    findings = []
    index = Git(gitdir, project.root).run("ls-files", "-z", "--stage", "--", *wanted)
    for record in index.decode("utf-8", errors="surrogateescape").split("\0"):
        head, _, path = record.partition("\t")
        if not head.startswith("160000 ") or path not in wanted:
            continue
        found = head.split()[1]
        name, commit = wanted[path]
        if found != commit:
            remedy = f"git update-index --cacheinfo 160000,{commit},{path}"
            message = f"the submodule records {found}, the pinned base {name} is {commit}: {remedy}"
            findings.append(Finding(project.root / path, message))
    return findings


def _relative(root: Path, finding: Finding) -> Finding:
    path = finding.path.relative_to(root) if finding.path.is_relative_to(root) else finding.path
    return Finding(path, finding.message, finding.line, finding.column, finding.length, finding.text)
