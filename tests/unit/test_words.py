"""The terms of docs/style.md are kept: old words stay out, vague ones are few, a type's name stands for one type."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STYLE = ROOT / "docs/style.md"

# Where an old word has to stand: file -> word -> reason.
ALLOWED = {
    "tools/patchset/cli/main.py": {"blame": "the command's old name answers"},
    "tests/rebase/test_matrix.py": {"blame": "the test of the command's old name"},
    "tools/patchset/model/trailers.py": {"tested-by": "series of earlier versions have this trailer"},
    "docs/formats.md": {"tested-by": "series of earlier versions have this trailer"},
    "tools/regression/effects/cache.py": {"kit": "folders of earlier versions are named so"},
    "tools/regression/report/read.py": dict.fromkeys(
        ("picture", "pictures", "sleeping", "slept"), "reports of earlier versions have these words"
    ),
    "tools/regression/session/fixture.py": {"lessons": "a file of earlier versions is named so"},
    "tools/regression/values/scenario.py": {"asleep": "the key's old name is refused with the new one"},
    "tools/regression/workers/items.py": {"picture": "items of earlier versions have this key"},
    "tools/regression/workers/shapes_model.py": {"picture": "a question that the model is trained on"},
}
ALIASES = {"Annotated", "Callable", "Literal", "dict", "frozenset", "list", "set", "tuple", "type", "Union", "Optional"}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading of docs/style.md, without its head."""
    text = STYLE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = text[text.index("\n|") :].split("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.strip().splitlines()[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TERMS = {old.lower(): better for cell, better in rows("Terms") for old in quoted(cell)}
LIMITS = {tuple(quoted(cell)): int(limit) for cell, limit in rows("Names")}


@cache
def old_words() -> re.Pattern[str]:
    """Return the expression for all old words; each may be a part of an identifier, such as `_fates` or `PatchFate`."""
    patterns = []
    for old in sorted(TERMS, key=len, reverse=True):
        letters = r"[\s_#-]+".join(map(re.escape, old.split()))
        # At the start of a word in any case, or within one as a capitalised part.
        capital = letters[0].upper() + letters[1:]
        patterns += [rf"(?<![A-Za-z])(?i:{letters})(?![a-z])", rf"(?<=[a-z]){capital}(?![a-z])"]
    return re.compile("|".join(patterns))


def texts() -> Iterator[tuple[Path, str]]:
    """Yield what must be free of old words: files with their text, patches' headers, names of and in tests."""
    for folder in ("tools", "scripts", "docs"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".sh", ".toml", ".j2", ".md") and file != STYLE:
                yield file, f"{file.relative_to(ROOT)}: {file.read_text()}"
    yield ROOT / "README.md", (ROOT / "README.md").read_text()
    for file in sorted((ROOT / "patches").rglob("*")):
        if file.is_file():
            header = file.read_text().split("\ndiff --git ")[0]
            yield file, f"{file.relative_to(ROOT)}: {header}"
    for file in sorted((ROOT / "tests").rglob("*")):
        if file.suffix == ".py":
            lines = file.read_text().splitlines()
            names = (re.match(r"\s*(?:async )?(?:def|class) (\w+)", line) for line in lines)
            yield file, f"{file.relative_to(ROOT)}: " + "\n".join(name[1] if name else "" for name in names)
        elif file.suffix == ".toml":
            yield file, f"{file.relative_to(ROOT)}: "


def test_the_terms_are_read() -> None:
    assert TERMS["by way of"] == "intermediate releases"
    assert len(TERMS) > 20
    assert set(LIMITS) == {("found",), ("made",), ("said", "told", "asked", "telling")}
    samples = (
        "fates",
        "_fate",
        "PatchFate",
        "by\n# way of",
        "by_way_of",
        "Blame",
        "test_pictures_leave",
        "Kit",
        "Kits",
    )
    for text in samples:
        assert old_words().search(text), text
    for text in ("fateful", "toolkit", "outcome", "kite", "sleep(0.2)", "tested-byte"):
        assert not old_words().search(text), text


def test_old_words_stay_out() -> None:
    breaches: dict[str, None] = {}
    for file, text in texts():
        name = file.relative_to(ROOT).as_posix()
        for match in old_words().finditer(text):
            old = " ".join(re.split(r"[\s_#]+", match[0].lower()))
            if old not in ALLOWED.get(name, {}):
                line = text.count("\n", 0, match.start()) + 1
                breaches[f"{name}:{line}: {match[0]!r}: write {TERMS[old]!r}"] = None
    assert not breaches, "\n" + "\n".join(breaches)


def test_every_exception_is_needed() -> None:
    for name, words in ALLOWED.items():
        text = (ROOT / name).read_text().lower()
        assert [word for word in words if word not in text] == [], name


@pytest.mark.parametrize("words", LIMITS)
def test_vague_words_are_few(words: tuple[str, ...]) -> None:
    pattern = re.compile(rf"\b(?<!import-not-)(?:{'|'.join(words)})\b")
    places, lines = Counter[str](), 0
    for file in sorted((ROOT / "tools").rglob("*")):
        if file.suffix in (".py", ".j2"):
            text = file.read_text()
            lines += text.count("\n")
            places[file.relative_to(ROOT).as_posix()] += len(pattern.findall(text))
    rate = places.total() / lines * 1000
    worst = "\n".join(f"{name}: {count}" for name, count in places.most_common(20) if count)
    assert rate < LIMITS[words], f"{'|'.join(words)}: {rate:.1f} in 1 000 lines; name the thing instead\n{worst}"


def types(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the classes and type aliases of a module, wherever they stand in it, with their lines."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if ast.unparse(node.annotation).endswith("TypeAlias"):
                yield node.target.id, node.lineno
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and is_alias(node):
            yield node.targets[0].id, node.lineno


def is_alias(node: ast.Assign) -> bool:
    value = node.value
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).split(".")[-1] in ("NewType", "NamedTuple", "TypedDict", "namedtuple")
    return isinstance(value, ast.Subscript) and ast.unparse(value.value).split(".")[-1] in ALIASES


def test_a_types_name_stands_for_one_type() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted((ROOT / "tools").rglob("*.py")):
        for name, line in types(ast.parse(file.read_text())):
            if not name.startswith("_"):
                places[name].append(f"{file.relative_to(ROOT)}:{line}")
    several = [f"{name}: {', '.join(where)}" for name, where in sorted(places.items()) if len(where) > 1]
    assert not several, "\n" + "\n".join(several)
