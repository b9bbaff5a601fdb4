"""The `patchset` command: its global options, and what its commands share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchset import __version__
from toolkit.commands import LazyGroup, run
from toolkit.errors import PatchsetError, UsageError

if TYPE_CHECKING:
    from patchset.model.component import Base, Component
    from patchset.model.project import Project

# name -> module of patchset.cli with a click command of that name; loaded when it is run, so that start-up
# pays for one command only. The text is the command's line in `--help`.
COMMANDS = {
    "apply": ("apply", "Bring extern/ to the patched trees."),
    "unapply": ("apply", "Bring extern/ back to the bases' trees."),
    "status": ("status", "Tell what is applied, and what apply would do."),
    "list": ("status", "List components, bases and patches."),
    "show": ("status", "Show one patch: why it exists, where it stands, what it touches."),
    "lint": ("series", "Check every series, patch and TOML file; name all problems at once."),
    "record": ("series", "Write a series' trees into its base.toml."),
    "rebase": ("rebase", "Make a series for another upstream release."),
    "matrix": ("matrix", "Tell how every patch fares at every known release."),
    "bisect": ("matrix", "Find the upstream release that a patch breaks with."),
    "refresh": ("refresh", "Write the commits in extern/ back into the series."),
    "new": ("refresh", "Make a patch of what was changed in extern/."),
    "edit": ("refresh", "Change a patch: fold in what was changed in extern/, or edit its message."),
    "drop": ("refresh", "Take a patch out of a series."),
    "upstream": ("upstream", "Tell where every patch stands upstream."),
    "pin": ("pin", "Make another base the pinned one, in one commit."),
    "build": ("build", "Build the patched wheels."),
    "verify": ("build", "Prove a wheel, or what is installed, against its series."),
    "completion": ("completion", "Print the shell's completion script."),
}

# Names that these commands had: they still answer, and say the new one.
RENAMED = {"blame": ("patchset.cli.matrix:bisect_command", "patchset bisect")}


@dataclass
class Context:
    """What every command gets: the root that was asked for, or None to look for it from here upwards."""

    root: Path | None

    def find_root(self) -> Path:
        from patchset.model.project import find_root

        return self.root.resolve() if self.root is not None else find_root(Path.cwd())


EPILOG = """\b
Examples:
  patchset apply                  both components, at their pinned bases
  patchset status --json          for a program
  patchset build vllm@v0.30.0     one wheel, into dist/
  patchset verify dist/*.whl      are they what the series makes?

Exit codes are listed in docs/exit-codes.md."""


@click.group(
    cls=LazyGroup,
    package="patchset.cli",
    entries=COMMANDS,
    renamed=RENAMED,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    help="The project: a folder with patches/ in it. Default: the nearest one from here upwards.",
)
@click.version_option(__version__, prog_name="patchset")
@click.pass_context
def group(ctx: click.Context, root: Path | None) -> None:
    """Apply versioned patch series to pinned upstreams, build wheels, and prove every step by hash."""
    ctx.obj = Context(root)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(group, "patchset", argv)


def entry() -> None:
    """The console script."""
    sys.exit(main())


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def common(epilog: str, *, specs: bool = True) -> Decorator:
    """Give a command what all of them have: its examples, `--json`, and the names of components."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")(function)
        if specs:
            argument = click.argument("specs", nargs=-1, metavar="[COMPONENT[@BASE]]...", shell_complete=complete_specs)
            function = argument(function)
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n\b\nExamples:\n{epilog}"
        return function

    return decorate


def complete_components(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete one COMPONENT or COMPONENT@BASE."""
    return complete_specs(ctx, parameter, incomplete)


def complete_patches(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a patch of a pinned series."""
    return [name for name in _patches(ctx) if name.startswith(incomplete)]


def complete_specs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete COMPONENT and COMPONENT@BASE from the project that the shell stands in."""
    project = _project(ctx)
    if project is None:
        return []
    names = [item.name for item in project.components]
    names += [f"{item.name}@{base.name}" for item in project.components for base in item.bases if base.name]
    return [name for name in names if name.startswith(incomplete)]


def _project(ctx: click.Context) -> Project | None:
    """Return the project that the shell stands in, whatever is wrong with it."""
    from patchset.model.project import read

    root = ctx.find_root()
    context = root.obj if isinstance(root.obj, Context) else Context(root.params.get("root"))
    try:
        return read(context.find_root())[0]
    except PatchsetError:
        return None


def _patches(ctx: click.Context) -> list[str]:
    from patchset.model.project import pinned
    from patchset.model.series import read_entries

    project = _project(ctx)
    names: list[str] = []
    for component in project.components if project else ():
        try:
            base = pinned(component)
            names += [entry.patch_name for entry in read_entries(base.folder / "series")[0]]
        except (PatchsetError, OSError):
            continue
    return names


def owner(project: Project, name: str, spec: str | None) -> tuple[Component, Base]:
    """Return the component and base whose series has a patch.

    Raises:
        UsageError: none has; names those that there are.
    """
    from patchset.workflow.apply import read_series

    known: list[str] = []
    for component, base in project.select((spec,) if spec else ()):
        names = [entry.patch_name for entry in read_series(component, base).entries]
        known += names
        if name in names:
            return component, base
    raise UsageError(f"there is no patch {name!r}", remedy=f"known patches: {', '.join(known) or 'none'}")
