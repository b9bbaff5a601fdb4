"""The user's cache of archives: `archives/<sha256>/<filename>`.

Nothing is handed out unverified. A stamp beside each archive records the file's size, inode, and times of change
(content and status) at the last time its sha256 was right. While these are the same, the bytes are too. Hashing a
315 MB wheel takes about a second, comparing the stamp microseconds. No program can set the time of status change
back, so an edit in place shows even if it restores size and modification time. A stamp does not stop a user who may
write the cache and forges the stamp as well, and so could replace this program. Callers that want to go without it
pass `rehash=True`.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from patchset.sources import pipconfig
from patchset.sources.pipconfig import PipConfig
from toolkit.errors import EnvironmentProblem, IntegrityError, SourceUnavailable
from toolkit.files import replace_file, sha256_of
from toolkit.progress import Reporter

if TYPE_CHECKING:
    from patchset.sources.registry import RemoteFile

CLOCK_TICK_NS = 20_000_000
"""More than the steps (4 to 10 ms) in which kernels advance the time of files: two changes in one look
alike."""


def cache_dir() -> Path:
    """Return `PATCHSET_CACHE_DIR`, or the folder where the platform keeps users' caches."""
    named = os.environ.get("PATCHSET_CACHE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("patchset", appauthor=False)


def archive_path(filename: str, sha256: str) -> Path:
    """Return the cache's path for this archive, which may be absent.

    Raises:
        IntegrityError: the name or the sha256 is none.
    """
    plain = Path(filename).name == filename and filename not in ("", ".", "..") and "\\" not in filename
    if not plain or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise IntegrityError(
            f"not an archive's name and sha256: {filename!r}, {sha256!r}",
            remedy="correct the base's record of its archives",
        )
    return cache_dir() / "archives" / sha256 / filename


def cached(filename: str, sha256: str, *, rehash: bool = False) -> Path | None:
    """Return the archive, or None if the cache lacks it.

    Raises:
        IntegrityError: the cache has other bytes in its place; names the file.
        EnvironmentProblem: it cannot be read.
    """
    path = archive_path(filename, sha256)
    try:
        facts = _facts(path)
        if not rehash and facts == _stamp(path):
            return path
        actual = sha256_of(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: {error.strerror}",
            remedy="make it readable, or set PATCHSET_CACHE_DIR to another folder",
        ) from error
    if actual != sha256:
        raise IntegrityError(
            f"{path} is corrupted",
            remedy="delete it, or run again with a network: it is then fetched anew",
            details=(f"expected sha256 {sha256}", f"actual sha256 {actual}"),
        )
    _write_stamp(path, facts)
    return path


def fetch(
    project: str,
    filename: str,
    sha256: str,
    reporter: Reporter,
    *,
    offline: bool = False,
    rehash: bool = False,
    config: PipConfig | None = None,
) -> Path:
    """Return the archive from the cache, or download it there from the first index with the recorded bytes.

    A corrupted entry of the cache is noted and fetched anew.

    Raises:
        IntegrityError: the indexes have other bytes, or `offline` is set and the cache has.
        SourceUnavailable: no index gives the file, or `offline` is set and the cache lacks it.
        EnvironmentProblem: the disk is full, or the cache cannot be read or written.
    """
    path = archive_path(filename, sha256)
    try:
        if hit := cached(filename, sha256, rehash=rehash):
            return hit
    except IntegrityError as error:
        if offline:
            raise
        reporter.note(f"{error.message}; fetching it anew")
    if offline:
        raise SourceUnavailable(
            f"{filename} is not in the cache, and the network is not to be used",
            remedy=f"run once with a network, or put the file at {path}",
        )
    _download(project, filename, sha256, path, reporter, pipconfig.load() if config is None else config)
    _write_stamp(path, _facts(path))
    return path


def _download(project: str, filename: str, sha256: str, path: Path, reporter: Reporter, config: PipConfig) -> None:
    # Imported here: what talks to a network takes longer to load than a cached archive to check.
    from patchset.sources.download import download
    from patchset.sources.registry import Registry, other_bytes

    registry = Registry(config, note=reporter.note)
    others: list[RemoteFile] = []
    failure: SourceUnavailable | IntegrityError | None = None
    for remote in registry.candidates(project, filename):
        if remote.sha256 not in (None, sha256):
            others.append(remote)
            reporter.note(f"{remote.index} offers another {filename}, with sha256 {remote.sha256}")
            continue
        try:
            download(remote, sha256, path, reporter, config=config)
        except (SourceUnavailable, IntegrityError) as error:
            failure = failure or error
            reporter.note(f"{error.message}; looking elsewhere")
        else:
            return
    if failure is not None:
        raise failure
    raise other_bytes(filename, sha256, others) if others else registry.not_found(project, filename)


def _facts(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}\n"


def _stamp_path(path: Path) -> Path:
    return path.with_name(path.name + ".stamp")


def _stamp(path: Path) -> str | None:
    try:
        return _stamp_path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return None


def _write_stamp(path: Path, facts: str) -> None:
    """Record `facts`, once the clock of files has moved on: from then on a change of the file changes its facts.

    A cache that cannot be written, such as a shared one, is hashed every time.
    """
    changed = int(facts.split()[-1])
    if 0 <= (age := time.time_ns() - changed) < CLOCK_TICK_NS:
        time.sleep((CLOCK_TICK_NS - age) / 1e9)
    with contextlib.suppress(OSError):
        replace_file(_stamp_path(path), facts)
