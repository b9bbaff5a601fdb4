"""The `regression` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from patchset import __version__
from patchset.cli.lazy import LazyGroup, run

# name -> module of regression.cli with a click command of that name, loaded when it is run.
COMMANDS: dict[str, tuple[str, str]] = {
    "quantize": ("quantize", "Quantize a model with ModelOpt's library, export it, check what was exported."),
    "check-checkpoint": ("check_checkpoint", "Hold checkpoints that ModelOpt exported against their format."),
    "make-model": ("make_model", "Train the small model that scenarios are run with."),
    "run": ("run", "Quantize, export, serve, compare, report."),
    "compare": ("compare", "Tell what differs between two reports."),
    "convert": ("convert", "Write INT8 SmoothQuant as compressed-tensors, which vLLM serves unpatched."),
}

EPILOG = """\b
Exit codes are listed in docs/exit-codes.md."""


@click.group(
    cls=LazyGroup,
    package="regression.cli",
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="regression")
def group() -> None:
    """Quantize a vision-language model, check what was exported, serve it, compare, report."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(group, "regression", argv)


def entry() -> None:
    """The console script."""
    sys.exit(main())
