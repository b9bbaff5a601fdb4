"""Options that several commands of `patchset` have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click

from patchset.cli.complete import complete_specs
from patchset.sources.kinds import AUTO, KINDS

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def source_option(text: str) -> Decorator:
    """Return the option `--source`; `text` is its meaning for the command."""
    return click.option("--source", type=click.Choice([AUTO, *KINDS]), default=AUTO, show_default=True, help=text)


offline_option = click.option("--offline", is_flag=True, help="Do not use the network; use local and cached data only.")


def common(epilog: str, *, specs: bool = True) -> Decorator:
    """Give a command the parts that all of them have: its examples, `--json`, and the names of components."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")(function)
        if specs:
            argument = click.argument("specs", nargs=-1, metavar="[COMPONENT[@BASE]]...", shell_complete=complete_specs)
            function = argument(function)
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n\b\nExamples:\n{epilog}"
        return function

    return decorate
