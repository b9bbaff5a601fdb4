"""`lint`: every problem of every series at once."""

from __future__ import annotations

from pathlib import Path

from patchset.model.finding import Finding
from patchset.model.project import read
from patchset.model.series import load
from patchset.model.trailers import lint_trailers


def lint(root: Path) -> tuple[int, list[Finding]]:
    """Return the number of patches checked, and all findings, paths relative to `root`.

    Raises:
        UsageError: `root` is no project.
    """
    project, findings = read(root)
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
                if base.recorded and not patch.records_blobs:
                    message = "names no full blob ids: export it with `git format-patch --full-index`"
                    findings.append(Finding(patch.file, message))
    return count, [_relative(root, finding) for finding in findings]


def _relative(root: Path, finding: Finding) -> Finding:
    path = finding.path.relative_to(root) if finding.path.is_relative_to(root) else finding.path
    return Finding(path, finding.message, finding.line, finding.column, finding.length, finding.text)
