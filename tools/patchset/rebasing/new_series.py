"""The new series of a rebase: proven by computing it, then written as one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from patchset.project.base_toml import NAME as BASE_TOML
from patchset.project.base_toml import base_text, read_text
from patchset.rebasing.job import RebaseJob
from patchset.rebasing.outcomes import NewPatch
from patchset.sources.acquire import StoredBase
from patchset.workflow import changelog, folder
from patchset.workflow.compute import compute
from patchset.workflow.series_file import series_text
from toolkit.errors import IntegrityError
from toolkit.finding import refuse


def write_series(job: RebaseJob, new: StoredBase, tree: str, patches: Sequence[NewPatch]) -> None:
    """Write the folder of the new series, in one step, after its patches have given `tree` on the new base.

    Raises:
        IntegrityError: they give another tree.
        SeriesError: a new patch cannot be parsed.
    """
    old, source = job.series, new.source
    assert source is not None
    base = job.base.with_source(source.with_trees(new.tree, tree))
    files = [(item.entry, item.data) for item in patches if item.data is not None and not item.parked]
    entries, data = tuple(entry for entry, _ in files), tuple(content for _, content in files)
    series = replace(old, base=base, folder=base.folder, entries=entries, files=data)
    refuse(series.findings, series.title)
    patched = compute(job.location, series, new.unproven())
    if patched.tree != tree:
        raise IntegrityError(
            f"the exported patches give tree {patched.tree}, the merge gave {tree}",
            remedy="report this: the patches of the new series were not written",
        )
    parked = [item.entry for item in patches if item.parked]
    carried = [*old.disabled, *(entry.name for entry in parked)]
    contents = {BASE_TOML: base_text(base, read_text(old.base)).encode()}
    contents["series"] = series_text(old, entries, frozenset(entry.patch_name for entry in parked)).encode()
    contents[changelog.NAME] = _changelog(job, patches).encode()
    contents |= {name: (old.folder / name).read_bytes() for name in carried}
    contents |= {entry.name: content for entry, content in files}
    folder.write(base.folder, contents)


def _changelog(job: RebaseJob, patches: Sequence[NewPatch]) -> str:
    old = job.series
    lines = [item.outcome.changelog_line for item in patches]
    lines += [f"{name}: commented out in `series`, and carried over as it is" for name in old.disabled]
    heading = f"Rebased from {old.base.name}" if old.base.name else "Rebased"
    return changelog.title(job.workspace.component.name, job.base.name) + "\n" + changelog.section(heading, lines)
