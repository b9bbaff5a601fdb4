"""The `checkpoint` command."""

from __future__ import annotations

from collections.abc import Sequence

import click

from toolkit import __version__
from toolkit.commands import LazyGroup, run

# name -> module of checkpoint.cli with a click command of that name, loaded when it is run.
COMMANDS: dict[str, tuple[str, str]] = {
    "quantize": ("quantize", "Quantize a model with ModelOpt, export it, check the export."),
    "check": ("check", "Check exported checkpoints against their format."),
    "convert": ("convert", "Convert INT8 SmoothQuant to compressed-tensors for unpatched vLLM."),
}

EPILOG = """\b
Examples:
  checkpoint quantize Qwen/Qwen2.5-VL-3B-Instruct qwen-int8 --captions captions.txt
  checkpoint check qwen-int8

`checkpoint COMMAND --help` has more. Exit codes are listed in docs/exit-codes.md."""


@click.group(cls=LazyGroup, package="checkpoint.cli", entries=COMMANDS, epilog=EPILOG)
@click.version_option(__version__, prog_name="checkpoint")
def group() -> None:
    """Quantize a model with NVIDIA ModelOpt, check the exported checkpoint, convert it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(group, "checkpoint", argv)


# The console script, which exits with the code.
entry = main
