"""`regression compare`: two reports."""

from __future__ import annotations

from pathlib import Path

import click

from regression.cli.options import FILE, need_libraries

EPILOG = """\b
Example:
  regression compare tests/e2e/baseline-cpu.json report/report.json"""


@click.command(epilog=EPILOG)
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def compare_command(old: Path, new: Path, as_json: bool) -> int:
    """Print the differences between the reports OLD and NEW, those first that explain the rest.

    The exit code is 13 where a scenario's verdict got worse.
    """
    need_libraries()
    from regression.figures.verdict import EXIT_CODE, Verdict
    from regression.report.compare import compare
    from regression.report.read import read_report
    from toolkit.console import print_json

    difference = compare(read_report(old), read_report(new))
    if as_json:
        print_json({"lines": difference.lines, "worse": difference.worse})
    else:
        click.echo("\n".join(difference.lines) or "nothing differs")
    return EXIT_CODE[Verdict.REGRESSION if difference.worse else Verdict.PASS]
