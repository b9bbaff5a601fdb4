"""Random trees, and series of patches from one to the next, for the differential test.

Everything follows from a seed and a number. git writes the diffs of a whole batch in one process.
"""

from __future__ import annotations

import difflib
import os
import random
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

FILE, EXECUTABLE, LINK = 0o100644, 0o100755, 0o120000
Tree = Mapping[str, tuple[int, bytes]]

NAMES = ["a", "b", "c.txt", "two words", " lead", "x b/x", 'q"uote', "ünï", "t\tab", "sub", "back\\slash", "trail "]
FOLDERS = ["", "", "", "d", "d/e", "two words", "sub", "b", "ö"]
LINES = [b"a\n", b"b\n", b"c\n", b"\n", b"{\n", b"}\n", b"-- x\n", b"++ y\n", b"e\r\n", b"\xff\n"]
# How a patch is written: git's diff in full, without its index lines, and plain ones.
FORMATS = ["git", "git", "git", "no index", "plain", "plain", "plain dated", "plain bare"]


@dataclass(frozen=True)
class Case:
    """A base, and the patches to apply to it; `wanted` is the tree that they give, where nothing has drifted."""

    number: int
    base: Tree
    patches: tuple[bytes, ...]
    formats: tuple[str, ...]
    context: int
    wanted: Tree | None


def cases(seed: str, numbers: Sequence[int], repository: Path) -> Iterator[Case]:
    """Yield the cases of these numbers; `repository` is an empty folder."""
    plans = [_Plan(random.Random(f"{seed}:{number}"), number) for number in numbers]
    diffs = _git_diffs([plan.trees for plan in plans], [plan.options for plan in plans], repository)
    for plan, git_diffs in zip(plans, diffs, strict=True):
        yield plan.case(git_diffs)


class _Plan:
    def __init__(self, rng: random.Random, number: int) -> None:
        self.rng = rng
        self.number = number
        self.trees = [_random_tree(rng)]
        for _ in range(rng.choice([1, 1, 2, 2, 3, 4])):
            self.trees.append(_edited(rng, self.trees[-1]))
        self.options = (rng.choice(["-U3"] * 4 + ["-U1", "-U0"]), rng.choice(["-M", "-C", "--no-renames"]))

    def case(self, git_diffs: list[bytes]) -> Case:
        rng = self.rng
        kind = rng.choice(FORMATS)
        patches, formats = [], []
        complete = True
        context = int(self.options[0][2:])
        for (before, after), git_diff in zip(pairwise(self.trees), git_diffs, strict=True):
            if rng.random() < 0.1:
                kind = rng.choice(FORMATS)
            if kind.startswith("plain"):
                diff = b"".join(_plain(rng, before, after, kind, context))
                complete = False
            else:
                keep = kind == "git" or b"\nGIT binary patch\n" in git_diff
                diff = git_diff if keep else re.sub(rb"^index [0-9a-f].*\n", b"", git_diff, flags=re.M)
            if diff:
                patches.append(diff)
                formats.append(kind)
        base = self.trees[0]
        chance = rng.random()
        if chance < 0.45:
            for _ in range(rng.choice([1, 1, 2])):
                base = _drifted(rng, base)
            complete = False
        if chance > 0.35 and len(patches) > 1 and rng.random() < 0.3:
            # A series out of order, or with a patch that is missing or stands in it twice.
            at = rng.randrange(len(patches))
            other = rng.randrange(len(patches) + 1)
            if rng.random() < 0.5:
                del patches[at], formats[at]
            else:
                patches.insert(other, patches[at])
                formats.insert(other, formats[at])
            complete = False
        return Case(self.number, base, tuple(patches), tuple(formats), context, self.trees[-1] if complete else None)


def _content(rng: random.Random) -> bytes:
    chance = rng.random()
    if chance < 0.08:
        return b""
    if chance < 0.12:
        return bytes(rng.choices(range(256), k=rng.randrange(1, 80))) + b"\0"
    pool = LINES if rng.random() < 0.6 else [b"line %d\n" % number for number in range(40)]
    count = rng.choice([1, 2, 3, 5, 8, 13, 21, 30])
    data = b"".join(rng.choices(pool, k=count) if pool is LINES or rng.random() < 0.3 else pool[:count])
    return data[:-1] if rng.random() < 0.2 else data


