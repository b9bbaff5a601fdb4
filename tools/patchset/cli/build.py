"""`patchset build` and `patchset verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from patchset.cli.context import Context
from patchset.cli.options import common, offline_option, print_reports, source_option
from patchset.workflow.build import BuildOptions, BuildReport, Route, build
from patchset.workflow.verify import VerifyReport, verify_installed, verify_wheel
from toolkit.console import Terminal, console, escape
from toolkit.errors import UsageError, VerifyFailed
from toolkit.text import count_of


@click.command("build")
@click.option(
    "--route",
    type=click.Choice(["auto", "overlay", "source"]),
    default="auto",
    show_default=True,
    help="overlay grafts the series onto the official wheel, source compiles the patched tree; auto overlays "
    "unless a patch changes what is compiled.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for the wheels.  [default: dist/ of the project]",
)
@click.option("--platform", help="The wheel's platform tag, or its end (aarch64).  [default: this machine]")
@click.option("--variant", help="The build variant: cuda or cpu for vLLM; empty from source.  [default: the first]")
@source_option("The source of a base, as for apply.")
@click.option("--cuda-arch", help="Source build: TORCH_CUDA_ARCH_LIST, such as 12.0 or 9.0;12.0.")
@click.option("--jobs", type=click.IntRange(1), help="Source build: compile jobs at once (MAX_JOBS).")
@offline_option
@common(
    """  patchset build
  patchset build vllm@v0.30.0 --variant cpu
  patchset build vllm --platform aarch64 --out wheels
  patchset build vllm --route source --cuda-arch 12.0 --jobs 8"""
)
@click.pass_obj
def build_command(
    context: Context,
    specs: tuple[str, ...],
    route: Route,
    out: Path | None,
    platform: str | None,
    variant: str | None,
    source: str,
    cuda_arch: str | None,
    jobs: int | None,
    offline: bool,
    as_json: bool,
) -> int:
    """Build the patched wheels from the series, independently of what extern/ holds.

    An overlay is the official wheel, its sha256 checked, in which only the files that the series changes are
    replaced. The version becomes VERSION+patchset.HASH, and the wheel records its base, series and patches.
    """
    options = BuildOptions(
        route=route,
        out=out if out is not None else context.find_root() / "dist",
        platform=platform,
        variant=variant,
        cuda_arch=cuda_arch,
        jobs=jobs,
    )
    reports = [build(workspace, options) for workspace in context.workspaces(specs, source, offline)]
    return print_reports(reports, _print_build, as_json)


def _print_build(item: BuildReport) -> None:
    out = console()
    wheel = Path(item.wheel)
    shown = wheel.relative_to(Path.cwd()) if wheel.is_relative_to(Path.cwd()) else wheel
    out.print(f"[bold]{escape(f'{item.component} {item.base}'.strip())}[/]: {item.route} ({escape(item.why)})")
    out.print(f"  [green]{escape(str(shown))}[/]")
    out.print(f"  sha256   {item.sha256}")
    if item.replaced:
        out.print(f"  [yellow]replaced[/] another wheel of that name, sha256 {item.replaced}; --out keeps both")
    if item.official:
        out.print(f"  official {escape(item.official)}, {count_of(len(item.changed), 'file')} replaced")
    for name in item.patches:
        out.print(f"  [green]patch[/]    {escape(name)}")
    for left in item.left_out:
        out.print(f"  [yellow]left out[/] {escape(left.name)}: {escape(left.reason)}")


@click.command("verify")
@click.argument("wheels", nargs=-1, type=click.Path(path_type=Path), metavar="[WHEEL]...")
@click.option("--installed", is_flag=True, help="Verify the distributions in an environment.")
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    help="The environment's Python, for --installed.  [default: the one that runs this tool]",
)
@offline_option
@common(
    """  patchset verify dist/*.whl
  patchset verify --installed --python .venv/bin/python""",
    specs=False,
)
@click.pass_obj
def verify_command(
    context: Context, wheels: tuple[Path, ...], installed: bool, python: Path | None, offline: bool, as_json: bool
) -> int:
    """Verify wheels, or an environment, against the series: base, patches, and every byte.

    Every file is as RECORD lists it. The patched files are those of the series, all others those of the official
    wheel. Exit code 12 if a check fails.
    """
    if not wheels and not installed:
        raise UsageError("nothing to verify", remedy="name wheels, or give --installed")
    project = context.project()
    reports = [verify_wheel(project, wheel, Terminal(), offline=offline) for wheel in wheels]
    if installed:
        reports += verify_installed(project, python or Path(sys.executable), Terminal(), offline=offline)
    print_reports(reports, _print_verification, as_json)
    return 0 if all(report.good for report in reports) else VerifyFailed.exit_code


def _print_verification(item: VerifyReport) -> None:
    out = console()
    verdict = "[green]verified[/]" if item.good else "[red]not verified[/]"
    identity = item.identity
    out.print(f"[bold]{escape(item.title)}[/]: {verdict} ({identity.route} of {identity.component} {identity.base})")
    marks = {True: "[green]good[/]   ", False: "[red]wrong[/]  ", None: "[yellow]unknown[/]"}
    for check in item.checks:
        detail = escape(check.detail).replace("\n", "\n          ")
        out.print(f"  {marks[check.good]} {check.name}: {detail}")
    for left in identity.left_out:
        out.print(f"  [yellow]left out[/] {escape(left.name)}: {escape(left.reason)}")
