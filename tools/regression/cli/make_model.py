"""`regression make-model`: a model that has learned something, without any download."""

from __future__ import annotations

from pathlib import Path

import click

from regression.cli.options import FOLDER, ModelOptions, model_options, need_libraries

EPILOG = """\b
Examples:
  regression make-model                       train it, or print where it is
  regression make-model --out shapes/         and copy it there
  regression make-model --device cuda --seed 1
  regression make-model --size 3b --device cuda"""


@click.command(epilog=EPILOG)
@model_options
@click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True)
@click.option(
    "--size",
    type=click.Choice(("small", "3b")),
    default="small",
    show_default=True,
    help="3b: not trained, random weights in the shape of Qwen2.5-VL-3B.",
)
@click.option("--layers", type=click.IntRange(1), help="Of the decoder, with --size 3b.  [default: 36, all of them]")
@click.option("--out", type=FOLDER, help="Copy the model, captions and questions here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def make_model_command(
    options: ModelOptions, device: str, size: str, layers: int | None, out: Path | None, as_json: bool
) -> None:
    """Train a small Qwen2.5-VL on generated images of shapes until it captions held-out ones right.

    Then a few channels are enlarged by a rescaling that does not change its logits by a bit, so that plain INT8
    loses accuracy and SmoothQuant keeps it, as with large language models. The same seed gives the same model on the
    same machine; a finished one is kept for the next time.
    """
    need_libraries()
    import shutil

    from regression.effects.cache import digest
    from regression.effects.machine import probe
    from toolkit.console import print_json
    from toolkit.errors import LocalChanges
    from toolkit.process import interrupt_on_termination

    interrupt_on_termination()
    if out is not None and out.exists():
        raise LocalChanges(f"{out} exists", remedy="name a folder that does not")
    maker = options.maker(options.step_cache(), probe("quantize", options.quantize_python), device)
    if size == "3b":
        fixture = maker.large(layers, options.seed)
    else:
        fixture = maker.fixture(options.model, options.captions, options.steps, options.seed)
    folder = fixture.model.parent
    if out is not None and options.model is None:
        shutil.copytree(folder, out)
        folder = out
    if as_json:
        card, model = fixture.card, str(fixture.model)
        print_json({"folder": str(folder), "model": model, "sha256": digest(*fixture.files), "card": card})
        return
    click.echo(str(folder))
    if fixture.card is not None:
        for name, share in fixture.card["right"].items():
            click.echo(f"  {name:<18} {share:6.1%} of {fixture.card['held out']} held-out questions right")
