"""`checkpoint check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.errors import VerifyFailed

if TYPE_CHECKING:
    from checkpoint.checks.finding import Rule, Verdict

# Breaches of one rule that are shown; `--json` has them all.
SHOWN = 5


@click.command("check")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def check_command(folders: tuple[Path, ...], as_json: bool) -> int:
    """Hold checkpoints that ModelOpt exported against their format, and explain every breach.

    INT8 SmoothQuant, INT8 weight-only, FP8 per tensor and per channel, NVFP4 with and without quantized
    activations. What is looked at: the files and their index, config.json against hf_quant_config.json, each layer's
    tensors with type, shape and values, whether q/k/v and gate/up agree, the KV cache's scales, and tensors that
    belong to no layer. Exit code 12 if there is a breach.

    \b
    Examples:
      checkpoint check Qwen2.5-VL-3B-INT8
      checkpoint check --json exported/* | jq '.[] | {folder, good}'
    """
    from checkpoint.checks.check import check
    from toolkit.console import Terminal, print_json

    verdicts = [check(folder, Terminal()) for folder in folders]
    if as_json:
        print_json([verdict.as_json() for verdict in verdicts])
    else:
        for verdict in verdicts:
            print_verdict(verdict)
    return 0 if all(verdict.good for verdict in verdicts) else VerifyFailed.exit_code


def print_verdict(verdict: Verdict) -> None:
    """Print a verdict: what was found, and what each kind of breach leads to."""
    from checkpoint.checks.finding import EXPLAINED
    from toolkit.console import console, escape

    out = console()
    said = "[green]good[/]" if verdict.good else f"[red]{len(verdict.breaches)} breaches[/]"
    cache = f", {verdict.cache} KV cache" if verdict.cache else ""
    out.print(f"[bold]{escape(verdict.folder)}[/]: {said} ({escape(str(verdict.algo))}{escape(cache)})")
    out.print(
        f"  {verdict.tensors} tensors, {verdict.bytes / 1e9:.2f} GB; "
        f"{verdict.quantized} layers quantized, {verdict.left_alone} matrices left alone"
    )
    rules: dict[Rule, list[str]] = {}
    for breach in verdict.breaches:
        rules.setdefault(breach.rule, []).append(f"{breach.where}: {breach.text}")
    for rule, lines in rules.items():
        out.print(f"  [red]{rule}[/]: {EXPLAINED[rule]}")
        for line in lines[:SHOWN]:
            out.print(f"    {escape(line)}")
        if len(lines) > SHOWN:
            out.print(f"    and {len(lines) - SHOWN} more; --json has them all")
    for note in verdict.notes:
        out.print(f"  [yellow]note[/]: {escape(note)}")
