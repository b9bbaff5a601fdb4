"""Options that several commands of `patchset` have, and the reports that `--json` prints for a program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from patchset.cli.complete import complete_specs
from patchset.sources.kinds import AUTO, KINDS
from toolkit.console import print_json

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


ReportType = TypeVar("ReportType")


def print_report(report: ReportType, show: Callable[[ReportType], None], as_json: bool) -> int:
    """Print one report, with `show` if not as JSON; return exit code 0."""
    if as_json:
        print_json(report)
    else:
        show(report)
    return 0


def print_reports(reports: Sequence[ReportType], show: Callable[[ReportType], None], as_json: bool) -> int:
    """Print reports, each with `show` if not as one JSON list; return exit code 0."""
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            show(report)
    return 0
