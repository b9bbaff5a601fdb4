"""Random series on random trees: our engine, `git apply` and `patch --fuzz=0` give one tree, or refuse.

`PATCHSET_FUZZ=200000 PATCHSET_FUZZ_SEED=other pytest -k differential` runs as many cases of another seed;
`PATCHSET_FUZZ_FIRST` is the number of the first one. Each difference that is expected has a name here, and a line in
docs/formats.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from patchset.engine.apply import apply, combined, read_paths
from patchset.engine.tree import folders_above
from patchset.model.patch import Patch, parse
from patchset.store.objects import DIRECTORY, TreeEntry, blob_id
from toolkit.errors import IntegrityError, PatchConflict

from ..tools import need
from .random_series import EXECUTABLE, FILE, LINK, Case, Tree, cases

COUNT = int(os.environ.get("PATCHSET_FUZZ", "5000"))
SEED = os.environ.get("PATCHSET_FUZZ_SEED", "patchset")
FIRST = int(os.environ.get("PATCHSET_FUZZ_FIRST", "0"))
BATCH = 250
COMMANDS = {
    "git": "git apply --whitespace=nowarn",
    "patch": "patch -p1 --fuzz=0 -f -s --no-backup-if-mismatch -r - -i",
}


@dataclass(frozen=True)
class Verdict:
    """What a tool made of a series: how many patches applied, the tree if all did, the reason if not."""

    applied: int
    tree: Tree | None
    why: str = ""


def ours(case: Case, *, recorded: bool) -> Verdict:
    patches: list[Patch] = []
    for number, data in enumerate(case.patches):
        patch, findings = parse(Path(f"{number}.patch"), data)
        if patch is None or findings:
            return _refusal(case, patches, "; ".join(finding.message for finding in findings), recorded)
        patches.append(patch)
    return _refusal(case, patches, "", recorded)


def _refusal(case: Case, patches: Sequence[Patch], why: str, recorded: bool) -> Verdict:
    """Return the verdict on the patches that could be read; `why` the next one could not."""
    for count in range(len(patches), -1, -1):
        try:
            tree = applied(case.base, patches[:count], recorded=recorded)
        except (PatchConflict, IntegrityError) as error:
            why = f"{error.message}: {'; '.join(error.details)}"
        else:
            return Verdict(count, None if why else tree, why)
    raise AssertionError("an empty series applies")


def applied(base: Tree, patches: Sequence[Patch], *, recorded: bool) -> Tree:
    contents = {blob_id(data): data for _, data in base.values()}
    every = {path: TreeEntry(mode, blob_id(data)) for path, (mode, data) in base.items()}
    for path in base:
        every |= dict.fromkeys(folders_above(path), TreeEntry(DIRECTORY, "0" * 40))
    entries = {path: every[path] for path in read_paths(patches) if path in every}
    results = apply(
        patches,
        entries,
        contents.__getitem__,
        below=lambda folder: [path for path in base if path.startswith(f"{folder}/")],
        recorded=recorded,
    )
    tree = dict(base)
    for path, file in combined(results).items():
        tree.pop(path, None)
        if file is not None:
            tree[path] = (file.mode, file.data)
    return tree


def write_tree(folder: Path, tree: Tree) -> None:
    folder.mkdir(parents=True)
    for path, (mode, data) in tree.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if mode == LINK:
            file.symlink_to(os.fsdecode(data))
        else:
            file.write_bytes(data)
            if mode == EXECUTABLE:
                file.chmod(0o755)


def read_tree(folder: Path) -> Tree:
    return dict(_files(folder, ""))


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, tuple[int, bytes]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            file, path = Path(entry.path), prefix + entry.name
            if entry.is_symlink():
                yield path, (LINK, os.fsencode(file.readlink()))
            elif entry.is_dir():
                yield from _files(file, f"{path}/")
            else:
                yield path, (EXECUTABLE if entry.stat().st_mode & 0o100 else FILE, file.read_bytes())


def theirs(batch: Sequence[Case], root: Path, tools: Sequence[str]) -> dict[str, list[Verdict]]:
    """Return each tool's verdicts; a batch is one process of the shell for each tool."""
    for case in batch:
        folder = root / "series" / str(case.number)
        folder.mkdir(parents=True)
        for number, data in enumerate(case.patches):
            (folder / str(number)).write_bytes(data)
    running = {}
    for tool in tools:
        script = ["umask 022"]
        for case in batch:
            command = COMMANDS[tool] + (" --unidiff-zero" if tool == "git" and not case.context else "")
            folder = root / tool / str(case.number)
            write_tree(folder, case.base)
            series = root / "series" / str(case.number)
            steps = "".join(f" && {command} {series}/{number} && n={number + 1}" for number in range(len(case.patches)))
            script.append(f"cd {folder}; {{ n=0{steps}; }} >{series}/{tool} 2>&1 </dev/null; echo $n")
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "GIT_CEILING_DIRECTORIES": str(root), "HOME": str(root)}
        running[tool] = subprocess.Popen(
            ["sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        process = running[tool]
        assert process.stdin is not None
        process.stdin.write("\n".join(script) + "\n")
        process.stdin.close()
    verdicts: dict[str, list[Verdict]] = {}
    for tool, process in running.items():
        assert process.stdout is not None
        counts = [int(line) for line in process.stdout]
        assert process.wait() == 0
        verdicts[tool] = []
        for case, count in zip(batch, counts, strict=True):
            tree = read_tree(root / tool / str(case.number)) if count == len(case.patches) else None
            message = (root / "series" / str(case.number) / tool).read_text(errors="replace")
            verdicts[tool].append(Verdict(count, tree, message))
    return verdicts


def by_index(case: Case, root: Path) -> Verdict:
    """Return git's verdict on the index and the work tree: without the index it misses some folders in the way."""
    folder = root / "index" / str(case.number)
    write_tree(folder, case.base)
    environment = {
        **os.environ,
        "GIT_DIR": str(root / "repository"),
        "GIT_WORK_TREE": str(folder),
        "GIT_INDEX_FILE": f"{folder}.index",
    }
    options = [] if case.context else ["--unidiff-zero"]
    add = ["git", "-c", "core.bare=false", "add", "-A", "-f"]
    subprocess.run(add, cwd=folder, env=environment, check=True)
    for number, data in enumerate(case.patches):
        command = ["git", "-c", "core.bare=false", "apply", "--index", "--whitespace=nowarn", *options, "-"]
        done = subprocess.run(command, cwd=folder, env=environment, input=data, capture_output=True, check=False)
        if done.returncode:
            return Verdict(number, None, done.stderr.decode(errors="replace"))
    return Verdict(len(case.patches), read_tree(folder))


# The rules by which verdicts may differ, with the reason that the refusing side gives.
REFUSED = {
    "we refuse a hunk that fits in several places": "lines stand in .* other places",
    "we refuse an insertion without context": "adds lines without context",
    "we refuse a hunk of the file's end that stands elsewhere too": "it ended the file of the patch",
    "we refuse to join a last line without its end to the next": "the file goes on after it",
}
REFUSED_BY_GIT = {
    "git refuses a link that is renamed below its own name": "beyond a symbolic link|levels of symbolic links",
    "git cannot read every path in a header": "lacks filename information",
    "git puts a file below one that goes only if /dev/null says that it is new": "Not a directory",
}
REFUSED_BY_PATCH = {
    "patch reads no binary patch": "git binary diffs are not supported",
    "patch finds no file where only `diff --git` names it, with a blank": "No file to patch",
    "patch changes no link": "is not a regular file|is not a symbolic link",
    "patch does not let files and folders change places": "Invalid file name|without two valid file names"
    "|Not a directory|Is a directory|temporary file",
}
NOT_REFUSED_BY_GIT = {"git creates a file that a plain hunk without old lines is for": "the tree has no file"}
NOT_REFUSED_BY_PATCH = {
    "patch creates an empty file that is missing": "the tree has no file",
    "patch renames over a file": "exists already|is a file",
    "patch writes through a link": "is a symbolic link",
}
# GNU patch ends a name at a blank that no tab follows, and strips those at its end.
_CUT_BY_PATCH = re.compile(
    rb"^(?:---|\+\+\+) [^\t\n\"]* [^\t\n]*$|^(?:---|\+\+\+) [^\t\n\"]* \t|^(?:rename |copy |diff --git ).* $",
    re.MULTILINE,
)


def expected(
    case: Case, tool: str, own: Verdict, other: Verdict, by_git: Verdict | None = None, git_rule: str | None = None
) -> str | None:
    """Return the name of the rule by which our verdict and a tool's differ, or None.

    What patch refuses counts only if git applies it (`by_git`), or has a rule (`git_rule`) of its own.
    """
    at = min(own.applied, other.applied)
    patch = case.patches[min(at, len(case.patches) - 1)]
    if tool == "patch" and any(_CUT_BY_PATCH.search(data) for data in case.patches):
        return "patch cuts a name at a blank"
    if own.tree is not None and other.tree is not None:
        if tool == "git" and not case.context and any(b"\n\\ No newline" in data for data in case.patches):
            return "git takes a last line without its end for the start of any line"
        paths = {path for path in {*own.tree, *other.tree} if own.tree.get(path) != other.tree.get(path)}
        links = {path for path, (mode, _) in case.base.items() if mode == LINK}
        if tool == "patch" and any(links.intersection(folders_above(path)) for path in paths):
            return "patch writes through a link"
        confirmed = by_git is not None and by_git.tree == own.tree
        if tool == "patch" and confirmed and any(b"\ncopy from " in data for data in case.patches):
            return "patch reads the source of a copy as the patch leaves it"
        return None
    refused_by_git = by_git is not None and by_git.applied <= min(own.applied, len(case.patches) - 1)
    rules, why = REFUSED, own.why
    if own.applied < other.applied:
        if tool == "git" and not case.context:
            rules = {**REFUSED, **NOT_REFUSED_BY_GIT}
        elif tool == "patch" and refused_by_git:
            rules = {**REFUSED, **NOT_REFUSED_BY_PATCH}
    elif tool == "git":
        rules, why = REFUSED_BY_GIT, other.why
    else:
        confirmed = git_rule or (by_git is not None and by_git.applied > other.applied)
        rules, why = REFUSED_BY_PATCH if confirmed else {}, other.why
    if rule := next((name for name, reason in rules.items() if re.search(reason, why)), None):
        return rule
    if tool == "git" and own.applied < other.applied and b"\n\\ No newline" in patch:
        return "git takes a last line without its end for the start of any line"
    if rules is REFUSED_BY_GIT and any(start or not (before or after) for start, before, after in _contexts(patch)):
        return "git holds hunks at line 1, and those without context, to the ends of the file"
    if rules is REFUSED_BY_PATCH and any(0 < after < before for _, before, after in _contexts(patch)):
        return "patch holds a hunk with less context after than before to the end of the file"
    return None


def _contexts(data: bytes) -> Iterator[tuple[bool, int, int]]:
    """Yield each hunk's lines of context before and after its change; True where git alone holds it to the start."""
    patch, _ = parse(Path("x.patch"), data)
    assert patch is not None
    for hunk in (hunk for change in patch.changes for hunk in change.hunks if hunk.old):
        tags = "".join(tag for tag, _ in hunk.lines)
        before, after = len(tags) - len(tags.lstrip()), len(tags) - len(tags.rstrip())
        yield hunk.old_start <= 1 and before >= after, before, after


def difference(own: Verdict, other: Verdict) -> str | None:
    """Return how two verdicts differ, or None where they agree."""
    if own.tree is not None and other.tree is not None:
        return None if own.tree == other.tree else "another tree"
    if own.applied == other.applied:
        return None
    return "refused by us" if own.applied < other.applied else "applied by us"


def report(case: Case, tool: str, own: Verdict, other: Verdict, kind: str) -> str:
    at = min(own.applied, other.applied)
    patch = case.patches[min(at, len(case.patches) - 1)].decode("latin-1")
    lines = [f"case {case.number} of {SEED}, {tool}: {kind} at patch {at} ({', '.join(case.formats)})"]
    lines += [f"ours: {own.why}", f"{tool}: {other.why}", f"base: {dict(case.base)}", patch]
    if own.tree is not None and other.tree is not None:
        lines += [
            f"{path}: {own.tree.get(path)} / {other.tree.get(path)}"
            for path in sorted({*own.tree, *other.tree})
            if own.tree.get(path) != other.tree.get(path)
        ]
    return "\n".join(lines)


def run_cases(seed: str, numbers: Sequence[int], tools: Sequence[str]) -> tuple[Counter[str], list[str]]:
    """Return the counts of verdicts and of expected differences, and a report on each of the others.

    `tools` begin with git.
    """
    counts: Counter[str] = Counter()
    reports = []
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    for at in range(0, len(numbers), BATCH):
        with tempfile.TemporaryDirectory(dir=where) as folder:
            root = Path(folder)
            batch = list(cases(seed, numbers[at : at + BATCH], root / "repository"))
            verdicts = theirs(batch, root, tools)
            for place, case in enumerate(batch):
                own = ours(case, recorded=False)
                counts["applied" if own.tree is not None else "refused"] += 1
                if case.wanted is not None:
                    for verdict in (own, ours(case, recorded=True)):
                        if verdict.tree != case.wanted and set(case.formats) == {"git"}:
                            reports.append(
                                report(
                                    case, "the diff", verdict, Verdict(len(case.patches), case.wanted), "not the tree"
                                )
                            )
                by_git, git_rule = verdicts["git"][place], None
                if difference(own, by_git) and (git_rule := expected(case, "git", own, by_git)) is None:
                    by_git = by_index(case, root)
                for tool in tools:
                    other = by_git if tool == "git" else verdicts[tool][place]
                    if kind := difference(own, other):
                        rule = expected(case, tool, own, other, by_git, git_rule)
                        git_rule = rule if tool == "git" else git_rule
                        counts[f"{tool}: {rule or kind}"] += 1
                        if rule is None:
                            reports.append(report(case, tool, own, other, kind))
    return counts, reports


@pytest.fixture(scope="module")
def outcome() -> tuple[Counter[str], list[str]]:
    tools = ["git", *(["patch"] if shutil.which("patch") else [])]
    return run_cases(SEED, range(FIRST, FIRST + COUNT), tools)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["git", "patch", "the diff"])
def test_the_same_tree_or_a_refusal(outcome: tuple[Counter[str], list[str]], tool: str) -> None:
    if tool == "patch":
        need("patch")
    counts, reports = outcome
    own = [text for text in reports if re.match(rf"case \d+ of [^,]*, {tool}:", text)]
    assert not own, f"{len(own)} of {COUNT} cases; the first ones:\n\n" + "\n\n".join(own[:3])
    assert counts["applied"] > COUNT // 3
    assert counts["refused"] > COUNT // 10


def test_a_few_series(tmp_path: Path) -> None:
    counts, reports = run_cases("few", range(150), ["git"])
    assert reports == []
    assert counts["applied"] > 50
