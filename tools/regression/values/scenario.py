"""Scenarios and planted defects: TOML files of one folder, parsed into frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from checkpoint.formats import QUANTIZE_NAMES
from regression.figures.metrics import limited
from toolkit.errors import UsageError
from toolkit.finding import Finding, refuse
from toolkit.tables import Table, read_table

# Those of `checkpoint quantize`; `int8_mixed` has 4-bit weights in the MLPs beside.
FORMATS = ("none", *QUANTIZE_NAMES, "int8_mixed")
KV = ("auto", "fp8")
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")
NEEDS = ("amx", "avx512", "sm_100", "vnni")
OUTCOMES = ("served", "refused")
# Keys of earlier versions.
RENAMED = {"asleep": "dead-channel"}

Value = TypeVar("Value")


@dataclass(frozen=True)
class Edit:
    """A replacement of text in one file of an upstream; a planted defect consists of them."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Side:
    """One way to serve the checkpoint.

    `vllm` is `unpatched` or `patched`; `without` leaves one patch out of it. A side whose outcome is `refused` has a
    `message`, a part of the error; one that is served may have a `kernel`, which some layer has to get. `convert`
    serves the checkpoint converted to compressed-tensors, `http` through the server, `repeat` twice, for the noise
    floor.
    """

    name: str
    vllm: str
    outcome: str
    message: str
    kernel: str | None
    without: str | None
    convert: bool
    http: bool
    repeat: bool


@dataclass(frozen=True)
class Distance:
    """The limits of a side's figures against a reference: distances from a metric's ideal, by the metric's key.

    `fake_quant_times` limits the mean divergence to so many times that of fake quantization from the same reference.
    """

    side: str
    reference: str
    limits: Mapping[str, float]
    fake_quant_times: float | None = None


@dataclass(frozen=True)
class Scenario:
    """One file of `tests/e2e/`. `task_loss` is the share of items that quantization may cost."""

    file: Path
    name: str
    title: str
    device: str
    needs: tuple[str, ...]
    format: str
    kv: str
    dtype: str
    modelopt: str
    vllm: str
    without_modelopt: str | None
    quantize_refused: str | None
    export_refused: str | None
    whole: bool
    dead_channel: bool
    foldable: bool
    items: int
    timeout: int
    timings: bool
    compiled: bool
    task_loss: float | None
    sides: tuple[Side, ...]
    distances: tuple[Distance, ...]


@dataclass(frozen=True)
class PlantedDefect:
    """A defect that is planted into a scenario, whose verdict then has to be regression."""

    file: Path
    name: str
    title: str
    scenario: str
    edits: tuple[Edit, ...]
    vision: bool


def read_folder(folder: Path, names: Sequence[str] = ()) -> tuple[tuple[Scenario, ...], tuple[PlantedDefect, ...]]:
    """Return the scenarios in `folder`, and the defects in `folder/defects`; of `names` only, where there are any.

    Raises:
        UsageError: there is no scenario, or none of a name.
        SeriesError: files break their format; every place is named.
    """
    findings: list[Finding] = []
    known = _parse(folder, findings, _scenario)
    planted = _parse(folder / "defects", findings, _defect)
    for item in planted.values():
        if item.scenario not in known and not findings:
            findings.append(Finding(item.file, f"there is no scenario {item.scenario!r}; known: {', '.join(known)}"))
    refuse(findings, str(folder))
    if not known:
        raise UsageError(f"{folder} holds no scenario", remedy="name a folder of .toml files with --scenarios")
    for name in names:
        if name not in known and name not in planted:
            near = get_close_matches(name, [*known, *planted], n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"there is no scenario {name!r}", remedy=f"{meant}known: {', '.join([*known, *planted])}")
    return (
        tuple(item for name, item in known.items() if not names or name in names),
        tuple(item for name, item in planted.items() if not names or name in names),
    )


