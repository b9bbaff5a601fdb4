"""Reports of commands, printed for a person or as JSON for a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from toolkit.console import print_json


class JsonReport(Protocol):
    """A report that a program can read."""

    def as_json(self) -> dict[str, object]: ...


ReportType = TypeVar("ReportType", bound=JsonReport)


def print_report(report: ReportType, show: Callable[[ReportType], None], as_json: bool) -> int:
    """Print one report, with `show` if not as JSON; return exit code 0."""
    if as_json:
        print_json(report.as_json())
    else:
        show(report)
    return 0


def print_reports(reports: Sequence[ReportType], show: Callable[[ReportType], None], as_json: bool) -> int:
    """Print reports, each with `show` if not as one JSON list; return exit code 0."""
    if as_json:
        print_json([report.as_json() for report in reports])
    else:
        for report in reports:
            show(report)
    return 0
