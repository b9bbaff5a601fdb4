"""`regression compare`: two reports."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Example:
  regression compare tests/e2e/baseline-cpu.json report/report.json"""

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def compare_command(old: Path, new: Path, as_json: bool) -> int:
    """Tell what differs between the reports OLD and NEW, what ran first: it explains the rest.

    The exit code is 13 where a scenario's verdict got worse.
    """
    from regression.figures.verdict import EXIT_CODE, Verdict
    from regression.report.compare import compare, read_report
    from toolkit.console import print_json

    found = compare(read_report(old), read_report(new))
    if as_json:
        print_json({"lines": found.lines, "worse": found.worse})
    else:
        click.echo("\n".join(found.lines) or "nothing differs")
    return EXIT_CODE[Verdict.REGRESSION if found.worse else Verdict.PASS]
