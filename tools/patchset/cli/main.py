"""The `patchset` command: its global options and the table of its commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from patchset.cli.context import Context
from toolkit import __version__
from toolkit.commands import LazyGroup, run

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
