"""`checkpoint convert`: ModelOpt's INT8 SmoothQuant as compressed-tensors."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Examples:
  checkpoint convert qwen-int8/ qwen-int8-ct/
  vllm serve qwen-int8-ct/            as released, without any patch"""


@click.command(epilog=EPILOG)
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def convert_command(checkpoint: Path, target: Path, as_json: bool) -> None:
    """Write CHECKPOINT, ModelOpt's INT8 SmoothQuant, as compressed-tensors into TARGET.

    vLLM serves the result as released. The smoothing is folded into the norms and projections before each layer where
    that is exact; where it is not, the layers are named and nothing is written.
    """
    from checkpoint.convert.checkpoint import convert
    from toolkit.console import Terminal, print_json

    done = convert(checkpoint, target, Terminal())
    if as_json:
        print_json(done.as_json())
        return
    how = "the same to the bit" if done.exact else "the same up to the rounding of float32"
    click.echo(f"{target}: {done.layers} layers converted, {done.left} left unquantized; logits stay {how}")
