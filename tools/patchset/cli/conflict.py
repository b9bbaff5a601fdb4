"""A conflict on the terminal, for `patchset rebase` and `patchset bisect`."""

from __future__ import annotations

import click

from patchset.rebasing.explain import ConflictReport

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
# click's colours: rich takes longer to load than a series takes to rebase.
style = click.style


def print_diff(text: str, indent: str) -> None:
    """Print a diff, coloured."""
    for line in text.split("\n"):
        click.echo(indent + style(line, fg=_COLOURS.get(line[:1])))


def print_files(conflict: ConflictReport, indent: str, *, laid_out: bool) -> None:
    """Print the files of a conflict, with upstream's change at each hunk; lines only where the files are laid out."""
    for file in conflict.files:
        click.echo(f"{indent}{style(file.path, bold=True)}: {file.kind}")
        if not file.hunks and file.message:
            click.echo(f"{indent}  {file.message}")
        for hunk in file.hunks:
            name = f"hunk {hunk.hunk} ({hunk.header})" if hunk.hunk else "a hunk"
            line = f", line {hunk.line} of the file with markers" if laid_out else ""
            click.echo(f"{indent}  {name}{line}; upstream's change there:")
            for text in hunk.upstream:
                print_diff(text, indent + "    ")
