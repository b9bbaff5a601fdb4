"""The layers of `tools/`: an import goes to a layer that the table allows, and no modules import each other in a circle.

Imports inside functions and under TYPE_CHECKING count: a late import may save start-up time, never hide a cycle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
# Modules that run in the upstreams' environments, where this folder is on the path and `tools/` is not.
INSIDE = TOOLS / "regression/inside"

PATCHSET = {
    "store": set[str](),
    "model": {"store"},
    "sources": {"model", "store"},
    "project": {"model", "sources"},
    "engine": {"model", "store"},
    "worktree": {"model", "store"},
    "wheels": {"model", "store"},
    "workflow": {"model", "store", "sources", "project", "engine", "worktree", "wheels"},
    "authoring": {"model", "store", "project", "engine", "worktree", "workflow"},
    "rebasing": {"model", "store", "sources", "project", "engine", "worktree", "workflow"},
    "cli": {"model", "sources", "project", "engine", "workflow", "authoring", "rebasing"},
}
CHECKPOINT = {
    "formats": set[str](),
    "reading": {"formats"},
    "checks": {"formats", "reading"},
    "convert": {"formats", "reading"},
    "quantize": {"formats", "reading"},
    "cli": {"formats", "reading", "checks", "convert", "quantize"},
}
REGRESSION = {
    "inside": set[str](),
    "model": set[str](),
    "figures": {"model"},
    "report": {"model", "figures"},
    "effects": {"model"},
    "stages": {"model", "figures", "report", "effects"},
    "cli": {"model", "figures", "report", "effects", "stages"},
}
# What a package may import of another program.
OTHERS = {
    "checkpoint": set[str](),
    "regression": {"checkpoint", "patchset.model", "patchset.project", "patchset.workflow"},
}


def table() -> dict[str, set[str]]:
    """Return layer -> layers that it may import, beside itself; toolkit is everybody's."""
    layers: dict[str, set[str]] = {"toolkit": set()}
    for program, packages in (("patchset", PATCHSET), ("checkpoint", CHECKPOINT), ("regression", REGRESSION)):
        layers[program] = {"toolkit", f"{program}.cli"}
        for package, allowed in packages.items():
            own = {f"{program}.{name}" for name in allowed} | {program}
            layers[f"{program}.{package}"] = own | {"toolkit"} | OTHERS.get(program, set())
    return layers


ALLOWED = table()


def layer(module: str) -> str:
    """Return the layer of a module: its package, `program.package`, or for a module at a program's top the program."""
    program, _, rest = module.partition(".")
    package = f"{program}.{rest.partition('.')[0]}"
    return package if package in ALLOWED else program


@cache
def modules() -> dict[str, Path]:
    """Return every module of `tools/` by its dotted name."""
    names = {}
    for file in sorted(TOOLS.rglob("*.py")):
        parts = file.relative_to(TOOLS).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


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
        for name in names:
            if (module := resolved(name, file)) in modules():
                yield module, getattr(node, "lineno", 0)


def resolved(name: str, file: Path) -> str:
    """Return the name in `tools/` of a module as `file` imports it."""
    beside = INSIDE / f"{name.partition('.')[0]}.py"
    return f"regression.inside.{name}" if INSIDE in file.parents and beside.is_file() else name


@cache
def graph() -> dict[str, list[tuple[str, int]]]:
    return {module: [item for item in imports(file) if item[0] != module] for module, file in modules().items()}


def test_every_package_has_a_layer() -> None:
    packages = {".".join(name.split(".")[:2]) for name, file in modules().items() if file.name == "__init__.py"}
    packages = {name for name in packages if "." in name} | {"toolkit"}
    assert packages - set(ALLOWED) == set()
    programs = {"patchset", "checkpoint", "regression", "checkpoint.formats", "regression.inside"}
    assert set(ALLOWED) - packages - programs == set()


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_go_to_the_layers_below(name: str) -> None:
    breaches = []
    for module, targets in graph().items():
        for target, line in targets:
            other = layer(target)
            if (
                layer(module) == name
                and other != name
                and other not in ALLOWED[name]
                and parent(other) not in ALLOWED[name]
            ):
                breaches.append(f"{modules()[module].relative_to(TOOLS)}:{line}: {name} imports {target}")
    assert not breaches, "\n" + "\n".join(breaches)


def parent(name: str) -> str:
    """Return the program of a layer, where a table allows all of it."""
    program = name.partition(".")[0]
    return program if program == "checkpoint" else name


def test_no_module_imports_itself_in_a_circle() -> None:
    try:
        TopologicalSorter({module: [target for target, _ in targets] for module, targets in graph().items()}).prepare()
    except CycleError as error:
        pytest.fail("a cycle: " + " <- ".join(error.args[1]))


def test_the_table_has_no_circle() -> None:
    TopologicalSorter({name: allowed - {name} for name, allowed in ALLOWED.items() if "." in name}).prepare()


def test_the_reader_sees_late_and_typing_imports(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from patchset.store.git import Git\n"
        "def f():\n    from patchset.store import merge\n    import toolkit.errors\n"
    )
    assert [name for name, _ in imports(file)] == ["patchset.store.git", "patchset.store.merge", "toolkit.errors"]
