"""Record commands as they look on a terminal, as an SVG: python docs/record-terminal.py OUT.svg COMMAND..."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 112


def record(command: str) -> str:
    """Run a command in a pseudo-terminal and return what stayed on it, escape sequences included."""
    leader, follower = pty.openpty()
    env = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    shell = ["sh", "-c", command]
    with subprocess.Popen(shell, stdin=follower, stdout=follower, stderr=follower, env=env):
        os.close(follower)
        chunks = []
        try:
            while chunk := os.read(leader, 65536):
                chunks.append(chunk)
        except OSError:
            pass  # Linux says EIO where the other end has closed
    return b"".join(chunks).decode(errors="replace").replace("\r\n", "\n")


def main() -> None:
    out, *commands = sys.argv[1:]
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    for command in commands:
        console.print(Text.from_markup(f"[bold green]$[/] [bold]{command}[/]"))
        for line in record(command).split("\n"):
            last = line.rsplit("\r", 1)[-1].rsplit("\x1b[2K", 1)[-1]
            # Progress bars are erased when they end: leave them out.
            if last.strip() and "\x1b[?25" not in last and "\u2501" not in last:
                console.print(Text.from_ansi(last))
    svg = console.export_svg(title="patchset")
    # The viewer's own monospace font: an SVG must not fetch anything.
    Path(out).write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