def read_controls(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the negative controls of a folder: by patch, the scenarios that leave it out, and why there is none.

    The reasons stand in `folder/uncontrolled/PATCH.toml`.

    Raises:
        SeriesError: a file breaks its format.
    """
    scenarios, _ = read_folder(folder)
    controls: dict[str, list[str]] = {}
    for scenario in scenarios:
        left_out = {side.without for side in scenario.sides} | {scenario.without_modelopt}
        for name in sorted(name for name in left_out if name is not None):
            controls.setdefault(name, []).append(scenario.name)
    findings: list[Finding] = []
    reasons = _parse(folder / "uncontrolled", findings, lambda table: table.text("reason") or "")
    for name in sorted(reasons.keys() & controls):
        file = folder / f"uncontrolled/{name}.toml"
        findings.append(Finding(file, f"says why there is no control, but {controls[name][0]} is one"))
    refuse(findings, str(folder))
    return controls, reasons


def _parse(folder: Path, findings: list[Finding], parse: Callable[[Table], Value]) -> dict[str, Value]:
    """Return the values of a folder's files, by name, without those that add a breach of the format to `findings`."""
    values = {}
    for file in sorted(folder.glob("*.toml")):
        before, table = len(findings), read_table(file, findings)
        if table is not None:
            value = parse(table)
            table.finish()
            if len(findings) == before:
                values[file.stem] = value
    return values


def _defect(table: Table) -> PlantedDefect:
    edits = []
    for item in table.tables("edit"):
        edits.append(Edit(item.text("file") or "", item.text("old") or "", item.text("new") or ""))
        item.finish()
    defect = PlantedDefect(
        file=table.file,
        name=table.file.stem,
        title=table.text("title") or "",
        scenario=table.text("scenario") or "",
        edits=tuple(edits),
        vision=table.flag("vision"),
    )
    if not defect.edits and not defect.vision:
        table.findings.append(Finding(table.file, "plants nothing: there is neither an [[edit]] nor vision = true"))
    return defect


def _scenario(table: Table) -> Scenario:
    sides = tuple(_side(item) for item in table.tables("side"))
    scenario = Scenario(
        file=table.file,
        name=table.file.stem,
        title=table.text("title") or "",
        device=table.choice("device", DEVICES, "cpu"),
        needs=_needs(table),
        format=table.choice("format", FORMATS),
        kv=table.choice("kv", KV, "auto"),
        dtype=table.choice("dtype", DTYPES),
        modelopt=table.text("modelopt", required=False) or "modelopt",
        vllm=table.text("vllm", required=False) or "vllm",
        without_modelopt=table.text("without-modelopt", required=False),
        quantize_refused=table.text("quantize-refused", required=False),
        export_refused=table.text("export-refused", required=False),
        whole=table.flag("whole"),
        dead_channel=table.flag("dead-channel"),
        foldable=table.flag("foldable"),
        items=table.integer("items"),
        timeout=table.integer("timeout") or 600,
        timings=table.flag("timings"),
        compiled=table.flag("compiled"),
        task_loss=table.number("task-loss", 0.0) if "task-loss" in table.values else None,
        sides=sides,
        distances=tuple(_distance(item, sides) for item in table.tables("distance")),
    )
    if not sides and scenario.quantize_refused is None and scenario.export_refused is None:
        table.findings.append(Finding(table.file, "has no [[side]]: nothing would be served"))
    for name in sorted({side.name for side in sides if [item.name for item in sides].count(side.name) > 1}):
        table.findings.append(Finding(table.file, f"two sides are called {name!r}"))
    for old in RENAMED.keys() & table.values:
        table.flag(old)
        table.add(old, f"`{old}` is now `{RENAMED[old]}`")
    return scenario


def _needs(table: Table) -> tuple[str, ...]:
    needs = table.strings("needs")
    for name in needs:
        if name not in NEEDS:
            table.add("needs", f"needs must be of {', '.join(NEEDS)}, not {name!r}")
    return needs


def _side(table: Table) -> Side:
    side = Side(
        name=table.text("name") or "",
        vllm=table.choice("vllm", ("unpatched", "patched")),
        outcome=table.choice("outcome", OUTCOMES, "served"),
        message=table.text("message", required=False) or "",
        kernel=table.text("kernel", required=False),
        without=table.text("without", required=False),
        convert=table.flag("convert"),
        http=table.flag("http"),
        repeat=table.flag("repeat"),
    )
    if side.outcome == "refused" and not side.message:
        table.add("outcome", "a side that is refused needs `message`, a part of the error")
    if side.without and side.vllm == "unpatched":
        table.add("without", "the unpatched side has no patch to leave out")
    table.finish()
    return side


def _distance(table: Table, sides: tuple[Side, ...]) -> Distance:
    known = [side.name for side in sides if side.outcome == "served"]
    limits = {}
    for metric, limit in limited():
        if limit.key in table.values:
            value = table.number(limit.key, 0.0)
            limits[metric.key] = metric.distance(value) if limit.of_value else value
    times = table.number("fake-quant-times", 0.0) if "fake-quant-times" in table.values else None
    distance = Distance(table.text("side") or "", table.text("reference") or "", limits, times)
    if distance.side and distance.side not in known:
        table.add("side", f"no side that is served is called {distance.side!r}; there are {', '.join(known) or 'none'}")
    if distance.reference and distance.reference not in (*known, "fake-quant", "unquantized"):
        table.add("reference", f"must be fake-quant, unquantized or one of {', '.join(known)}")
    table.finish()
    return distance
