"""The message of a patch that is new or changed: its trailers, and the checks that it has to pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from patchset.engine import export
from patchset.model.series import Series
from patchset.model.trailers import current, current_line, lint_trailers, missing, trailers
from toolkit.errors import SeriesError
from toolkit.finding import Finding

# Given a patch's name and a trailer's key, the value of the trailer, or None if nobody can answer.
TrailerPrompt = Callable[[str, str], str | None]


def no_prompt(patch: str, key: str) -> str | None:
    """Answer no request: the `TrailerPrompt` of a run without a terminal."""
    return None


def prompted_trailers(name: str, message: str, prompt: TrailerPrompt) -> list[str]:
    """Return the required trailers that the message of patch `name` lacks, as far as `prompt` has values for them."""
    return [f"{rule.key}: {value}" for rule in missing(_body(message)) if (value := prompt(name, rule.key))]


def with_trailers(message: str, lines: Sequence[str]) -> str:
    """Return a message with more trailers in its last paragraph, or in a new one."""
    if not lines:
        return message
    text = message.rstrip("\n")
    gap = "\n" if any(trailers(_body(text))) else "\n\n"
    return text + gap + "\n".join(lines) + "\n"


def replace_trailers(message: str, lines: Sequence[str]) -> str:
    """Return a message in which trailers replace those of the same key, or are added."""
    for line in map(current_line, lines):
        key = line.partition(":")[0]
        at = next((item.line - 1 for item in trailers(current(message)) if item.key == key and item.line > 1), None)
        if at is None:
            message = with_trailers(message, [line])
        else:
            rows = message.rstrip("\n").split("\n")
            rows[at] = line
            message = "\n".join(rows) + "\n"
    return message


def lint_header(series: Series, file: Path, header: bytes, root: Path) -> list[Finding]:
    """Return the breaches in the trailers of the new header of a patch; a series without a base.toml needs none."""
    if not series.base.recorded:
        return []
    return lint_trailers(file, header.decode("utf-8", errors="replace"), series.base.name or None, root)


def refuse_unusable(message: str, what: str, remedy: str = "reword it") -> None:
    """Raise `SeriesError` if a message cannot stand in a patch file."""
    if why := export.unusable(message):
        raise SeriesError(f"{what}: {why}", remedy=remedy)


def slug(subject: str) -> str:
    """Return a patch's name after its subject, as git-format-patch names files, in lower case."""
    return re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:52].strip("-") or "patch"


def _body(message: str) -> str:
    """Return a message without its subject, which may look like a trailer: `Fix: ...`."""
    return message.partition("\n\n")[2]
