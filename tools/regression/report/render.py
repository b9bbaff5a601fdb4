"""A session's JSON as Markdown and as HTML, which hold what the JSON holds and nothing else; and the three as files."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from regression.figures import metrics
from regression.report.plots import Bar, linear, logarithmic
from regression.values.result import ReportJson
from toolkit.files import replace_file

_LABELS = {"first token": "time to first token", "per token": "time per token", "throughput": "throughput"}


def write(report: ReportJson, folder: Path, difference: list[str] | None) -> list[Path]:
    """Write `report.json`, `report.md` and `report.html` into `folder`, each in one step; return the files."""
    texts = {
        "report.json": json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "report.md": markdown(report, difference),
        "report.html": html(report, difference),
    }
    for name, text in texts.items():
        replace_file(folder / name, text)
    return [folder / name for name in texts]


def markdown(report: ReportJson, difference: list[str] | None = None) -> str:
    """Return the report as Markdown."""
    return _render("report.md.j2", report, difference)


def html(report: ReportJson, difference: list[str] | None = None) -> str:
    """Return the report as one HTML file, with its plots and images in it."""
    plots = {item["name"]: _plots(item) for item in report["scenarios"]}
    return _render("report.html.j2", report, difference, autoescape=True, plots=plots)


def _render(
    name: str, report: ReportJson, difference: list[str] | None, *, autoescape: bool = False, **more: Any
) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # Markdown is no markup that a browser runs; the cells escape what would break a table.
        autoescape=autoescape,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"figure": _figure, "size": _size, "spread": spread, "cell": _cell, "kernels": kernels}
    counts = Counter(item["verdict"] for item in report["scenarios"])
    columns = [metric for metric in metrics.METRICS if metric.title]
    values = {"report": report, "counts": counts, "labels": _LABELS, "columns": columns, "difference": difference}
    return environment.get_template(name).render(values, **more)


def spread(values: list[float], unit: str = "s") -> str:
    """Return the median and the range of repeated measurements."""
    middle = statistics.median(values)
    if unit == "s":
        return f"{middle * 1e3:.1f} ms ({min(values) * 1e3:.1f} to {max(values) * 1e3:.1f})"
    return f"{middle:.0f} {unit} ({min(values):.0f} to {max(values):.0f})"


def kernels(contract: dict[str, Any]) -> list[tuple[str, int]]:
    """Return each method and kernel that vLLM chose, with the number of layers that have it."""
    return sorted(Counter(contract.get("layers", {}).values()).items())


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _size(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / 2**30:.2f} GiB" if value >= 2**28 else f"{value / 2**20:.1f} MiB"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _plots(item: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the titles and plots of a scenario, as far as it has figures for them."""
    plots = []
    if item["fidelity"]:
        note = "{kl_max:.2g}, mean {kl_mean:.2g}".format
        rows = [Bar("{side} / {reference}".format(**one), one["kl_max"], note=note(**one)) for one in item["fidelity"]]
        plots.append(("Largest divergence of a token, nats (side / reference)", logarithmic("divergence", rows)))
    if item["tasks"]:
        first = item["tasks"][0]
        rows = [Bar("unquantized", first["reference_right"] / first["n"])]
        rows += [Bar(one["side"], one["right"] / one["n"], one["low"], one["high"]) for one in item["tasks"]]
        plots.append(("Share of right answers, with 95 % intervals", linear("right answers", rows, top=1.0)))
    timed = [side for side in item["sides"] if side["timings"]]
    for key, label in _LABELS.items():
        factor, unit, suffix = (1.0, "", ", tokens/s") if key == "throughput" else (1e3, " ms", "")
        values = {side["side"]: [value * factor for value in side["timings"][key]] for side in timed}
        if rows := [Bar(name, statistics.median(row), min(row), max(row)) for name, row in values.items()]:
            plots.append((f"{label.capitalize()}{suffix}", linear(label, rows, unit=unit)))
    return plots
