"""What several commands share: where the environments, the kept steps and the model are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from regression.effects.machine import Python
    from regression.effects.stages import Stages
    from regression.stages.kit import Kit

FOLDER = click.Path(file_okay=False, path_type=Path)


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which model is meant, and where finished steps are kept."""
    for option in (
        click.option("--cache", type=FOLDER, help="Where finished steps are kept.  [default: the user's cache]"),
        click.option("--seed", default=0, show_default=True, help="Of the shapes model."),
        click.option("--steps", type=click.IntRange(min=20), help="Batches that the shapes model is trained on."),
        click.option("--captions", type=click.Path(dir_okay=False, path_type=Path), help="Your own, one a line."),
        click.option("--model", type=FOLDER, help="Your own checkpoint instead of the shapes model."),
        click.option("--quantize-python", metavar="PYTHON", help="With ModelOpt.  [default: PATCHSET_QUANTIZE_PYTHON]"),
    ):
        function = option(function)
    return function


def make_kit(
    stages: Stages,
    python: Python,
    model: Path | None,
    captions: Path | None,
    steps: int | None,
    seed: int,
    device: str = "cpu",
) -> Kit:
    """Return the user's model as a kit, or the shapes model."""
    from regression.effects.machine import hardware
    from regression.stages import kit
    from toolkit.console import Terminal

    if model is not None and captions is None and (model / "items.json").is_file():
        return kit.made(model)
    if (model is None) != (captions is None):
        raise UsageError(
            "--model and --captions go together",
            remedy="give both, or neither for the shapes model; a folder that make-model wrote needs no captions",
        )
    if model is not None and captions is not None:
        return kit.own(stages, model, captions)
    return kit.trained(stages, python, Terminal(), steps, seed, device, hardware().cores)


def need_libraries() -> None:
    """Raise `EnvironmentProblem` where the extra `regression` is not installed."""
    try:
        import jinja2  # noqa: F401
        import numpy  # noqa: F401
    except ImportError as error:
        remedy = "install the extra: pip install 'patchset[regression]'"
        raise EnvironmentProblem(f"{error.name} is not installed", remedy=remedy) from None
