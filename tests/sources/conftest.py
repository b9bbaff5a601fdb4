from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from local_index import FILENAME, LocalIndex

from toolkit.progress import Quiet, Task


class Recorder(Quiet):
    """A reporter that keeps what a user would have seen.

    `starts` are the (total, done) of each start of a transfer: an update that does not follow from the one before it
    by bytes that came.
    """

    def __init__(self) -> None:
        self.starts: list[tuple[int | None, int]] = []
        self.count: int | None = None
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def task(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield self

    def update(self, done: int, total: int | None = None) -> None:
        if self.count is None or done <= self.count:
            self.starts.append((total, done))
        self.count = done


@pytest.fixture
def reporter() -> Recorder:
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
