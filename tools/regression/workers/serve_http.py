"""Serve a checkpoint with vLLM's HTTP server, send it requests with the openai client, end it: `serve_http.py JOBS`.

JOBS is a JSON list of objects: `folder` (where the answer goes), `model`, `items`, `server` (the server's module and
first arguments), `options` (its other arguments), `timeout` (seconds to start in). Each folder gets `output.json` with
the answers of http_client.py and `port closed`, false where the port was still in use; or `error.txt`.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import http_client
from progress_lines import StepProgress, do_jobs

GRACE = 20  # seconds between SIGTERM and SIGKILL


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Return True where a port of this machine is in use."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def server(job: dict[str, Any], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start the server and wait until it answers; it is gone after the block, and its output is in this log."""
    options = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "model", "--enforce-eager"]
    command = [sys.executable, "-m", *job["server"], job["model"], *options, *job["options"]]
    running = subprocess.Popen([*command, "--no-enable-prefix-caching"])
    try:
        until = time.monotonic() + job["timeout"]
        while True:
            if running.poll() is not None:
                raise RuntimeError("the server ended before it answered")
            if time.monotonic() > until:
                raise TimeoutError(f"the server did not answer within {job['timeout']} s")
            with suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            time.sleep(0.3)
        yield running
    finally:
        running.terminate()
        try:
            running.wait(GRACE)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def serve(job: dict[str, Any], _: StepProgress) -> dict[str, Any]:
    """Return the answers of one server; the errors of its client stay in this process's log."""
    port = free_port()
    begin = time.perf_counter()
    with server(job, port) as running:
        started = time.perf_counter() - begin
        try:
            answers: dict[str, Any] = asyncio.run(http_client.send_all(port, Path(job["items"])))
        except Exception as error:
            if running.poll() is not None:
                raise RuntimeError(f"the server has died: {error}") from error
            raise
    return answers | {
        "port closed": not listens(port),
        "start seconds": started,
        "seconds": time.perf_counter() - begin,
    }


if __name__ == "__main__":
    do_jobs(serve)
