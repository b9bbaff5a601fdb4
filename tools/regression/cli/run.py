"""`regression run`: quantize, export, serve, compare, report."""

from __future__ import annotations

from pathlib import Path

import click

from regression.cli.options import FILE, FOLDER, ModelOptions, model_options, need_libraries

EPILOG = """\b
Examples:
  regression run                              every scenario in tests/e2e
  regression run int8-smoothquant --out out/
  regression run --model qwen/ --captions coco.txt
  regression run --fresh                      forget the finished steps
\b
Exit code 13 is a regression, 14 inconclusive; docs/e2e.md has more."""


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@model_options
@click.option("--serve-python", metavar="PYTHON", help="With vLLM.  [default: PATCHSET_SERVE_PYTHON]")
@click.option("--scenarios", type=FOLDER, help="Scenario files.  [default: tests/e2e]")
@click.option("--root", type=FOLDER, help="The project, with patches/ in it.  [default: from here upwards]")
@click.option("--out", type=FOLDER, default=Path("report"), show_default=True, help="Where the report goes.")
@click.option("--baseline", type=FILE, help="An older report.json.")
@click.option("--fresh", is_flag=True, help="Do every step anew, but for the model.")
@click.option("--json", "as_json", is_flag=True, help="Print the report's JSON.")
def run_command(
    names: tuple[str, ...],
    options: ModelOptions,
    serve_python: str | None,
    scenarios: Path | None,
    root: Path | None,
    out: Path,
    baseline: Path | None,
    fresh: bool,
    as_json: bool,
) -> int:
    """Run scenarios side by side, with the upstreams as released and with the series, and report."""
    need_libraries()
    from patchset.project.project import find_root
    from regression.effects.machine import hardware, probe
    from regression.figures.verdict import EXIT_CODE, Verdict
    from regression.report.compare import compare
    from regression.report.read import read_report
    from regression.report.render import write
    from regression.session.bench import Bench
    from regression.session.session import run_session
    from regression.values.result import ScenarioResult
    from regression.values.scenario import read_folder
    from toolkit.console import Terminal, console, escape, print_json
    from toolkit.process import interrupt_on_termination

    interrupt_on_termination()
    root = root.resolve() if root is not None else find_root(Path.cwd())
    chosen, defects = read_folder(scenarios or root / "tests/e2e", names)
    old = read_report(baseline) if baseline is not None else None
    cache = options.step_cache()
    if fresh:
        cache.forget("quantize", "serve", "http", "convert")
    quantize, serve = probe("quantize", options.quantize_python), probe("serve", serve_python)
    machine = hardware()
    # Two large models may not fit into memory side by side.
    parallel = 2 if machine.cores > 1 and (options.model is None or machine.gpus) else 1
    bench = Bench(cache, Terminal(), quantize, serve, machine, parallel)
    fixture = options.maker(cache, quantize).fixture(options.model, options.captions, options.steps, options.seed)
    terminal = console(stderr=as_json)
    colours = {Verdict.PASS: "green", Verdict.REGRESSION: "bold red", Verdict.INCONCLUSIVE: "yellow"}

    def show(result: ScenarioResult) -> None:
        verdict = result.verdict
        why = f"  {escape(result.reason)}" if verdict is not Verdict.PASS else ""
        terminal.print(f"[{colours.get(verdict, 'dim')}]{verdict:<12}[/] {escape(result.name)}{why}")

    session = run_session(root, bench, fixture, chosen, defects, show)
    report = session.as_json()
    if old is not None and names:
        # A scenario that was not chosen is not gone.
        ran = {item.name for item in session.scenarios}
        old = {**old, "scenarios": [item for item in old["scenarios"] if item["name"] in ran]}
    lines = compare(old, report).lines if old is not None else None
    files = write(report, out, lines)
    if as_json:
        print_json(report)
    for line in lines or ():
        terminal.print(f"  baseline: {escape(line)}")
    terminal.print(f"{session.verdict}: {escape(str(files[-1]))}")
    return EXIT_CODE[session.verdict]
