"""The figures of kernels.py as a table, held against the goals, and as a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Whole layers, from the model's activations to the output.
WHOLE = ("bf16", "CUTLASS", "Triton", "ours", "ours, no CUTLASS")
# What the whole is made of: int8 in, output out; and the quantization.
PARTS = ("product: CUTLASS", "product: Triton", "product: ours", "quantize: vLLM", "quantize: ours")


def geometric(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def table(figures: dict[str, Any]) -> str:
    """Return the figures as text: microseconds, and how near the floor ours is."""
    columns = (*WHOLE, *PARTS)
    head = " ".join(f"{name:>18}" for name in ("floor", "floor/ours", *columns))
    lines = [f"{figures['gpu']}: {figures['bytes/s'] / 1e12:.2f} TB/s, {figures['operations/s'] / 1e12:.0f} TOPS", ""]
    lines += ["microseconds; the whole layer, then its parts", f"{'layer':<11} {'m':>6} {head}"]
    for row in figures["rows"]:
        times = row["times"]
        cells = [f"{row['floor'] * 1e6:.1f}", f"{row['floor'] / times['ours']:.0%}"]
        cells += [f"{times[name] * 1e6:.1f}" if name in times else "-" for name in columns]
        lines.append(f"{row['layer']:<11} {row['m']:>6} " + " ".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def goals(figures: dict[str, Any]) -> str:
    """Return each goal, what was reached, and where it was missed most."""

    def line(what: str, values: dict[str, float], limit: float, *, least: bool, worst_too: bool = True) -> list[str]:
        mean = geometric(list(values.values()))
        worst = min(values, key=values.__getitem__) if least else max(values, key=values.__getitem__)
        missed = [name for name, value in values.items() if (value < limit if least else value > limit)]
        text = f"{what}: mean {mean:.2f}, worst {values[worst]:.2f} ({worst})"
        if worst_too:
            text += f"; beyond {limit}: {len(missed)} of {len(values)}"
        return [text, *(f"    {name}: {values[name]:.2f}" for name in missed if worst_too)]

    def ratio(over: str, under: str, start: int = 1) -> dict[str, float]:
        return {
            f"{row['layer']} m={row['m']}": row["times"][over] / row["times"][under]
            for row in figures["rows"]
            if over in row["times"] and under in row["times"] and row["m"] >= start
        }

    out = line("our quantization / vLLM's plain one", ratio("quantize: ours", "quantize: vLLM"), 1.05, least=False)
    out += line("vLLM's Triton product / ours", ratio("product: Triton", "product: ours"), 1.0, least=True)
    cutlass = ratio("product: ours", "product: CUTLASS")
    if cutlass:
        out += line("our product / CUTLASS's", cutlass, 1.15, least=False, worst_too=False)
    out += line("whole layer, bf16 / ours, m >= 16", ratio("bf16", "ours", 16), 1.0, least=True)
    out += line("the same without CUTLASS", ratio("bf16", "ours, no CUTLASS", 16), 1.0, least=True)
    # The quantization is part of the kernel ahead.
    out += line("in a compiled model: bf16 / our product", ratio("bf16", "product: ours"), 1.0, least=True)
    return "\n".join(out)


def plot(figures: dict[str, Any], file: Path) -> None:
    """Draw each layer's times over the floor, logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"bf16": "#777777", "CUTLASS": "#1f77b4", "Triton": "#d62728", "ours": "#2ca02c"}
    colours["ours, no CUTLASS"] = "#98df8a"
    labels = {"Triton": "vLLM's Triton int8", "CUTLASS": "vLLM's CUTLASS int8", "bf16": "bf16 F.linear"}
    canvas, axes = plt.subplots(2, 4, figsize=(16, 8), sharex=True, sharey=True, layout="constrained")
    sizes = {row["layer"]: (row["k"], row["n"]) for row in figures["rows"]}
    for axis, (name, (k, n)) in zip(axes.flat, sizes.items(), strict=True):
        rows = [row for row in figures["rows"] if row["layer"] == name]
        for contender in WHOLE:
            points = [(row["m"], row["floor"] / row["times"][contender]) for row in rows if contender in row["times"]]
            if points:
                label = labels.get(contender, contender)
                axis.plot(*zip(*points, strict=True), ".-", color=colours[contender], label=label, linewidth=1.4)
        axis.set_title(f"{name}: K = {k}, N = {n}", fontsize=10)
        axis.set_xscale("log", base=2)
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("rows (tokens)")
    for axis in axes[:, 0]:
        axis.set_ylabel("share of the floor (int8)")
    axes[0, 0].legend(fontsize=8, loc="upper left")
    canvas.suptitle(f"Whole linear layers of Qwen2.5-VL on {figures['gpu']}: floor / time, higher is better")
    canvas.savefig(file, dpi=100)
