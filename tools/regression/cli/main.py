"""The `regression` command."""

from __future__ import annotations

from collections.abc import Sequence

import click

from toolkit import __version__
from toolkit.commands import LazyGroup, run

# name -> module of regression.cli with a click command of that name, loaded when it is run.
COMMANDS: dict[str, tuple[str, str]] = {
    "make-model": ("make_model", "Train the small model that scenarios are run with."),
    "run": ("run", "Quantize, export, serve, compare, report."),
    "compare": ("compare", "Print the differences between two reports."),
}

# Names that these commands had: they still answer, and print the new one.
RENAMED = {
    "quantize": ("checkpoint.cli.quantize:quantize_command", "checkpoint quantize"),
    "check-checkpoint": ("checkpoint.cli.check:check_command", "checkpoint check"),
    "convert": ("checkpoint.cli.convert:convert_command", "checkpoint convert"),
}

EPILOG = """\b
Exit codes are listed in docs/exit-codes.md."""


@click.group(cls=LazyGroup, package="regression.cli", entries=COMMANDS, renamed=RENAMED, epilog=EPILOG)
@click.version_option(__version__, prog_name="regression")
def group() -> None:
    """Quantize a model with and without the patches, serve it, compare, report."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(group, "regression", argv)


# The console script, which exits with the code.
entry = main
