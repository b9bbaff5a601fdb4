"""One patch file: mail header, trailers and file changes, parsed byte-exactly.

Formats: `git format-patch` (git-diff's extended headers, git's documentation "Generating patch text with -p")
and plain unified diffs as quilt writes them. Hunks are read by unidiff; the bytes travel as latin-1 text, in
which every byte is one character, so that no encoding and no unusual line separator can change them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

from patchset.model import paths
from patchset.model.header import NULL, GitHeader, names_of, without_paths
from toolkit.finding import Finding

Operation = Literal["add", "modify", "delete", "rename", "copy"]
Tag = Literal[" ", "+", "-"]


@dataclass(frozen=True)
class Hunk:
    """One hunk; `lines` are (tag, bytes with line end) in the order of the file."""

    number: int
    old_start: int
    old_length: int
    new_start: int
    new_length: int
    lines: tuple[tuple[Tag, bytes], ...]

    @cached_property
    def old(self) -> tuple[bytes, ...]:
        return tuple(line for tag, line in self.lines if tag != "+")

    @cached_property
    def new(self) -> tuple[bytes, ...]:
        return tuple(line for tag, line in self.lines if tag != "-")

    @property
    def header(self) -> str:
        return f"@@ -{self.old_start},{self.old_length} +{self.new_start},{self.new_length} @@"


@dataclass(frozen=True)
class FileChange:
    """The change of one file by a patch.

    `old_blob` and `new_blob` are git blob ids as the patch's `index` line gives them (40 hex digits with
    `--full-index`, a prefix otherwise, None where the patch has no such line). Modes are git's, None where
    the patch names none. `payload` holds a `GIT binary patch` with its header, as `git apply` reads it. `may_create`
    is True for a plain diff that changes nothing into something: the file is new where there is none, as git and GNU
    patch have it.
    """

    operation: Operation
    old_path: str | None
    new_path: str | None
    old_mode: int | None
    new_mode: int | None
    old_blob: str | None
    new_blob: str | None
    hunks: tuple[Hunk, ...]
    payload: bytes | None = None
    may_create: bool = False

    @property
    def path(self) -> str:
        """The path after the change; before it, for a deletion."""
        return self.new_path or self.old_path or ""

    @property
    def touched(self) -> tuple[str, ...]:
        """Every path that exists differently afterwards."""
        if self.operation == "rename":
            return (self.old_path or "", self.new_path or "")
        return (self.path,)


@dataclass(frozen=True)
class Patch:
    """A patch file as it stands in a series.

    `file` is where it was read from, `name` its name without `.patch`. `strip` is the number of leading path
    components that the series drops (`-p1` by default).
    """

    file: Path
    data: bytes
    strip: int
    header: str
    changes: tuple[FileChange, ...]

    @property
    def name(self) -> str:
        return PurePosixPath(self.file.name).stem

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def touched(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for change in self.changes for path in change.touched))

    @property
    def records_blobs(self) -> bool:
        """True if every change names the full id of the blob that it is a change of."""
        return all(len(change.old_blob or "") == 40 or not _needs_blob(change) for change in self.changes)


def _needs_blob(change: FileChange) -> bool:
    return change.operation != "add" and bool(change.hunks or change.payload)


# A diff starts at git's header, or where quilt and `diff -u` write their two file lines.
_DIFF_START = re.compile(rb"^(?:diff --git |Index: |--- [^\n]*\n\+\+\+ )", re.MULTILINE)
_CRLF = re.compile(r"^(?:diff --git [^\n]*|@@ -[0-9, +]*@@)\r$", re.MULTILINE)
_INDEX = re.compile(r"^index ([0-9a-f]{4,40})\.\.([0-9a-f]{4,40})(?: (\d{6}))?$")
_HEADER_MODE = re.compile(r"^(old mode|new mode|new file mode|deleted file mode) (\d{6})$")
_RENAME = re.compile(r"^(rename|copy) (from|to) (.+)$")


def parse(file: Path, data: bytes, strip: int = 1) -> tuple[Patch | None, list[Finding]]:
    """Parse the bytes of a patch, which `file` names; return it with all findings, None if it cannot be parsed."""
    # Imported here for start-up: a run with nothing to do parses no patch.
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    start = _DIFF_START.search(data)
    if start is None:
        return None, [Finding(file, "holds no diff")]
    header = data[: start.start()].decode("utf-8", errors="replace")
    body = data[start.start() :].decode("latin-1")
    first_line = data[: start.start()].count(b"\n")
    if crlf := _CRLF.search(body):
        line = first_line + body[: crlf.start()].count("\n") + 1
        message = "the patch has CRLF line ends in its own headers: convert it, or fetch it as binary"
        return None, [_finding(file, line, crlf.group().rstrip(), message)]
    headers, hunks_only = without_paths(body if body.endswith("\n") else body + "\n")
    try:
        parsed = PatchSet.from_string(hunks_only)
    except UnidiffParseError as error:
        return None, [Finding(file, f"cannot be parsed: {str(error).strip()}")]
    lines = body.split("\n")
    findings: list[Finding] = []
    changes: list[FileChange] = []
    for item in parsed:
        place = first_line + (item.diff_line_no or 1)
        try:
            change = _change(item, headers, strip)
        except ValueError as error:
            findings.append(_finding(file, place, lines[place - first_line - 1], str(error)))
            continue
        changes.append(change)
        for path in filter(None, (change.old_path, change.new_path)):
            if why := paths.breach(path):
                text = lines[place - first_line - 1]
                findings.append(_finding(file, place, text, f"{why}: {path}", path))
        for hunk in item:
            after = max((line.diff_line_no for line in hunk if line.diff_line_no), default=0)
            if after and after < len(lines) and _overflows(lines[after]):
                findings.append(
                    _finding(file, first_line + after + 1, lines[after], "the hunk is longer than its header says")
                )
    if not changes and not findings:
        findings.append(Finding(file, "changes no file"))
    return Patch(file, data, strip, header, tuple(changes)), findings


def subject_of(message: str) -> str:
    """Return the subject of a commit message: its first paragraph in one line, as git's `%s` gives it."""
    return " ".join(message.strip("\n").partition("\n\n")[0].split())


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return a patch's header and its diff, as they stand in the file."""
    start = _DIFF_START.search(data)
    at = start.start() if start else len(data)
    return data[:at], data[at:]


