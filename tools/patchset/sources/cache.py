"""The user's cache of archives: `archives/<sha256>/<filename>`.

Nothing is handed out unverified. A stamp beside each archive records what the file system said of it (size,
inode, and the times of its last change of content and of status) when its sha256 was last found right; while
that has not changed, the bytes have not. Hashing a 315 MB wheel anew takes about a second, comparing the
stamp microseconds. The time of status change is in it because no program can set it back: an edit in place
that restores size and modification time still shows. A stamp does not stop whoever may write the cache and
forges the stamp as well, and so could replace this program; callers that want to go without it pass
`rehash=True`.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from patchset.sources import pipconfig
from patchset.sources.download import QUIET, Progress, download, sha256_of
from patchset.sources.pipconfig import PipConfig
from patchset.sources.registry import Registry, RemoteFile, other_bytes
from toolkit.errors import EnvironmentProblem, IntegrityError, SourceUnavailable

CLOCK_TICK_NS = 20_000_000
"""More than the steps (4 to 10 ms) in which kernels advance the time of files: two changes in one look
alike."""


def cache_dir() -> Path:
    """`PATCHSET_CACHE_DIR`, or the folder where the platform keeps users' caches."""
    named = os.environ.get("PATCHSET_CACHE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("patchset", appauthor=False)


def archive_path(filename: str, sha256: str) -> Path:
    """Where the cache keeps this archive, be it there or not."""
    plain = Path(filename).name == filename and filename not in ("", ".", "..") and "\\" not in filename
    if not plain or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise IntegrityError(
            f"not an archive's name and sha256: {filename!r}, {sha256!r}",
            remedy="correct the base's record of its archives",
        )
    return cache_dir() / "archives" / sha256 / filename


def cached(filename: str, sha256: str, *, rehash: bool = False) -> Path | None:
    """The archive, if the cache has it.

    Raises IntegrityError, which names the file, where the cache has other bytes in its place.
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
    progress: Progress = QUIET,
    *,
    offline: bool = False,
    rehash: bool = False,
    config: PipConfig | None = None,
) -> Path:
    """The archive from the cache, or downloaded into it from the first index that gives the recorded bytes.

    A corrupted entry of the cache is told to `progress` and fetched anew; with `offline` it is an
    IntegrityError, and a missing one a SourceUnavailable.
    """
    path = archive_path(filename, sha256)
    try:
        if hit := cached(filename, sha256, rehash=rehash):
            return hit
    except IntegrityError as error:
        if offline:
            raise
        progress.note(f"{error.message}; fetching it anew")
    if offline:
        raise SourceUnavailable(
            f"{filename} is not in the cache, and the network is not to be used",
            remedy=f"run once with a network, or put the file at {path}",
        )
    _download(project, filename, sha256, path, progress, pipconfig.load() if config is None else config)
    _write_stamp(path, _facts(path))
    return path


def _download(project: str, filename: str, sha256: str, path: Path, progress: Progress, config: PipConfig) -> None:
    registry = Registry(config, note=progress.note)
    others: list[RemoteFile] = []
    failure: SourceUnavailable | IntegrityError | None = None
    for remote in registry.candidates(project, filename):
        if remote.sha256 not in (None, sha256):
            others.append(remote)
            progress.note(f"{remote.index} offers another {filename}, with sha256 {remote.sha256}")
            continue
        try:
            download(remote, sha256, path, progress, config=config)
        except (SourceUnavailable, IntegrityError) as error:
            failure = failure or error
            progress.note(f"{error.message}; looking elsewhere")
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
    """Records `facts`, once the clock of files has moved on: from then on a change of the file changes its
    facts.

    A cache that cannot be written, such as a shared one, is hashed every time.
    """
    changed = int(facts.split()[-1])
    if 0 <= (age := time.time_ns() - changed) < CLOCK_TICK_NS:
        time.sleep((CLOCK_TICK_NS - age) / 1e9)
    stamp = _stamp_path(path)
    partial = stamp.with_name(f"{stamp.name}.{os.getpid()}")
    try:
        partial.write_text(facts, "ascii")
        partial.replace(stamp)
    except OSError:
        # A read-only file system refuses to remove even what is not there.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
