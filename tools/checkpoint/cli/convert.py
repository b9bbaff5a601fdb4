"""`checkpoint convert`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from toolkit.extras import need

EPILOG = """\b
Examples:
  checkpoint convert qwen-int8/ qwen-int8-ct/
  vllm serve qwen-int8-ct/                    vLLM as released, without any patch"""


@click.command("convert", epilog=EPILOG)
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def convert_command(checkpoint: Path, target: Path, as_json: bool) -> None:
    """Convert CHECKPOINT, ModelOpt's INT8 SmoothQuant, to compressed-tensors in the new folder TARGET.

    vLLM serves the result as released. The smoothing is folded into the norms and projections before each layer. A
    layer whose smoothing cannot be folded exactly is named, and nothing is written.
    """
    need("numpy", extra="checkpoint")
    from checkpoint.convert.checkpoint import convert
    from toolkit.console import Terminal, print_json

    result = convert(checkpoint, target, Terminal())
    if as_json:
        print_json(asdict(result))
        return
    how = "the same to the bit" if result.exact else "the same up to the rounding of float32"
    click.echo(f"{target}: {result.layers} layers converted, {result.left} left unquantized; logits stay {how}")
