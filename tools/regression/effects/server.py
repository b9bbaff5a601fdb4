"""vLLM's HTTP server: started, waited for, asked, ended."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from contextlib import suppress

from regression.effects.process import Ended, Running


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


def wait_until_healthy(server: Running, port: int, timeout: float) -> Ended | None:
    """Wait until the server answers; return how it ended if it did instead."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if not server.alive:
            return server.wait(1)
        with suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return None
        time.sleep(0.3)
    return server.wait(0)
