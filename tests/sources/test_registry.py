"""Package indexes: their order, their pages, and the messages about those that do not answer."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import warnings
from pathlib import Path

import pytest
from conftest import Recorder
from local_index import FILENAME, JSON, PROJECT, Handler, LocalIndex, sha256, status

from patchset.sources import cache, pipconfig
from patchset.sources.pipconfig import PipConfig
from patchset.sources.registry import Registry, RemoteFile
from toolkit.errors import EnvironmentProblem, IntegrityError, SourceUnavailable


def candidates(config: PipConfig, reporter: Recorder | None = None) -> list[RemoteFile]:
    note = reporter.note if reporter is not None else lambda text: None
    return list(Registry(config, note=note, backoff=0.01).candidates(PROJECT, FILENAME))


@pytest.mark.parametrize("offers_json", [True, False])
def test_json_and_html_indexes(index: LocalIndex, data: bytes, offers_json: bool) -> None:
    index.offers_json = offers_json
    (remote,) = candidates(index.config())
    assert remote.sha256 == sha256(data)
    assert remote.size == (len(data) if offers_json else None)
    assert remote.url == index.remote().url


def test_a_yanked_file_is_taken_and_noted(index: LocalIndex, reporter: Recorder) -> None:
    index.yanked[FILENAME] = "broken"
    assert len(candidates(index.config(), reporter)) == 1
    assert "was yanked" in reporter.notes[0]
    assert "broken" in reporter.notes[0]


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
    assert [remote.index for remote in candidates(config)] == [
        str(tmp_path / "files"),
        f"{index.root}/links/",
        index.simple,
        (tmp_path / "simple").as_uri(),
    ]


def test_no_index(index: LocalIndex) -> None:
    assert candidates(index.config(no_index=True)) == []
    assert index.requests == []


@pytest.mark.parametrize("fault", [404, 500, 403])
def test_an_index_that_refuses_is_named(index: LocalIndex, reporter: Recorder, fault: int) -> None:
    index.page_faults += [status(fault)] * 5
    registry = Registry(index.config(), note=reporter.note, backoff=0.01)
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


def test_a_folder_that_is_gone_is_named(index: LocalIndex, reporter: Recorder, tmp_path: Path) -> None:
    config = index.config(extra_index_urls=((tmp_path / "gone").as_uri(),), find_links=(str(tmp_path / "no"),))
    assert len(candidates(config, reporter)) == 1
    assert len(reporter.notes) == 2


def test_passwords_are_never_shown(index: LocalIndex, reporter: Recorder, tmp_path: Path) -> None:
    index.credentials = "Basic bWU6c2VjcmV0"
    with_password = index.simple.replace("http://", "http://me:secret@")
    (remote,) = candidates(index.config(index_url=with_password), reporter)
    assert "secret" not in repr(remote)
    assert "secret" not in remote.index
    wrong = index.simple.replace("http://", "http://me:hidden@")
    registry = Registry(index.config(index_url=wrong), note=reporter.note, backoff=0.01)
    assert list(registry.candidates(PROJECT, FILENAME)) == []
    error = registry.not_found(PROJECT, FILENAME)
    assert "HTTP 401" in error.details[0]
    assert "hidden" not in " ".join([error.message, error.remedy, *error.details, *reporter.notes])


def test_a_password_is_not_in_a_librarys_message_either(index: LocalIndex, reporter: Recorder) -> None:
    """The index client quotes the URL, password and all, where it cannot read an answer."""
    index.page_faults.append(lambda handler: handler.answer(200, b"hello", {"Content-Type": "text/plain"}))
    config = index.config(index_url=index.simple.replace("http://", "http://me:s%40cret@"))
    registry = Registry(config, note=reporter.note, backoff=0.01)
    assert list(registry.candidates(PROJECT, FILENAME)) == []
    (message,) = registry.not_found(PROJECT, FILENAME).details
    assert "text/plain" in message
    assert "cret" not in " ".join([message, *reporter.notes])


def test_a_token_in_the_users_place_is_a_password(index: LocalIndex, reporter: Recorder) -> None:
    config = index.config(index_url=index.simple.replace("http://", "http://t0ken@"))
    (remote,) = candidates(config)
    assert "t0ken" not in remote.index
    index.page_faults += [status(403)]
    assert candidates(config, reporter) == []
    assert "t0ken" not in " ".join(reporter.notes)


@pytest.mark.parametrize("url", ["http://[/simple", "http://me:secret@[/simple"])
def test_a_url_that_is_none(index: LocalIndex, reporter: Recorder, url: str) -> None:
    config = index.config(index_url=url, extra_index_urls=(index.simple,))
    assert len(candidates(config, reporter)) == 1
    assert "no URL" in reporter.notes[0]
    assert "secret" not in reporter.notes[0]


def test_a_page_with_a_link_that_is_none(index: LocalIndex, reporter: Recorder, tmp_path: Path) -> None:
    page = write(tmp_path / "simple" / PROJECT / "index.html", '<a href="http://[/x">x</a>')
    config = index.config(index_url=(tmp_path / "simple").as_uri(), find_links=(str(page),))
    assert candidates(config, reporter) == []
    assert len(reporter.notes) == 2
    assert all("no package index" in note for note in reporter.notes)


def test_a_json_page_with_a_link_that_is_none(index: LocalIndex, reporter: Recorder) -> None:
    files = [{"filename": FILENAME, "url": "http://[/x", "hashes": {}}]
    page = json.dumps({"meta": {"api-version": "1.0"}, "name": PROJECT, "files": files}).encode()
    index.page_faults.append(lambda handler: handler.answer(200, page, {"Content-Type": JSON}))
    assert candidates(index.config(), reporter) == []
    assert "no package index" in reporter.notes[0]


def test_a_page_that_breaks_off(index: LocalIndex, reporter: Recorder) -> None:
    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", JSON)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.close_connection = True

    index.page_faults.append(cut)
    assert len(candidates(index.config(), reporter)) == 1
    assert "the connection failed" in reporter.notes[0]
    index.page_faults += [cut] * 5
    assert candidates(index.config(), reporter) == []
    assert len(index.page_faults) == 2


def test_an_index_that_stalls(index: LocalIndex, reporter: Recorder) -> None:
    index.page_faults += [lambda handler: index.released.wait(30)] * 2  # type: ignore[list-item]
    assert candidates(index.config(timeout=0.2, retries=1), reporter) == []
    assert "no answer in time; trying again" in reporter.notes[0]


def test_a_proxy(index: LocalIndex, reporter: Recorder) -> None:
    config = index.config(index_url="http://index.invalid/simple/", proxy=index.root)
    (remote,) = candidates(config)
    assert remote.url == f"http://index.invalid/files/{FILENAME}"
    nobody = "http://me:secret@127.0.0.1:9"
    assert candidates(index.config(index_url="https://index.invalid/simple/", proxy=nobody), reporter) == []
    assert "the proxy did not let it through" in reporter.notes[-1]
    assert "check the proxy" in reporter.notes[-1]
    assert "secret" not in " ".join(reporter.notes)


def test_a_proxy_that_refuses_is_not_tried_again(index: LocalIndex, reporter: Recorder) -> None:
    config = index.config(index_url="https://index.invalid/simple/", proxy=index.root)
    assert candidates(config, reporter) == []
    assert len(reporter.notes) == 1
    assert "the proxy did not let it through" in reporter.notes[0]


def test_certificates(index: LocalIndex, data: bytes, reporter: Recorder, tmp_path: Path) -> None:
    """Of an index whose certificate nobody knows: refused, with the option that names it; taken with that option."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    names = ["-subj", "/CN=index", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert]
    subprocess.run([*command, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    index.server.socket = context.wrap_socket(index.server.socket, server_side=True)
    index.scheme = "https"

    assert candidates(index.config(retries=0), reporter) == []
    assert "its certificate is not trusted" in reporter.notes[0]
    assert "PIP_CERT" in reporter.notes[0]
    trusting = index.config(cert=cert)
    assert len(candidates(trusting)) == 1
    path = cache.fetch(PROJECT, FILENAME, sha256(data), reporter, config=trusting)
    assert path.read_bytes() == data
    path.unlink()
    unverified = index.config(trusted_hosts=("127.0.0.1",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cache.fetch(PROJECT, FILENAME, sha256(data), reporter, config=unverified).read_bytes() == data


def test_certificates_that_are_not_there(index: LocalIndex, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"nowhere\.pem"):
        candidates(index.config(cert=tmp_path / "nowhere.pem"))


def test_the_cache_takes_what_has_the_recorded_bytes(
    index: LocalIndex, reporter: Recorder, data: bytes, tmp_path: Path
) -> None:
    """An index in front offers other bytes under the same name: it is passed over with a note."""
    with LocalIndex() as other:
        other.files[FILENAME] = b"something else"
        config = index.config(index_url=other.simple, extra_index_urls=(index.simple,))
        path = cache.fetch(PROJECT, FILENAME, sha256(data), reporter, config=config)
        assert path.read_bytes() == data
        assert any("offers another" in note for note in reporter.notes)
        assert other.file_requests == []
        path.unlink()
        with pytest.raises(IntegrityError, match="not the recorded file anywhere"):
            cache.fetch(PROJECT, FILENAME, sha256(data), reporter, config=index.config(index_url=other.simple))


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
    [
        ("PIP_TIMEOUT", "soon", "timeout is 'soon'"),
        ("PIP_TIMEOUT", "-1", "timeout is '-1'"),
        ("PIP_TIMEOUT", "0", "timeout is '0'"),
        ("PIP_TIMEOUT", "nan", "timeout is 'nan'"),
        ("PIP_RETRIES", "inf", "retries is 'inf'"),
        ("PIP_RETRIES", "-1", "retries is '-1'"),
        ("PIP_NO_INDEX", "maybe", "no-index is 'maybe'"),
    ],
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


def test_the_cache_hands_out_nothing_unverified(reporter: Recorder) -> None:
    path = put(b"good")
    assert cache.cached(FILENAME, sha256(b"good")) == path
    stat = path.stat()
    path.write_bytes(b"evil")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(IntegrityError, match="corrupted") as caught:
        cache.cached(FILENAME, sha256(b"good"))
    assert "expected sha256" in caught.value.details[0]
    with pytest.raises(IntegrityError):
        cache.fetch(PROJECT, FILENAME, sha256(b"good"), reporter, offline=True)


def test_a_cache_on_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared cache, say, in a container: it is used, and hashed every time."""
    monkeypatch.setenv("PATCHSET_CACHE_DIR", str(tmp_path / "shared"))
    path = put(b"good")
    mount = ["mount", "--bind", tmp_path / "shared", tmp_path / "shared"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", tmp_path / "shared"], check=True)
        assert cache.cached(FILENAME, sha256(b"good")) == path
        assert cache.cached(FILENAME, sha256(b"good")) == path
    finally:
        subprocess.run(["umount", tmp_path / "shared"], check=True)


def test_a_corrupted_entry_is_fetched_anew(index: LocalIndex, reporter: Recorder, data: bytes) -> None:
    path = put(data)
    path.write_bytes(b"rotten")
    assert cache.fetch(PROJECT, FILENAME, sha256(data), reporter, config=index.config()).read_bytes() == data
    assert "corrupted" in reporter.notes[0]
    index.requests.clear()
    cache.fetch(PROJECT, FILENAME, sha256(data), reporter, config=index.config())
    assert index.requests == []


def test_offline_without_the_file(reporter: Recorder) -> None:
    with pytest.raises(SourceUnavailable, match="not in the cache") as caught:
        cache.fetch(PROJECT, FILENAME, "0" * 64, reporter, offline=True)
    assert str(cache.cache_dir()) in caught.value.remedy


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "a/b", "a\\b", "/x"])
def test_names_that_leave_the_cache(name: str) -> None:
    with pytest.raises(IntegrityError):
        cache.archive_path(name, "0" * 64)
    with pytest.raises(IntegrityError):
        cache.archive_path(FILENAME, name)
