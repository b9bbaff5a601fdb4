"""A package index on the loopback interface, with faults to order."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from patchset.sources.pipconfig import PipConfig
from patchset.sources.registry import RemoteFile

JSON = "application/vnd.pypi.simple.v1+json"
PROJECT = "demo"
FILENAME = "demo-1.0.tar.gz"

Fault = Callable[["Handler"], None]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class LocalIndex:
    """Serves `files` of one project at `/simple/demo/` and `/files/`; each file request takes the next of `faults`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.yanked: dict[str, str] = {}
        self.offers_json = True
        self.offers_hashes = True
        self.offers_sizes = True
        self.honours_range = True
        self.honours_if_range = True
        self.etag: str | None = '"1"'
        self.credentials: str | None = None
        self.page_faults: deque[Fault] = deque()
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[str, Message]] = []
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"index": self}))
        self.server.daemon_threads = True
        self.scheme = "http"

    def __enter__(self) -> LocalIndex:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def root(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}"

    @property
    def simple(self) -> str:
        return f"{self.root}/simple/"

    @property
    def file_requests(self) -> list[Message]:
        return [headers for path, headers in self.requests if path.startswith("/files/")]

    def remote(self, filename: str = FILENAME) -> RemoteFile:
        return RemoteFile(f"{self.root}/files/{filename}", filename, None, None, self.simple)

    def config(self, **options: object) -> PipConfig:
        return PipConfig(**{"index_url": self.simple, "timeout": 5.0, "retries": 2, **options})  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    index: LocalIndex
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.removeprefix("http://index.invalid")
        self.index.requests.append((path, self.headers))
        if self.index.credentials and self.headers.get("Authorization") != self.index.credentials:
            return self.answer(401, b"")
        if path == f"/simple/{PROJECT}/":
            return self.index.page_faults.popleft()(self) if self.index.page_faults else self.page()
        if path.startswith("/links/"):
            return self.answer(200, self.html(), {"Content-Type": "text/html"})
        if path.startswith("/moved/"):
            return self.answer(302, b"", {"Location": f"/files/{path.rpartition('/')[2]}"})
        if path.startswith("/files/") and path.rpartition("/")[2] in self.index.files:
            return self.index.faults.popleft()(self) if self.index.faults else self.file()
        return self.answer(404, b"")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def page(self) -> None:
        if not self.index.offers_json:
            return self.answer(200, self.html(), {"Content-Type": "text/html"})
        files = [
            {
                "filename": name,
                "url": f"../../files/{name}",
                "hashes": {"sha256": sha256(data)} if self.index.offers_hashes else {},
                "yanked": self.index.yanked.get(name, False),
                **({"size": len(data)} if self.index.offers_sizes else {}),
            }
            for name, data in self.index.files.items()
        ]
        page = {"meta": {"api-version": "1.1"}, "name": PROJECT, "versions": ["1.0"], "files": files}
        return self.answer(200, json.dumps(page).encode(), {"Content-Type": JSON})

    def html(self) -> bytes:
        links = []
        for name, data in self.index.files.items():
            fragment = f"#sha256={sha256(data)}" if self.index.offers_hashes else ""
            yanked = f' data-yanked="{self.index.yanked[name]}"' if name in self.index.yanked else ""
            links.append(f'<a href="/files/{name}{fragment}"{yanked}>{name}</a>')
        return "<!DOCTYPE html><html><body>{}</body></html>".format("\n".join(links)).encode()

    @property
    def data(self) -> bytes:
        return self.index.files[self.path.rpartition("/")[2]]

    def file(self, sent: bytes | None = None, *, pause: bool = False, headers: dict[str, str] | None = None) -> None:
        """Send the file, or the part that a Range requests; only `sent` of it, if that is given."""
        index, data, start = self.index, self.data, 0
        wanted = self.headers.get("Range")
        unchanged = self.headers.get("If-Range") in (None, index.etag) or not index.honours_if_range
        if wanted and index.honours_range and unchanged:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if index.etag:
            self.send_header("ETag", index.etag)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:] if sent is None else sent)
        self.wfile.flush()
        if pause:
            index.released.wait(30)
        if sent is not None:
            self.close_connection = True
        return None


def status(code: int) -> Fault:
    return lambda handler: handler.answer(code, b"sorry")


def truncated(count: int) -> Fault:
    """Send the first `count` bytes of the file, then close the connection."""
    return lambda handler: handler.file(handler.data[:count])


def stalled(count: int) -> Fault:
    """Send the first `count` bytes of the file, then nothing until the index is released."""
    return lambda handler: handler.file(handler.data[:count], pause=True)


def whole_after_release(count: int) -> Fault:
    """Send the first `count` bytes of the file, and the others when the index is released."""

    def fault(handler: Handler) -> None:
        handler.file(handler.data[:count], pause=True)
        handler.wfile.write(handler.data[count:])

    return fault


def compressed(handler: Handler) -> None:
    """Send the file in gzip's encoding, although the request accepts none."""
    handler.answer(200, gzip.compress(handler.data), {"Content-Encoding": "gzip", "ETag": '"gz"'})


def labelled(handler: Handler) -> None:
    """Send the file as it is under the label of gzip's encoding, as servers do that take `.gz` for an encoding."""
    handler.answer(200, handler.data, {"Content-Encoding": "gzip"})


def unsized(handler: Handler) -> None:
    """Send the file without a length: its end is the end of the connection."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(handler.data)
    handler.close_connection = True


def chunked(handler: Handler) -> None:
    """Send the file in HTTP's chunks, without a length."""
    _in_chunks(handler, handler.data, b"0\r\n\r\n")


def chunked_and_cut(handler: Handler) -> None:
    """Send the first of HTTP's chunks, then close the connection."""
    _in_chunks(handler, handler.data[:100_000], b"")


def _in_chunks(handler: Handler, data: bytes, end: bytes) -> None:
    handler.send_response(200)
    handler.send_header("ETag", handler.index.etag or "")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(data), 100_000):
        part = data[start : start + 100_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(end)
    handler.close_connection = True


def wait_for_size(path: Path, size: int) -> None:
    """Wait until some process has written that many bytes."""
    for _ in range(1000):
        if path.exists() and path.stat().st_size >= size:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{path} has not reached {size} bytes")
