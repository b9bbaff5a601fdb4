"""Which indexes are asked, in which order, and what is said of those that do not answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Recorder
from local_index import FILENAME, PROJECT, LocalIndex, sha256, status

from patchset.errors import EnvironmentProblem, IntegrityError, SourceUnavailable
from patchset.sources import cache, pipconfig
from patchset.sources.pipconfig import PipConfig
from patchset.sources.registry import Registry, RemoteFile


def found(config: PipConfig, progress: Recorder | None = None) -> list[RemoteFile]:
    note = progress.note if progress is not None else lambda text: None
    return list(Registry(config, note=note, backoff=0.01).candidates(PROJECT, FILENAME))


@pytest.mark.parametrize("json", [True, False])
def test_json_and_html_indexes(index: LocalIndex, data: bytes, json: bool) -> None:
    index.offers_json = json
    (remote,) = found(index.config())
    assert remote.sha256 == sha256(data)
    assert remote.size == (len(data) if json else None)
    assert remote.url == index.remote().url


def test_a_yanked_file_is_taken_and_that_is_said(index: LocalIndex, progress: Recorder) -> None:
    index.yanked[FILENAME] = "broken"
    assert len(found(index.config(), progress)) == 1
    assert "was yanked" in progress.notes[0]
    assert "broken" in progress.notes[0]


def test_extra_indexes_folders_and_pages(index: LocalIndex, data: bytes, tmp_path: Path) -> None:
    page = tmp_path / "simple" / PROJECT / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{FILENAME}">{FILENAME}</a>')
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / FILENAME).write_bytes(data)
    config = index.config(
        find_links=(str(tmp_path / "files"), f"{index.root}/links/"),
        extra_index_urls=((tmp_path / "simple").as_uri(),),
    )
    assert [remote.index for remote in found(config)] == [
        str(tmp_path / "files"),
        f"{index.root}/links/",
        index.simple,
        (tmp_path / "simple").as_uri(),
    ]


def test_no_index(index: LocalIndex) -> None:
    assert found(index.config(no_index=True)) == []
    assert index.asked == []


@pytest.mark.parametrize("fault", [404, 500, 403])
def test_an_index_that_refuses_is_named(index: LocalIndex, progress: Recorder, fault: int) -> None:
    index.page_faults += [status(fault)] * 5
    registry = Registry(index.config(), note=progress.note, backoff=0.01)
    assert list(registry.candidates(PROJECT, FILENAME)) == []
    error = registry.not_found(PROJECT, FILENAME)
    assert FILENAME in error.message
    assert index.simple in error.details[0]
    assert error.remedy


def test_a_page_that_is_no_index(index: LocalIndex) -> None:
    index.page_faults.append(lambda handler: handler.answer(200, b"{", {"Content-Type": "application/json"}))
    registry = Registry(index.config(), backoff=0.01)
    assert list(registry.candidates(PROJECT, FILENAME)) == []
    assert "no package index" in registry.not_found(PROJECT, FILENAME).details[0]


def test_a_folder_that_is_gone_is_named(index: LocalIndex, progress: Recorder, tmp_path: Path) -> None:
    config = index.config(extra_index_urls=((tmp_path / "gone").as_uri(),), find_links=(str(tmp_path / "no"),))
    assert len(found(config, progress)) == 1
    assert len(progress.notes) == 2


def test_passwords_are_never_shown(index: LocalIndex, progress: Recorder, tmp_path: Path) -> None:
    index.credentials = "Basic bWU6c2VjcmV0"
    with_password = index.simple.replace("http://", "http://me:secret@")
    (remote,) = found(index.config(index_url=with_password), progress)
    assert "secret" not in repr(remote)
    assert "secret" not in remote.index
    wrong = index.simple.replace("http://", "http://me:hidden@")
    registry = Registry(index.config(index_url=wrong), note=progress.note, backoff=0.01)
    assert list(registry.candidates(PROJECT, FILENAME)) == []
    error = registry.not_found(PROJECT, FILENAME)
    assert "HTTP 401" in error.details[0]
    assert "hidden" not in " ".join([error.message, error.remedy, *error.details, *progress.notes])


def test_certificates_that_are_not_there(index: LocalIndex, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"nowhere\.pem"):
        found(index.config(cert=tmp_path / "nowhere.pem"))


def test_the_cache_takes_what_has_the_recorded_bytes(
    index: LocalIndex, progress: Recorder, data: bytes, tmp_path: Path
) -> None:
    """An index in front offers other bytes under the same name: it is passed over, and that is said."""
    with LocalIndex() as other:
        other.files[FILENAME] = b"something else"
        config = index.config(index_url=other.simple, extra_index_urls=(index.simple,))
        path = cache.fetch(PROJECT, FILENAME, sha256(data), progress, config=config)
        assert path.read_bytes() == data
        assert any("offers another" in note for note in progress.notes)
        assert other.file_requests == []
        path.unlink()
        with pytest.raises(IntegrityError, match="not the recorded file anywhere"):
            cache.fetch(PROJECT, FILENAME, sha256(data), progress, config=index.config(index_url=other.simple))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_pips_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(
        tmp_path / "pip.conf",
        "[global]\nindex-url = http://one.invalid/simple\nextra-index-url =\n  http://a.invalid\n  http://b.invalid\n"
        "timeout = 7\n[download]\nindex_url = http://two.invalid/simple\n",
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    config = pipconfig.load()
    assert config.index_url == "http://two.invalid/simple"
    assert config.extra_index_urls == ("http://a.invalid", "http://b.invalid")
    assert config.timeout == 7
    monkeypatch.setenv("PIP_INDEX_URL", "http://three.invalid/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert pipconfig.load().index_url == "http://three.invalid/simple"
    assert pipconfig.load().no_index is True


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("PIP_TIMEOUT", "soon", "timeout is 'soon'"), ("PIP_NO_INDEX", "maybe", "no-index is 'maybe'")],
)
def test_options_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentProblem, match=words):
        pipconfig.load()


def test_a_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", str(write(tmp_path / "pip.conf", "index-url = x\n")))
    with pytest.raises(EnvironmentProblem, match=r"pip\.conf"):
        pipconfig.load()


def put(data: bytes) -> Path:
    path = cache.archive_path(FILENAME, sha256(data))
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def test_the_cache_hands_out_nothing_unverified(progress: Recorder) -> None:
    path = put(b"good")
    assert cache.cached(FILENAME, sha256(b"good")) == path
    stat = path.stat()
    path.write_bytes(b"evil")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(IntegrityError, match="corrupted") as caught:
        cache.cached(FILENAME, sha256(b"good"))
    assert "expected sha256" in caught.value.details[0]
    with pytest.raises(IntegrityError):
        cache.fetch(PROJECT, FILENAME, sha256(b"good"), progress, offline=True)


def test_a_corrupted_entry_is_fetched_anew(index: LocalIndex, progress: Recorder, data: bytes) -> None:
    path = put(data)
    path.write_bytes(b"rotten")
    assert cache.fetch(PROJECT, FILENAME, sha256(data), progress, config=index.config()).read_bytes() == data
    assert "corrupted" in progress.notes[0]
    index.asked.clear()
    cache.fetch(PROJECT, FILENAME, sha256(data), progress, config=index.config())
    assert index.asked == []


def test_offline_without_the_file(progress: Recorder) -> None:
    with pytest.raises(SourceUnavailable, match="not in the cache") as caught:
        cache.fetch(PROJECT, FILENAME, "0" * 64, progress, offline=True)
    assert str(cache.cache_dir()) in caught.value.remedy


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "a/b", "a\\b", "/x"])
def test_names_that_leave_the_cache(name: str) -> None:
    with pytest.raises(IntegrityError):
        cache.archive_path(name, "0" * 64)
    with pytest.raises(IntegrityError):
        cache.archive_path(FILENAME, name)
