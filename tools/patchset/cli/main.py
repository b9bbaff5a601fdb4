"""The `patchset` command: its global options and the table of its commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from patchset.cli.context import Context
from toolkit import __version__
from toolkit.commands import LazyGroup, run

# name -> module of patchset.cli with a click command of that name, and its line in `--help`. A module is imported
# when its command runs, so that start-up pays for one command only.
COMMANDS = {
    "apply": ("apply", "Bring extern/ to the patched trees."),
    "unapply": ("apply", "Bring extern/ back to the bases' trees."),
    "status": ("status", "Show what is applied and what apply would do."),
    "list": ("status", "List components, bases and patches."),
    "show": ("status", "Show one patch: its reason, upstream status and files."),
    "lint": ("series", "Check every series, patch and TOML file, and list all problems."),
    "record": ("series", "Write a series' trees into its base.toml."),
    "rebase": ("rebase", "Make a series for another upstream release."),
    "matrix": ("matrix", "Show the outcome of every patch at every known release."),
    "bisect": ("matrix", "Find the first upstream release that a patch does not fit."),
    "refresh": ("refresh", "Write the commits in extern/ back into the series."),
    "new": ("refresh", "Write a new patch of the changes in extern/."),
    "edit": ("refresh", "Change a patch: fold in the changes in extern/, or edit its message."),
    "drop": ("refresh", "Take a patch out of a series."),
    "upstream": ("upstream", "Show the upstream status of every patch."),
    "pin": ("pin", "Pin another base, in one commit."),
    "build": ("build", "Build the patched wheels."),
    "verify": ("build", "Verify a wheel, or an environment, against its series."),
    "completion": ("completion", "Print the shell's completion script."),
}

# Old names of commands: they still answer, and print the new one.
RENAMED = {"blame": ("patchset.cli.matrix:bisect_command", "patchset bisect")}


EPILOG = """\b
Examples:
  patchset apply                  both components, at their pinned bases
  patchset status --json          for a program
  patchset build vllm@v0.30.0     one wheel, into dist/
  patchset verify dist/*.whl      check wheels against their series

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
