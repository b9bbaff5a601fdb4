"""Downloads against a server with faults to order: resumed, retried, and never half a file under its name."""

from __future__ import annotations

import hashlib
import multiprocessing
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Recorder
from local_index import (
    FILENAME,
    Handler,
    LocalIndex,
    chunked,
    chunked_and_cut,
    compressed,
    labelled,
    sha256,
    stalled,
    status,
    truncated,
    unsized,
    wait_for_size,
    whole_after_release,
)

from patchset.sources.download import download
from patchset.sources.pipconfig import PipConfig
from patchset.sources.registry import RemoteFile
from toolkit.errors import EnvironmentProblem, IntegrityError, SourceUnavailable
from toolkit.progress import Quiet


def get(index: LocalIndex, target: Path, reporter: Recorder, config: PipConfig | None = None) -> Path:
    wanted = sha256(index.files[FILENAME])
    return download(index.remote(), wanted, target, reporter, config=config or index.config(), backoff=0.01)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / FILENAME


def nothing_left(target: Path) -> bool:
    return sorted(path.name for path in target.parent.iterdir()) == [target.name]


def test_a_whole_file(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    assert get(index, target, reporter).read_bytes() == data
    assert reporter.starts == [(len(data), 0)]
    assert reporter.count == len(data)
    assert nothing_left(target)


@pytest.mark.parametrize("count", [0, 1, 1_500_000])
def test_a_truncated_transfer_is_resumed(
    index: LocalIndex, target: Path, reporter: Recorder, data: bytes, count: int
) -> None:
    index.faults.append(truncated(count))
    assert get(index, target, reporter).read_bytes() == data
    assert [start[1] for start in reporter.starts] == [0, count]
    if count:
        assert index.file_requests[1]["Range"] == f"bytes={count}-"
        assert index.file_requests[1]["If-Range"] == index.etag


def test_what_came_before_a_stall_is_kept(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    index.faults.append(stalled(1_500_001))
    assert get(index, target, reporter, index.config(timeout=0.5)).read_bytes() == data
    assert [start[1] for start in reporter.starts] == [0, 1_500_001]


def test_a_later_process_goes_on(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    index.faults += [truncated(1000)] * 4
    with pytest.raises(SourceUnavailable):
        get(index, target, reporter, index.config(retries=0))
    assert not target.exists()
    index.faults.clear()
    assert get(index, target, reporter).read_bytes() == data
    assert reporter.starts[-1][1] >= 1000


def test_a_server_without_ranges(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    index.honours_range = False
    index.faults.append(truncated(1000))
    assert get(index, target, reporter).read_bytes() == data
    assert [start[1] for start in reporter.starts] == [0, 0]


def test_a_file_that_changed_meanwhile(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    def change(handler: object) -> None:
        truncated(1000)(handler)  # type: ignore[arg-type]
        index.etag = '"2"'

    index.faults.append(change)
    assert get(index, target, reporter).read_bytes() == data


def test_a_server_that_ignores_if_range(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    """It sends the rest of another file: the sha256 shows it, and the file is fetched anew."""
    index.honours_if_range = False

    def other(handler: object) -> None:
        handler.file(bytes(1000))  # type: ignore[attr-defined]

    index.faults.append(other)
    assert get(index, target, reporter).read_bytes() == data
    assert any("starting anew" in note for note in reporter.notes)


def test_a_part_that_is_whole_and_wrong(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    """Nothing is left to request (416), and the bytes are not those of the file."""
    part = target.with_name(target.name + ".part")
    part.parent.mkdir()
    part.write_bytes(bytes(len(data)))
    part.with_name(part.name + ".validator").write_text("left by an earlier version")
    assert get(index, target, reporter).read_bytes() == data
    assert [request["Range"] for request in index.file_requests] == [f"bytes={len(data)}-", None]
    assert nothing_left(target)


def test_a_wrong_part_before_a_server_that_compresses(
    index: LocalIndex, target: Path, reporter: Recorder, data: bytes
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name(f"{FILENAME}.part").write_bytes(b"of an earlier run")
    index.faults.extend([Handler.file, compressed, compressed])
    assert get(index, target, reporter).read_bytes() == data
    assert nothing_left(target)


@pytest.mark.parametrize("fault", [unsized, chunked, compressed, labelled])
def test_odd_but_honest_servers(
    index: LocalIndex, target: Path, reporter: Recorder, data: bytes, fault: object
) -> None:
    index.faults += [fault, fault]  # type: ignore[list-item]
    assert get(index, target, reporter).read_bytes() == data


def test_chunks_that_end_early_are_resumed(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    index.faults.append(chunked_and_cut)
    assert get(index, target, reporter).read_bytes() == data
    assert [start[1] for start in reporter.starts] == [0, 100_000]


def test_a_password_is_never_shown(index: LocalIndex, target: Path, reporter: Recorder) -> None:
    index.faults += [status(500)] * 5
    url = index.remote().url.replace("http://", "http://me:secret@")
    remote = RemoteFile(url, FILENAME, None, None, "the index")
    with pytest.raises(SourceUnavailable) as caught:
        download(remote, "0" * 64, target, reporter, config=index.config(), backoff=0.01)
    assert "HTTP 500" in caught.value.message
    assert "secret" not in " ".join([caught.value.message, caught.value.remedy, *reporter.notes])


def test_a_busy_server_is_tried_again(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    index.faults += [status(503), status(500)]
    assert get(index, target, reporter).read_bytes() == data
    assert any("HTTP 503" in note for note in reporter.notes)


def test_the_text_of_a_refusal_is_not_read(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    """It may be endless: here it takes half a minute."""

    def endless(handler: Handler) -> None:
        handler.send_response(503)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"sorry")
        index.released.wait(30)

    index.faults.append(endless)
    start = time.monotonic()
    assert get(index, target, reporter, index.config(timeout=60)).read_bytes() == data
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (500, 3)])
def test_a_server_that_refuses(index: LocalIndex, target: Path, reporter: Recorder, code: int, requests: int) -> None:
    index.faults += [status(code)] * 5
    with pytest.raises(SourceUnavailable, match=f"HTTP {code}") as caught:
        get(index, target, reporter)
    assert caught.value.remedy
    assert len(index.file_requests) == requests
    assert not target.exists()


def test_other_bytes_leave_nothing(index: LocalIndex, target: Path, reporter: Recorder) -> None:
    with pytest.raises(IntegrityError, match="is not the recorded file") as caught:
        download(index.remote(), "0" * 64, target, reporter, config=index.config())
    assert any("actual sha256" in line for line in caught.value.details)
    assert list(target.parent.iterdir()) == []


def test_nobody_there(target: Path, reporter: Recorder, tmp_path: Path) -> None:
    remote = RemoteFile("http://127.0.0.1:9/demo", FILENAME, None, None, "the index")
    with pytest.raises(SourceUnavailable, match="connection failed"):
        download(remote, "0" * 64, target, reporter, config=PipConfig(retries=0, timeout=1))


def test_a_local_file(target: Path, reporter: Recorder, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"hello")
    remote = RemoteFile((tmp_path / "there").as_uri(), FILENAME, None, None, "a folder")
    file = download(remote, hashlib.sha256(b"hello").hexdigest(), target, reporter, config=PipConfig())
    assert file.read_bytes() == b"hello"
    (tmp_path / "there").unlink()
    target.unlink()
    with pytest.raises(SourceUnavailable, match="No such file"):
        download(remote, "0" * 64, target, reporter, config=PipConfig())


def _get(url: str, digest: str, target: Path) -> None:
    download(RemoteFile(url, FILENAME, None, None, "index"), digest, target, Quiet(), config=PipConfig(timeout=20))


def test_a_kill_loses_nothing(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    index.faults.append(whole_after_release(2_000_000))
    digest = sha256(data)
    process = multiprocessing.get_context("spawn").Process(target=_get, args=(index.remote().url, digest, target))
    process.start()
    wait_for_size(target.with_name(target.name + ".part"), 2_000_000)
    process.kill()
    process.join()
    assert not target.exists()
    assert get(index, target, reporter).read_bytes() == data
    assert reporter.starts == [(len(data), 2_000_000)]
    assert nothing_left(target)


def test_two_processes_fetch_once(index: LocalIndex, target: Path, reporter: Recorder, data: bytes) -> None:
    index.faults.append(whole_after_release(1_000_000))
    process = multiprocessing.get_context("spawn").Process(target=_get, args=(index.remote().url, sha256(data), target))
    process.start()
    wait_for_size(target.with_name(target.name + ".part"), 1_000_000)
    index.released.set()
    assert get(index, target, reporter).read_bytes() == data
    process.join()
    assert process.exitcode == 0
    assert len(index.file_requests) == 1


def test_a_full_disk(index: LocalIndex, reporter: Recorder, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        with pytest.raises(EnvironmentProblem, match="no disk space left") as caught:
            get(index, small / FILENAME, reporter)
        assert "PATCHSET_CACHE_DIR" in caught.value.remedy
        assert not (small / FILENAME).exists()
    finally:
        subprocess.run(["umount", small], check=False)


def test_a_folder_that_cannot_be_made(index: LocalIndex, reporter: Recorder, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentProblem):
        get(index, tmp_path / "file" / FILENAME, reporter)
