"""The layers of `tools/`: an import goes to a layer that the table allows, and no two modules need each other.

Imports inside functions and under TYPE_CHECKING count: a late import may save start-up time, never hide a cycle.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
# Modules that run in the upstreams' environments, where this folder is on the path and `tools/` is not.
WORKERS = TOOLS / "regression/workers"

# program -> package, or module, of it -> what it may import of its own program; toolkit is everybody's.
LAYERS = {
    "toolkit": {},
    "patchset": {
        "store": "",
        "model": "store",
        "sources": "model store",
        "project": "model sources",
        "engine": "model store",
        "worktree": "model store",
        "wheels": "model store",
        "workflow": "model store sources project engine worktree wheels",
        "authoring": "model store project engine worktree workflow",
        "rebasing": "model store sources project engine worktree workflow",
        "cli": "model sources project engine workflow authoring rebasing",
    },
    "checkpoint": {
        "formats": "",
        "breach": "",
        "reading": "breach formats",
        "checks": "breach formats reading",
        "convert": "breach formats reading",
        "quantize": "",
        "cli": "breach formats checks convert quantize",
    },
    "regression": {
        "workers": "",
        "figures": "",
        "values": "figures",
        "report": "figures values",
        "effects": "values",
        "session": "figures values effects workers",
        "cli": "figures values report effects session",
    },
}
# Layer -> what it may import of another program.
ACROSS = {
    "regression.effects": "patchset.model patchset.store patchset.engine",
    "regression.values": "checkpoint.formats",
    "regression.session": "patchset.model patchset.store patchset.project patchset.workflow "
    "checkpoint.breach checkpoint.formats checkpoint.reading checkpoint.checks checkpoint.convert checkpoint.quantize",
    "regression.cli": "patchset.project",
}


def table() -> dict[str, set[str]]:
    """Return layer -> the layers that it may import; a program's own modules, at its top, may import its command."""
    layers: dict[str, set[str]] = {}
    for program, packages in LAYERS.items():
        layers[program] = {f"{program}.cli"} & {f"{program}.{package}" for package in packages}
        for package, names in packages.items():
            name = f"{program}.{package}"
            layers[name] = {program, *(f"{program}.{other}" for other in names.split()), *ACROSS.get(name, "").split()}
    return {name: {name, "toolkit", *allowed} for name, allowed in layers.items()}


ALLOWED = table()


def layer(module: str) -> str:
    """Return the layer of a module: the longest name in the table that it lies in."""
    parts = module.split(".")
    return next(name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in ALLOWED)


@cache
def modules() -> dict[str, Path]:
    """Return every module of `tools/` by its dotted name."""
    names = {}
    for file in sorted(TOOLS.rglob("*.py")):
        parts = file.relative_to(TOOLS).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def resolved(name: str, file: Path) -> str:
    """Return the name in `tools/` of a module as `file` imports it."""
    beside = WORKERS / f"{name.partition('.')[0]}.py"
    prefix = ".".join(WORKERS.relative_to(TOOLS).parts)
    return f"{prefix}.{name}" if WORKERS in file.parents and beside.is_file() else name


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the modules of `tools/` that a file imports, wherever in it, with the lines."""
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            # `from package import module` imports the module, `from module import name` the module that has it.
            whole = [f"{node.module}.{item.name}" for item in node.names]
            names = [name if resolved(name, file) in modules() else str(node.module) for name in whole]
        for name in dict.fromkeys(names):
            if (module := resolved(name, file)) in modules():
                yield module, node.lineno if isinstance(node, ast.stmt) else 0


@cache
def graph() -> dict[str, list[tuple[str, int]]]:
    """Return module -> the modules that it imports, with the lines."""
    return {module: list(imports(file)) for module, file in modules().items()}


def test_every_package_has_a_layer() -> None:
    packages = {".".join(name.split(".")[:2]) for name, file in modules().items() if file.name == "__init__.py"}
    assert packages - set(ALLOWED) == set()
    assert {name for name in ALLOWED if name not in modules()} == set()


@pytest.mark.parametrize("name", ALLOWED)
def test_a_layer_imports_what_the_table_allows(name: str) -> None:
    breaches = [
        f"{modules()[module].relative_to(TOOLS)}:{line}: {name} imports {target}"
        for module, targets in graph().items()
        for target, line in targets
        if layer(module) == name and layer(target) not in ALLOWED[name]
    ]
    assert not breaches, "\n" + "\n".join(breaches)


@pytest.mark.parametrize("program", [name for name, packages in LAYERS.items() if packages])
def test_the_map_shows_every_layer_in_this_order(program: str) -> None:
    text = (TOOLS.parent / "docs/architecture.md").read_text()
    section = text.split(f"\n## {program}\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(LAYERS[program])


def refuse_circle(edges: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail("a circle: " + " <- ".join(error.args[1]))


def test_no_modules_import_each_other_in_a_circle() -> None:
    refuse_circle({module: {target for target, _ in targets} for module, targets in graph().items()})


def test_the_table_has_no_circle() -> None:
    refuse_circle({name: allowed - {name} for name, allowed in ALLOWED.items() if "." in name})


def test_late_and_typing_imports_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from patchset.store.git import Git\n"
        "def f():\n    from patchset.store import merge\n    import toolkit.errors\n"
    )
    assert {name for name, _ in imports(file)} == {"patchset.store.git", "patchset.store.merge", "toolkit.errors"}
