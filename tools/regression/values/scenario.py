"""A scenario: one checkpoint, quantized, served from several sides, and what is expected of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.finding import Finding
from toolkit.tables import Table, read_table

FORMATS = ("none", "int8_sq", "int8_wo", "int8_mixed", "fp8")
KV = ("auto", "fp8")
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")
NEEDS = ("amx", "avx512", "sm_100", "vnni")
OUTCOMES = ("served", "refused")


@dataclass(frozen=True)
class Edit:
    """A replacement of text in one file of an upstream; a planted defect is made of them."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Side:
    """One way to serve the checkpoint.

    `vllm` is `unpatched` or `patched`; `without` leaves one patch out of it. A side that is to be refused says so
    with `message`, a part of the error; one that is served may say which `kernel` some layer has to get. `convert`
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
    """How far a side may be from a reference: divergences in nats, the perplexity ratio's distance from 1.

    `fake_quant_times` limits the mean divergence to so many times that of fake quantization from the same reference.
    """

    side: str
    reference: str
    kl_mean: float
    kl_max: float
    perplexity: float
    top1: float
    fake_quant_times: float


@dataclass(frozen=True)
class Scenario:
    """What one file of `tests/e2e/` says. `task_loss` is the share of items that quantization may cost."""

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
    asleep: bool
    foldable: bool
    items: int
    timeout: int
    timings: bool
    compiled: bool
    task_loss: float | None
    sides: tuple[Side, ...]
    distances: tuple[Distance, ...]


@dataclass(frozen=True)
class Planted:
    """A defect that is planted into a scenario, whose verdict then has to be regression."""

    file: Path
    name: str
    title: str
    scenario: str
    edits: tuple[Edit, ...]
    vision: bool


def parse_defect(file: Path, findings: list[Finding]) -> Planted | None:
    """Read a defect: edits of the patched vLLM, or `vision = true`; findings as with `parse_scenario`."""
    table = read_table(file, findings)
    if table is None:
        return None
    before = len(findings)
    edits = []
    for item in table.tables("edit"):
        edits.append(Edit(item.text("file") or "", item.text("old") or "", item.text("new") or ""))
        item.finish()
    made = Planted(
        file=file,
        name=file.stem,
        title=table.text("title") or "",
        scenario=table.text("scenario") or "",
        edits=tuple(edits),
        vision=table.flag("vision"),
    )
    if not made.edits and not made.vision:
        findings.append(Finding(file, "plants nothing: there is neither an [[edit]] nor vision = true"))
    table.finish()
    return made if len(findings) == before else None


def parse_scenario(file: Path, findings: list[Finding]) -> Scenario | None:
    """Read a scenario; what is wrong with it is added to `findings`, and then there may be none."""
    table = read_table(file, findings)
    if table is None:
        return None
    before = len(findings)
    sides = tuple(_side(item) for item in table.tables("side"))
    made = Scenario(
        file=file,
        name=file.stem,
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
        asleep=table.flag("asleep"),
        foldable=table.flag("foldable"),
        items=table.integer("items"),
        timeout=table.integer("timeout") or 600,
        timings=table.flag("timings"),
        compiled=table.flag("compiled"),
        task_loss=table.number("task-loss", 0.0) if "task-loss" in table.values else None,
        sides=sides,
        distances=tuple(_distance(item, sides) for item in table.tables("distance")),
    )
    if not sides and made.quantize_refused is None and made.export_refused is None:
        findings.append(Finding(file, "has no [[side]]: nothing would be served"))
    for name in sorted({side.name for side in sides if [item.name for item in sides].count(side.name) > 1}):
        findings.append(Finding(file, f"two sides are called {name!r}"))
    table.finish()
    return made if len(findings) == before else None


def _needs(table: Table) -> tuple[str, ...]:
    wanted = table.strings("needs")
    for name in wanted:
        if name not in NEEDS:
            table.add("needs", f"needs must be of {', '.join(NEEDS)}, not {name!r}")
    return wanted


def _side(table: Table) -> Side:
    made = Side(
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
    if made.outcome == "refused" and not made.message:
        table.add("outcome", "a side that is refused needs `message`, a part of the error")
    if made.without and made.vllm == "unpatched":
        table.add("without", "the unpatched side has no patch to leave out")
    table.finish()
    return made


def _distance(table: Table, sides: tuple[Side, ...]) -> Distance:
    known = [side.name for side in sides if side.outcome == "served"]
    made = Distance(
        side=table.text("side") or "",
        reference=table.text("reference") or "",
        kl_mean=table.number("kl-mean", float("inf")),
        kl_max=table.number("kl-max", float("inf")),
        perplexity=table.number("perplexity", float("inf")),
        top1=table.number("top1", 0.0),
        fake_quant_times=table.number("fake-quant-times", float("inf")),
    )
    if made.side and made.side not in known:
        table.add("side", f"no side that is served is called {made.side!r}; there are {', '.join(known) or 'none'}")
    if made.reference and made.reference not in (*known, "fake-quant", "unquantized"):
        table.add("reference", f"must be fake-quant, unquantized or one of {', '.join(known)}")
    table.finish()
    return made
