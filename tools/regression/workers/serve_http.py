"""Serve a checkpoint with vLLM's HTTP server, ask it with the openai client, end it: `serve_http.py JOBS`.

JOBS is a JSON list of objects: `folder` (where the answer goes), `model`, `items`, `server` (the server's module and
first arguments), `options` (its other arguments), `timeout` (seconds to start in). Each folder gets `said.json` of
ask_http.py, with `port closed` for whether nobody listened afterwards, or `error.txt`.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ask_http
from telling import Steps, beyond_help

GRACE = 20  # seconds between asking the server to end and killing it


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def server(job: dict[str, Any], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start the server and wait until it answers; it is gone after the block, and its words are in this log."""
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


def serve(job: dict[str, Any]) -> None:
    """Serve and ask; what the client is told in between stays in this process's log."""
    folder, port = Path(job["folder"]), free_port()
    begin = time.perf_counter()
    with server(job, port) as running:
        started = time.perf_counter() - begin
        try:
            said = asyncio.run(ask_http.ask_all(port, Path(job["items"])))
        except Exception as error:
            if running.poll() is not None:
                raise RuntimeError(f"the server has died: {error}") from error
            raise
    said |= {"port closed": not listens(port), "start seconds": started, "seconds": time.perf_counter() - begin}
    (folder / "said.json").write_text(json.dumps(said) + "\n")


def main() -> None:
    """Do all jobs; what goes wrong with one is told in its folder."""
    jobs = json.loads(sys.argv[1])
    steps = Steps(len(jobs))
    for job in jobs:
        try:
            serve(job)
        except Exception as error:
            if beyond_help(error):
                raise
            (Path(job["folder"]) / "error.txt").write_text(traceback.format_exc())
            traceback.print_exc()
        steps.next()


if __name__ == "__main__":
    main()
