"""An installed package with a series' changes, beside the one that is installed: nothing there is touched.

The series is applied to the very files of the environment: a patch is taken only where each blob that it touches is the
one that the patch names. This proves that the environment holds the base.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from patchset.engine.apply import apply, combined, read_paths
from patchset.model.series import Series
from patchset.store.objects import TreeEntry, blob_id
from regression.values.scenario import Edit
from toolkit.errors import PatchConflict, UsageError
from toolkit.finding import refuse

_FILE = 0o100644
PackageChanges = tuple[tuple[str, ...], dict[str, bytes | None]]


@dataclass(frozen=True)
class PatchedPackage:
    """A folder for PYTHONPATH. `blobs` maps each changed file to its new blob id, None where it went."""

    folder: Path
    patches: tuple[str, ...]
    blobs: Mapping[str, str | None]


def changed(site: Path, package: str, series: Series, without: str | None) -> PackageChanges:
    """Return the patches that reach the package, and the new contents of the files that they change (None: gone).

    `site` is the environment's folder of packages; `without` names a patch that is left out. With it go the later
    ones that are built upon it: they no longer apply.

    Raises:
        SeriesError, PatchConflict: the series is broken, or the environment does not hold its base.
        UsageError: there is no patch of the name `without`.
    """
    refuse(series.findings, series.title)
    names = [patch.name for patch in series.patches]
    if without is not None and without not in names:
        raise UsageError(f"{series.title} has no patch {without!r}", remedy=f"its patches: {', '.join(names)}")
    patches = list(series.patches)
    contents: dict[str, bytes] = {}
    entries: dict[str, TreeEntry] = {}
    # Wheels and installers drop the executable bit: it is taken to be what the first patch to the file says.
    modes = {change.old_path: change.old_mode for patch in reversed(patches) for change in patch.changes}
    for path in read_paths(patches):
        file = site / path
        if path.startswith(f"{package}/") and file.is_file():
            data = file.read_bytes()
            entries[path] = TreeEntry(modes.get(path) or _FILE, blob_id(data))
            contents[entries[path].oid] = data
    attempt = partial(apply, entries=entries, read=contents.__getitem__, covers=(f"{package}/*",), label=series.title)
    if without is None:
        applied = attempt(patches)
    else:
        # A later patch to the same file no longer meets the blob that it names: it is located by its context.
        at = names.index(without)
        kept, applied = patches[:at], attempt(patches[:at])
        for patch in patches[at + 1 :]:
            with suppress(PatchConflict):
                applied = attempt([*kept, patch], recorded=False)
                kept.append(patch)
    files = {path: file.data if file is not None else None for path, file in combined(applied).items()}
    return tuple(item.patch.name for item in applied if item.match != "outside"), files


def build(
    folder: Path, site: Path, package: str, series: Series, without: str | None = None, edits: Sequence[Edit] = ()
) -> PatchedPackage:
    """Make the patched package in `folder`, which is replaced; `edits` plant defects on top of the series.

    Raises:
        SeriesError, PatchConflict: see `changed`.
        UsageError: an edit's text does not stand exactly once in its file.
    """
    patches, files = changed(site, package, series, without)
    for edit in edits:
        file = site / edit.file
        before = files.get(edit.file, file.read_bytes() if file.is_file() else None) or b""
        if before.count(edit.old.encode()) != 1:
            raise UsageError(f"the text to replace does not stand exactly once in {edit.file}", details=(edit.old,))
        files[edit.file] = before.replace(edit.old.encode(), edit.new.encode())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _mirror(site / package, folder / package, {site / path for path in files})
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            target.write_bytes(data)
    blobs = {path: blob_id(data) if data is not None else None for path, data in sorted(files.items())}
    return PatchedPackage(folder, patches, blobs)


def _mirror(source: Path, target: Path, changed: set[Path]) -> None:
    """Link everything but the files in `changed`: folders as a whole where none of those is below them.

    Compiled parts are not copied, and bytecode is not compiled again: Python checks its source's time and size, which a
    link has too.
    """
    target.mkdir()
    for item in source.iterdir():
        if item.name == "__pycache__":
            (target / item.name).mkdir()
            stems = {path.stem for path in changed if path.parent == source}
            for file in item.iterdir():
                if file.name.partition(".")[0] not in stems:
                    (target / item.name / file.name).symlink_to(file)
        elif item.is_dir() and any(path.is_relative_to(item) for path in changed):
            _mirror(item, target / item.name, changed)
        elif item not in changed:
            (target / item.name).symlink_to(item)