def _path(rng: random.Random, tree: Tree) -> str | None:
    """Return a path at which the tree can hold a new file."""
    for _ in range(10):
        folder, name = rng.choice(FOLDERS), rng.choice(NAMES)
        path = f"{folder}/{name}" if folder else name
        if path not in tree and _fits(path, tree):
            return path
    return None


def _fits(path: str, tree: Tree) -> bool:
    parts = path.split("/")
    above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    return not above & tree.keys() and not any(other.startswith(f"{path}/") for other in tree)


def _random_tree(rng: random.Random) -> Tree:
    tree: dict[str, tuple[int, bytes]] = {}
    for _ in range(rng.randrange(1, 7)):
        if (path := _path(rng, tree)) is not None:
            tree[path] = _random_file(rng)
    return tree


def _random_file(rng: random.Random) -> tuple[int, bytes]:
    chance = rng.random()
    if chance < 0.1:
        return LINK, rng.choice([b"a", b"d", b"d/e", b"two words", b"nowhere", "ünï".encode()])
    return EXECUTABLE if chance < 0.25 else FILE, _content(rng)


def _edit_text(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    lines = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.choice([0, len(lines), rng.randint(0, len(lines))])
        new = [rng.choice([*LINES, b"new %d\n" % rng.randrange(9)]) for _ in range(rng.choice([0, 1, 1, 2, 4]))]
        lines[at : at + rng.choice([0, 0, 1, 1, 2])] = new
    data = b"".join(lines)
    if rng.random() < 0.1:
        return data.removesuffix(b"\n")
    return data


def _edited(rng: random.Random, tree: Tree) -> Tree:
    """Return the tree after the changes of one patch."""
    new = dict(tree)
    for _ in range(rng.choice([1, 1, 2, 3])):
        _change(rng, new)
    return new


def _change(rng: random.Random, tree: dict[str, tuple[int, bytes]]) -> None:
    paths = sorted(tree)
    path = rng.choice(paths) if paths else None
    kind = rng.choice(
        ["edit"] * 6 + ["add", "add", "delete", "move", "move", "copy", "mode", "retype", "swap", "folder", "flatten"]
    )
    if kind == "add" or path is None:
        if (place := _path(rng, tree)) is not None:
            tree[place] = _random_file(rng)
        return
    mode, data = tree[path]
    if kind == "edit":
        tree[path] = (mode, rng.choice([b"a", b"d", b"far"]) if mode == LINK else _edit_text(rng, data))
    elif kind == "delete":
        del tree[path]
    elif kind in ("move", "copy"):
        if kind == "move":
            del tree[path]
        if (place := _path(rng, tree)) is not None:
            tree[place] = (mode, data if mode == LINK or rng.random() < 0.5 else _edit_text(rng, data))
        if kind == "copy" and mode != LINK and rng.random() < 0.6:
            tree[path] = (mode, _edit_text(rng, data))
    elif kind == "mode" and mode != LINK:
        tree[path] = (FILE if mode == EXECUTABLE else EXECUTABLE, data)
    elif kind == "retype":
        tree[path] = _random_file(rng)
    elif kind == "swap" and len(paths) > 1:
        other = rng.choice(paths)
        tree[path], tree[other] = tree[other], tree[path]
    elif kind == "folder":
        # A folder in the file's place.
        del tree[path]
        tree[f"{path}/{rng.choice(NAMES[:4])}"] = (mode, data)
    elif kind == "flatten" and "/" in path:
        # A file in the folder's place.
        folder = path.rpartition("/")[0]
        for other in paths:
            if other.startswith(f"{folder}/"):
                del tree[other]
        tree[folder] = (mode, data)


def _drifted(rng: random.Random, tree: Tree) -> Tree:
    """Return the tree as another release might have it."""
    new = dict(tree)
    for path in sorted(tree):
        mode, data = new[path]
        if mode != LINK and rng.random() < 0.6:
            extra = b"".join(rng.choices([b"drift\n", b"more\n", *LINES], k=rng.choice([1, 2, 4])))
            new[path] = rng.choice([(mode, extra + data), (mode, data + extra), (mode, _edit_text(rng, data))])
    if rng.random() < 0.35:
        _change(rng, new)
    return new


def _plain(rng: random.Random, before: Tree, after: Tree, kind: str, context: int) -> Iterator[bytes]:
    """Yield the plain diffs of the text files; modes, links and binary files have none."""
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        sides = [side for side in (old, new) if side is not None]
        if old == new or any(mode == LINK or b"\0" in data for mode, data in sides):
            continue
        stamps = ["2024-01-01 00:00:00.000000000 +0000"] * 2
        names = [_quoted(f"a/{path}"), _quoted(f"b/{path}")]
        if kind == "plain dated":
            stamps = [
                stamp if side else "1970-01-01 00:00:00.000000000 +0000"
                for stamp, side in zip(stamps, (old, new), strict=True)
            ]
        elif kind == "plain" or new is None:
            names = [name if side else "/dev/null" for name, side in zip(names, (old, new), strict=True)]
        text = [_lines(side[1]) if side else [] for side in (old, new)]
        body = list(difflib.unified_diff(*text, n=context))[2:]
        if not body:
            continue
        # A tab ends a name with blanks: git and GNU diff write it, not every tool does.
        tab = "\t" if " " in path and rng.random() < 0.9 else ""
        tail = [f"\t{stamp}" if kind == "plain dated" else tab for stamp in stamps]
        yield f"--- {names[0]}{tail[0]}\n+++ {names[1]}{tail[1]}\n".encode()
        for line in body:
            data = line.encode("latin-1")
            yield data if data.endswith(b"\n") else data + b"\n\\ No newline at end of file\n"
        if rng.random() < 0.1:
            yield b"\n"


def _quoted(path: str) -> str:
    """Return a path as GNU diff quotes it."""
    if not re.search(r'["\\\t]', path):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'


def _lines(data: bytes) -> list[str]:
    text = data.decode("latin-1")
    parts = text.split("\n")
    return [f"{line}\n" for line in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _git_diffs(
    histories: Sequence[Sequence[Tree]], options: Sequence[tuple[str, ...]], repository: Path
) -> list[list[bytes]]:
    """Return git's diffs between the trees of each history."""
    environment = {**os.environ, "GIT_DIR": str(repository)}
    subprocess.run(["git", "init", "-q", "--bare", str(repository)], check=True, env=environment)
    script: list[bytes] = []
    count = 0
    for history in histories:
        for tree in history:
            count += 1
            script.append(
                b"commit refs/heads/x\nmark :%d\ncommitter A <a@b> %d +0000\ndata 0\ndeleteall\n" % (count, count)
            )
            for path, (mode, data) in tree.items():
                name = path.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\t", b"\\t")
                script.append(b'M %o inline "%b"\ndata %d\n%b\n' % (mode, name, len(data), data))
    marks = repository / "marks"
    subprocess.run(
        ["git", "fast-import", "--quiet", f"--export-marks={marks}"],
        input=b"".join(script),
        check=True,
        env=environment,
    )
    ids = dict(line.split() for line in marks.read_bytes().splitlines())
    requests: dict[tuple[str, ...], list[bytes]] = {}
    wanted: list[list[bytes]] = []
    count = 0
    for history, choice in zip(histories, options, strict=True):
        commits = [ids[b":%d" % (count + number + 1)] for number in range(len(history))]
        count += len(history)
        requests.setdefault(choice, []).extend(b"%b %b\n" % (new, old) for old, new in pairwise(commits))
        wanted.append(commits[1:])
    diffs: dict[bytes, bytes] = {}
    for choice, lines in requests.items():
        command = ["git", "diff-tree", "--stdin", "-p", "-r", "--full-index", "--binary", *choice]
        output = subprocess.run(command, input=b"".join(lines), capture_output=True, check=True, env=environment).stdout
        parts = re.split(rb"^([0-9a-f]{40})\n", output, flags=re.M)
        diffs |= zip(parts[1::2], parts[2::2], strict=True)
    return [[diffs.get(commit, b"") for commit in commits] for commits in wanted]
