"""Sessions: small, and each passes its arguments on. `nox -s apply build -- vllm@v0.30.0`."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).parent
REQUIREMENTS = ROOT / "tests/requirements"


def install(session: nox.Session, *groups: str) -> None:
    """Install the project, editable, with dependency groups of pyproject.toml."""
    project = nox.project.load_toml("pyproject.toml")
    extra = nox.project.dependency_groups(project, *groups) if groups else ()
    session.install("-e", ".", *extra)


def environment(session: nox.Session, name: str) -> str:
    """Make the virtual environment of tests/requirements/<name>.txt if it is not there; return its Python.

    The upstreams run in environments of their own: they cannot be resolved together, as users find out too.
    <name>.unwanted lists what their dependencies bring and what must go again.
    """
    # Absolute: the tests run it from folders of their own.
    folder = Path(session.cache_dir).resolve() / "environments" / name
    requirements = REQUIREMENTS / f"{name}.txt"
    unwanted = REQUIREMENTS / f"{name}.unwanted"
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    wanted = requirements.read_text() + (unwanted.read_text() if unwanted.is_file() else "")
    if not stamp.is_file() or stamp.read_text() != wanted:
        session.run("python", "-m", "venv", "--clear", str(folder), silent=True)
        session.run(str(python), "-m", "pip", "install", "-q", "-r", str(requirements), external=True)
        if unwanted.is_file():
            session.run(str(python), "-m", "pip", "uninstall", "-q", "-y", "-r", str(unwanted), external=True)
        stamp.write_text(wanted)
    return str(python)


@nox.session
def apply(session: nox.Session) -> None:
    """Bring extern/ to the patched trees: [COMPONENT[@BASE]]... [--source auto|submodule|archive]."""
    install(session)
    session.run("patchset", "apply", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the patched wheels into dist/: [COMPONENT[@BASE]]... [--route auto|overlay|source]."""
    install(session)
    session.run("patchset", "build", *session.posargs)


@nox.session
def status(session: nox.Session) -> None:
    """Tell what is applied, and what apply would do."""
    install(session)
    session.run("patchset", "status", *session.posargs)


# Files go to the processors as a whole: what is set up once for a file, a served model say, stays in one process.
PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, fast ones first; arguments go to pytest."""
    install(session, "tests")
    if not session.posargs:
        # Whoever broke something small hears of it before the upstreams' environments are made.
        session.run("pytest", *PARALLEL, "-m", "not slow")
    env = {f"PATCHSET_{path.stem.upper()}_PYTHON": environment(session, path.stem) for path in needed(session)}
    session.run("pytest", *PARALLEL, *(session.posargs or ("-m", "slow")), env=env)


def needed(session: nox.Session) -> list[Path]:
    """The upstreams' environments that this run of the tests wants: none with `-m "not slow"`."""
    if "not slow" in session.posargs or os.environ.get("PATCHSET_NO_ENVIRONMENTS"):
        return []
    return sorted(REQUIREMENTS.glob("*.txt"))


@nox.session
def e2e(session: nox.Session) -> None:
    """Quantize, serve, compare and report, released and patched side by side: [SCENARIO]... [--fresh]."""
    install(session, "e2e")
    names = ("quantize", "serve")
    env = {f"PATCHSET_{name.upper()}_PYTHON": environment(session, name) for name in names}
    baseline = ("--baseline", "tests/e2e/baseline-cpu.json")
    session.run("regression", "run", *baseline, *session.posargs, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the code's style and types, and every series."""
    install(session, "tests", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("patchset", "lint")


@nox.session
def bench(session: nox.Session) -> None:
    """Compare with git, quilt and friends, side by side in one run: [apply|overlay|rebase]..."""
    install(session, "bench")
    for name in session.posargs or ("apply", "overlay", "rebase"):
        session.run("python", f"benchmarks/{name}.py")
