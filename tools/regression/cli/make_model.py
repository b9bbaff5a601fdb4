"""`regression make-model`: a model that has learned something, without any download."""

from __future__ import annotations

from pathlib import Path

import click

from regression.cli.shared import FOLDER, make_kit, model_options, need_libraries

EPILOG = """\b
Examples:
  regression make-model                       train it, or say where it is
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
    quantize_python: str | None,
    model: Path | None,
    captions: Path | None,
    steps: int | None,
    seed: int,
    cache: Path | None,
    device: str,
    size: str,
    layers: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train a small Qwen2.5-VL on generated pictures of shapes until it captions held-out ones right.

    Then a few channels are made large by a rescaling that does not change what it says by a bit, so that plain INT8
    loses accuracy and SmoothQuant keeps it, as with large language models. The same seed gives the same model on the
    same machine; a finished one is kept and found again.
    """
    import shutil

    from regression.effects.machine import hardware, probe
    from regression.effects.process import interrupt_on_termination
    from regression.effects.stages import Stages, default_folder, digest
    from regression.stages.kit import large
    from toolkit.console import Terminal, print_json
    from toolkit.errors import LocalChanges

    need_libraries()
    interrupt_on_termination()
    if out is not None and out.exists():
        raise LocalChanges(f"{out} exists", remedy="name a folder that does not")
    stages = Stages(cache or default_folder())
    python = probe("quantize", quantize_python)
    if size == "3b":
        kit = large(stages, python, Terminal(), layers, seed, device, hardware().cores)
    else:
        kit = make_kit(stages, python, model, captions, steps, seed, device)
    folder = kit.model.parent
    if out is not None and model is None:
        shutil.copytree(folder, out)
        folder = out
    if as_json:
        print_json({"folder": str(folder), "model": str(kit.model), "sha256": digest(*kit.files), "card": kit.card})
        return
    click.echo(str(folder))
    if kit.card is not None:
        for name, share in kit.card["right"].items():
            click.echo(f"  {name:<18} {share:6.1%} of {kit.card['held out']} held-out questions right")
