"""Options that several commands share: which model, and where the environments and the kept steps are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.extras import need

if TYPE_CHECKING:
    from regression.effects.cache import StepCache
    from regression.session.fixture import Maker
    from toolkit.python import Python

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@dataclass(frozen=True)
class ModelOptions:
    """The values of `model_options`."""

    quantize_python: str | None
    model: Path | None
    captions: Path | None
    steps: int | None
    seed: int
    cache: Path | None

    def step_cache(self) -> StepCache:
        from regression.effects.cache import StepCache, default_folder

        return StepCache(self.cache or default_folder())

    def maker(self, cache: StepCache, python: Python, device: str = "cpu") -> Maker:
        """Return the maker of the fixture, with progress on the terminal."""
        from regression.effects.machine import hardware
        from regression.session.fixture import Maker
        from toolkit.console import Terminal

        return Maker(cache, python, Terminal(), device, hardware().cores)


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a model; the command gets them as `options`, a `ModelOptions`."""

    @wraps(function)
    def command(**values: Any) -> Any:
        chosen = ModelOptions(**{item.name: values.pop(item.name) for item in fields(ModelOptions)})
        return function(options=chosen, **values)

    for option in (
        click.option("--cache", type=FOLDER, help="Where finished steps are kept.  [default: the user's cache]"),
        click.option("--seed", default=0, show_default=True, help="Of the shapes model."),
        click.option("--steps", type=click.IntRange(min=20), help="Batches that the shapes model is trained on."),
        click.option("--captions", type=FILE, help="Your own, one a line."),
        click.option("--model", type=FOLDER, help="Your own checkpoint instead of the shapes model."),
        click.option("--quantize-python", metavar="PYTHON", help="With ModelOpt.  [default: PATCHSET_QUANTIZE_PYTHON]"),
    ):
        command = option(command)
    return command


def need_libraries() -> None:
    """Raise `EnvironmentProblem` where the extra `regression` is not installed."""
    need("jinja2", "numpy", extra="regression")
