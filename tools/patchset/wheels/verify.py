"""Proving a wheel or an environment: RECORD, the patched files, and everything that no patch touches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Protocol, cast

from patchset.store.objects import blob_id
from patchset.wheels import record, sbom
from patchset.wheels.overlay import Graft, WheelChange, expected_record, wheel_name
from patchset.wheels.rawzip import RawArchive
from toolkit.errors import IntegrityError, VerifyFailed

# What installers add to a distribution (packaging specification "Recording installed projects").
_INSTALLED = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json", "RECORD")
_SHOWN = 20


@dataclass(frozen=True)
class BundleCheck:
    """The result of one proof: `good` is None where there was no way to prove it; `detail` says why."""

    name: str
    good: bool | None
    detail: str


class Bundle(Protocol):
    """A distribution's files, in a wheel or installed."""

    title: str
    dist_info: str

    def names(self) -> Iterator[str]:
        """Return every file that is there, in RECORD or not."""

    def open(self, name: str) -> IO[bytes]: ...

    def read(self, name: str) -> bytes: ...

    def may_be_extra(self, name: str) -> bool:
        """Return whether an installer may have put the file there."""


class WheelFile(RawArchive):
    """A wheel file as a bundle.

    Raises:
        IntegrityError: it is not a wheel, or damaged.
    """

    def __init__(self, file: Path) -> None:
        self.title = file.name
        self.dist_info = wheel_name(file.name).dist_info
        super().__init__(file)

    def names(self) -> Iterator[str]:
        return (name for name in self.members if not name.endswith("/"))

    def may_be_extra(self, name: str) -> bool:
        return False


class Installed:
    """An installed distribution as a bundle; `site` is its site-packages folder."""

    def __init__(self, site: Path, dist_info: str) -> None:
        self.title = f"{dist_info.removesuffix('/').removesuffix('.dist-info')} in {site}"
        self.dist_info = dist_info
        self._site = site

    def names(self) -> Iterator[str]:
        listed = [item.path for item in record.parse(self.read(self.dist_info + "RECORD"), "RECORD")]
        yield from (name for name in listed if (self._site / name).exists())
        # A file that nobody listed counts as well: Python would import it.
        folders = {name.split("/")[0] for name in listed if "/" in name and not name.startswith("..")}
        known = set(listed)
        for folder in sorted(folders):
            for file in sorted((self._site / folder).rglob("*")):
                name = file.relative_to(self._site).as_posix()
                if file.is_file() and name not in known:
                    yield name

    def open(self, name: str) -> IO[bytes]:
        return (self._site / name).open("rb")

    def read(self, name: str) -> bytes:
        try:
            return (self._site / name).read_bytes()
        except OSError as error:
            raise IntegrityError(f"{self._site / name}: {error.strerror}", remedy="install the wheel again") from error

    def may_be_extra(self, name: str) -> bool:
        own = name.startswith(self.dist_info) and name.removeprefix(self.dist_info) in _INSTALLED
        return own or name.endswith(".pyc") or name.startswith("../")


def identity(bundle: Bundle) -> sbom.Identity:
    """Return the identity that a bundle carries.

    Raises:
        VerifyFailed: it carries none: it is not a wheel of ours.
    """
    name = bundle.dist_info + sbom.NAME
    if name not in set(bundle.names()):
        raise VerifyFailed(
            f"{bundle.title} is not a wheel of patchset: it has no {name}",
            remedy="install a wheel that `patchset build` wrote",
        )
    return sbom.parse(bundle.read(name), f"{bundle.title}, {name}")


def check_record(bundle: Bundle, progress: Callable[[int, int], None] = lambda count, total: None) -> BundleCheck:
    """Check that RECORD lists every file, each with its sha256 and size."""
    path = bundle.dist_info + "RECORD"
    rows = {item.path: item for item in record.parse(bundle.read(path), f"{bundle.title}, {path}")}
    wrong = []
    there = set(bundle.names())
    for count, name in enumerate(sorted(there), 1):
        progress(count, len(there))
        row = rows.get(name)
        if row is None:
            if not bundle.may_be_extra(name):
                wrong.append(f"{name}: not in RECORD")
        elif row.digest and _hashed(bundle, name) != (row.digest, row.size):
            wrong.append(f"{name}: not the bytes that RECORD lists")
        elif not row.digest and name != path and not bundle.may_be_extra(name):
            wrong.append(f"{name}: RECORD has no hash for it")
    wrong += [f"{name}: missing" for name in sorted(rows.keys() - there) if not bundle.may_be_extra(name)]
    return _check("RECORD", wrong, f"{len(there)} files are as RECORD lists them")


def check_files(bundle: Bundle, changes: Mapping[str, WheelChange]) -> BundleCheck:
    """Check that the files which the series changes are the series' own."""
    there = set(bundle.names())
    wrong = []
    for path, change in sorted(changes.items()):
        if change.after is None:
            if path in there:
                wrong.append(f"{path}: the series removes it")
        elif path not in there:
            wrong.append(f"{path}: missing")
        elif blob_id(bundle.read(path)) != change.after.blob:
            wrong.append(f"{path}: not the file that the series makes")
    return _check("patched files", wrong, f"{len(changes)} files are the ones that the series makes")


def check_overlay(bundle: Bundle, official: Path, graft: Graft) -> BundleCheck:
    """Check that RECORD is the one that the overlay of the official wheel has; `check_record` proves the rest.

    The SBOM is left out: `identity` reads it, and its bytes may differ between releases of what writes it.
    """
    own = bundle.dist_info + sbom.NAME
    wanted = {item.path: item for item in expected_record(official, graft) if item.path != own}
    path = bundle.dist_info + "RECORD"
    entries = record.parse(bundle.read(path), f"{bundle.title}, {path}")
    listed = {entry.path: entry for entry in entries if entry.path != own}
    # An installer spreads the wheel's data folder over the environment: there it is known by its hash.
    spread = bundle.dist_info.replace(".dist-info/", ".data/")
    digests = {entry.digest for entry in listed.values()}
    wrong = [
        f"{name}: missing"
        for name, item in sorted(wanted.items())
        if name not in listed and not (name.startswith(spread) and item.digest in digests)
    ]
    for name in sorted(listed):
        if name not in wanted:
            wrong += [] if bundle.may_be_extra(name) else [f"{name}: neither upstream's nor the series'"]
        elif listed[name] != wanted[name] and name != path:
            wrong.append(f"{name}: not the bytes of the official wheel")
    return _check("other files", wrong, f"{len(wanted) - len(graft.changes)} files are those of {official.name}")


def _hashed(bundle: Bundle, name: str) -> tuple[str, str]:
    with bundle.open(name) as stream:
        digest = hashlib.file_digest(cast(BufferedIOBase, stream), "sha256").digest()
        return record.digest_of(digest), str(stream.tell())


def _check(name: str, wrong: list[str], good: str) -> BundleCheck:
    if not wrong:
        return BundleCheck(name, True, good)
    rest = f"\nand {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return BundleCheck(name, False, "\n".join(wrong[:_SHOWN]) + rest)
