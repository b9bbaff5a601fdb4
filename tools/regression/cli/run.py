"""`regression run`: quantize, export, serve, compare, report."""

from __future__ import annotations

from pathlib import Path

import click

from regression.cli.shared import FOLDER, make_kit, model_options, need_libraries

EPILOG = """\b
Examples:
  regression run                              every scenario in tests/e2e
  regression run int8-smoothquant --out out/
  regression run --model qwen/ --captions coco.txt
  regression run --fresh                      forget what was finished
\b
Exit code 13 is a regression, 14 inconclusive; docs/e2e.md has more."""


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@model_options
@click.option("--serve-python", metavar="PYTHON", help="With vLLM.  [default: PATCHSET_SERVE_PYTHON]")
@click.option("--scenarios", type=FOLDER, help="Scenario files.  [default: tests/e2e]")
@click.option("--root", type=FOLDER, help="The project, with patches/ in it.  [default: from here upwards]")
@click.option("--out", type=FOLDER, default=Path("report"), show_default=True, help="Where the report goes.")
@click.option("--baseline", type=click.Path(dir_okay=False, path_type=Path), help="An older report.json.")
@click.option("--fresh", is_flag=True, help="Do every step anew, but for the model.")
@click.option("--json", "as_json", is_flag=True, help="Print the report's JSON.")
def run_command(
    names: tuple[str, ...],
    quantize_python: str | None,
    serve_python: str | None,
    model: Path | None,
    captions: Path | None,
    steps: int | None,
    seed: int,
    cache: Path | None,
    scenarios: Path | None,
    root: Path | None,
    out: Path,
    baseline: Path | None,
    fresh: bool,
    as_json: bool,
) -> int:
    """Run scenarios side by side, with the upstreams as released and with the series, and report."""
    from patchset.project.project import find_root
    from regression.effects.machine import hardware, probe
    from regression.effects.process import interrupt_on_termination
    from regression.effects.stages import Stages, default_folder
    from regression.figures.verdict import EXIT_CODE, Verdict
    from regression.model.folder import read_folder
    from regression.model.result import ScenarioResult
    from regression.report.compare import compare, read_report
    from regression.report.write import write
    from regression.stages.bench import Bench
    from regression.stages.session import run_session
    from toolkit.console import Terminal, console, escape, print_json

    need_libraries()
    interrupt_on_termination()
    root = root.resolve() if root is not None else find_root(Path.cwd())
    wanted, defects = read_folder(scenarios or root / "tests/e2e", names)
    old = read_report(baseline) if baseline is not None else None
    stages = Stages(cache or default_folder())
    if fresh:
        stages.forget("quantize", "serve", "http", "convert")
    quantize, serve = probe("quantize", quantize_python), probe("serve", serve_python)
    machine = hardware()
    # Two large models may not fit into memory side by side.
    parallel = 2 if machine.cores > 1 and (model is None or machine.gpus) else 1
    bench = Bench(stages, Terminal(), quantize, serve, machine, parallel)
    kit = make_kit(stages, quantize, model, captions, steps, seed)
    tell = console(stderr=as_json)
    colours = {Verdict.PASS: "green", Verdict.REGRESSION: "bold red", Verdict.INCONCLUSIVE: "yellow"}

    def done(result: ScenarioResult) -> None:
        verdict = result.verdict
        why = f"  {escape(result.reason)}" if verdict is not Verdict.PASS else ""
        tell.print(f"[{colours.get(verdict, 'dim')}]{verdict.value:<12}[/] {escape(result.name)}{why}")

    session = run_session(root, bench, kit, wanted, defects, done)
    report = session.as_json()
    if old is not None and names:
        # What was not asked for is not gone.
        ran = {item.name for item in session.scenarios}
        old = {**old, "scenarios": [item for item in old["scenarios"] if item["name"] in ran]}
    difference = compare(old, report) if old is not None else None
    files = write(session, out, difference.lines if difference is not None else None)
    if as_json:
        print_json(report)
    for line in difference.lines if difference is not None else ():
        tell.print(f"  baseline: {escape(line)}")
    tell.print(f"{session.verdict.value}: {escape(str(files[-1]))}")
    return EXIT_CODE[session.verdict]
