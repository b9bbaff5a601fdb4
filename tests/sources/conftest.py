from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_index import FILENAME, LocalIndex

from patchset.sources.download import Quiet


class Recorder(Quiet):
    """Keeps what a user would have seen."""

    def __init__(self) -> None:
        self.starts: list[tuple[int | None, int]] = []
        self.count = 0
        self.notes: list[str] = []

    def start(self, filename: str, total: int | None, done: int) -> None:
        self.starts.append((total, done))
        self.count = done

    def advance(self, count: int) -> None:
        self.count += count

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def progress() -> Recorder:
    return Recorder()


@pytest.fixture
def data() -> bytes:
    return os.urandom(3_000_000)


@pytest.fixture
def index(data: bytes) -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        index.files[FILENAME] = data
        yield index


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No test but those that ask the real registry sees the configuration, caches and proxies of who runs it."""
    if request.node.get_closest_marker("network"):
        return
    for name in os.environ:
        if name.startswith("PIP_") or name.lower().endswith("_proxy") or "CA_BUNDLE" in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PATCHSET_CACHE_DIR", str(tmp_path / "cache"))
