"""`checkpoint check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from checkpoint.formats import FORMATS
from toolkit.errors import VerifyFailed
from toolkit.extras import need

if TYPE_CHECKING:
    from checkpoint.breach import CheckResult, Rule

# Breaches of one rule that are shown; `--json` has them all.
SHOWN = 5
EPILOG = "\b\nFormats:\n" + "".join(f"  {row.algo:27}{row.title}\n" for row in FORMATS)
EPILOG += """
\b
Examples:
  checkpoint check Qwen2.5-VL-3B-INT8
  checkpoint check --json exported/* | jq '.[] | {folder, good}'"""


@click.command("check", epilog=EPILOG)
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def check_command(folders: tuple[Path, ...], as_json: bool) -> int:
    """Check the checkpoints in DIR..., exported by ModelOpt, against their format.

    The check reads the files and their index, both configurations, and every tensor: its type, shape and values. It
    compares the scales of q/k/v and gate/up, counts the KV cache's scales, and names tensors that belong to no layer.
    No GPU and no torch is needed. Exit code 12 if a checkpoint breaks its format.
    """
    need("numpy", extra="checkpoint")
    from checkpoint.checks.check import check
    from toolkit.console import Terminal, print_json

    results = [check(folder, Terminal()) for folder in folders]
    if as_json:
        print_json(results)
    else:
        for result in results:
            print_result(result)
    return 0 if all(result.good for result in results) else VerifyFailed.exit_code


def print_result(result: CheckResult) -> None:
    """Print a result: the checkpoint's numbers, its breaches, and the effect of each kind of breach."""
    from checkpoint.breach import EXPLAINED
    from toolkit.console import console, escape

    out = console()
    verdict = "[green]good[/]" if result.good else f"[red]{len(result.breaches)} breaches[/]"
    cache = f", {result.cache} KV cache" if result.cache else ""
    out.print(f"[bold]{escape(result.folder)}[/]: {verdict} ({escape(str(result.algo))}{escape(cache)})")
    out.print(
        f"  {result.tensors} tensors, {result.bytes / 1e9:.2f} GB; "
        f"{result.quantized} layers quantized, {result.left_alone} matrices left alone"
    )
    rules: dict[Rule, list[str]] = {}
    for breach in result.breaches:
        rules.setdefault(breach.rule, []).append(f"{breach.where}: {breach.text}")
    for rule, lines in rules.items():
        out.print(f"  [red]{rule}[/]: {EXPLAINED[rule]}")
        for line in lines[:SHOWN]:
            out.print(f"    {escape(line)}")
        if len(lines) > SHOWN:
            out.print(f"    and {len(lines) - SHOWN} more; --json has them all")
    for note in result.notes:
        out.print(f"  [yellow]note[/]: {escape(note)}")