def _overflows(line: str) -> bool:
    return line[:1] in ("+", "-", " ") and not line.startswith("--- ") and line not in ("--", "-- ", "---")


def _finding(file: Path, line: int, text: str, message: str, mark: str = "") -> Finding:
    column = text.find(mark) + 1 if mark and mark in text else 1
    return Finding(file, message, line, column, len(mark) or max(len(text.rstrip()), 1), text)


def _change(item: object, headers: Sequence[GitHeader], strip: int) -> FileChange:
    """Turn unidiff's file into ours; `headers` are those of `without_paths`.

    Raises:
        ValueError: the header contradicts itself, or is of a kind that a series must not hold.
    """
    info = [str(line).rstrip("\n") for line in (getattr(item, "patch_info", None) or ())]
    header = None
    if info and info[0].startswith("diff --git "):
        header = headers[int(info[0].rpartition("/")[2])]
    modes: dict[str, int] = {}
    moved: dict[str, str] = {}
    old_blob = new_blob = None
    for line in info:
        # The paths of a rename or copy have no a/ and b/ before them: git strips one component less.
        if match := _HEADER_MODE.match(line):
            modes[match[1]] = int(match[2], 8)
        elif match := _INDEX.match(line):
            old_blob, new_blob = (None if set(blob) == {"0"} else blob for blob in (match[1], match[2]))
            if match[3]:
                modes.setdefault("index", int(match[3], 8))
        elif match := _RENAME.match(line):
            moved[f"{match[1]} {match[2]}"] = paths.strip_components(match[3], max(strip - 1, 0))
    hunks = tuple(_hunk(number, hunk) for number, hunk in enumerate(item, 1))  # type: ignore[arg-type, var-annotated]
    payload = None
    if getattr(item, "is_binary_file", False):
        if header is None or "\nGIT binary patch\n" not in header.block:
            raise ValueError("a binary change without its content: export it with `git diff --binary`")
        if old_blob is None and new_blob is None:
            raise ValueError("a binary change without its blobs: keep its index line")
        payload = header.block.encode("latin-1")

    source = str(getattr(item, "source_file"))  # noqa: B009 - unidiff is untyped
    target = str(getattr(item, "target_file"))  # noqa: B009
    operation: Operation = "modify"
    old_path = new_path = None
    if not moved:
        if header is not None:
            old_name, new_name = names_of(header, strip)
            # A file that is empty, or binary, has its mode line only.
            source, target = (NULL if side == NULL else name for side, name in ((source, old_name), (target, new_name)))
        old_path = None if source == NULL else paths.strip_components(source, strip)
        new_path = None if target == NULL else paths.strip_components(target, strip)
    git = header is not None
    if moved:
        operation = "rename" if "rename from" in moved else "copy"
        old_path, new_path = moved.get(f"{operation} from"), moved.get(f"{operation} to")
        if old_path is None or new_path is None:
            raise ValueError(f"a {operation} without both of its paths")
    elif old_path is None or (not git and _no_file(item, "source", (hunk.old_length for hunk in hunks))):
        operation, old_path = "add", None
    elif new_path is None or (not git and _no_file(item, "target", (hunk.new_length for hunk in hunks))):
        operation, new_path = "delete", None
    elif old_path != new_path:
        if git:
            raise ValueError("two different paths, and no rename")
        # `diff -u file.orig file`, as quilt and old patches have it: the new name is the file.
        old_path = new_path
    old_mode = modes.get("old mode", modes.get("deleted file mode", modes.get("index")))
    new_mode = modes.get("new mode", modes.get("new file mode", modes.get("index")))
    if operation == "add":
        new_mode = new_mode or 0o100644
    for mode in filter(None, (old_mode, new_mode)):
        if mode == 0o160000:
            raise ValueError("a change of a submodule cannot be part of a series")
        if mode not in (0o100644, 0o100755, 0o120000):
            raise ValueError(f"an unknown file mode {mode:o}")
    may_create = not git and operation == "modify" and [(hunk.old_start, hunk.old_length) for hunk in hunks] == [(0, 0)]
    blobs = old_blob, new_blob
    return FileChange(operation, old_path, new_path, old_mode, new_mode, *blobs, hunks, payload, may_create)


def _hunk(number: int, hunk: object) -> Hunk:
    lines: list[tuple[Tag, bytes]] = []
    for line in hunk:  # type: ignore[attr-defined]
        tag = str(line.line_type)
        if tag == "\\":
            if lines:
                last_tag, last = lines[-1]
                lines[-1] = (last_tag, last.removesuffix(b"\n"))
        elif tag in (" ", "+", "-"):
            lines.append((tag, str(line.value).encode("latin-1")))  # type: ignore[arg-type]
    old_start, old_length = int(hunk.source_start), int(hunk.source_length)  # type: ignore[attr-defined]
    new_start, new_length = int(hunk.target_start), int(hunk.target_length)  # type: ignore[attr-defined]
    return Hunk(number, old_start, old_length, new_start, new_length, tuple(lines))


def _no_file(item: object, side: str, lengths: Iterable[int]) -> bool:
    """Return True if one side of a plain diff stands for a file that does not exist."""
    # GNU diff -N gives such a file the time 0, which is 1969 west of Greenwich.
    stamp = str(getattr(item, f"{side}_timestamp", None) or "")
    return stamp.startswith(("1970-01-01", "1969-12-31")) and not any(lengths)
