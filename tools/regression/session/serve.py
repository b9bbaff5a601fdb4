"""Serving a checkpoint with vLLM: its engine, or its HTTP server with a real client."""

from __future__ import annotations

import inspect
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from checkpoint.convert.checkpoint import convert
from regression.effects.cache import digest
from regression.figures.verdict import ScenarioCheck, holds
from regression.session.bench import Bench, StepOutput, Variant, WorkerStep
from regression.session.fixture import Fixture
from regression.values.result import SideResult
from regression.values.scenario import Scenario, Side

LENGTH = 512  # tokens of context
CACHE = 1 << 28  # bytes of KV cache: enough for a few dozen of those
# Threads are not bound to cores, which several processes would all bind to the same.
COMMON = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
# One process for the engine, so that its errors are in its own log.
ENGINE = {**COMMON, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def serve_step(
    bench: Bench,
    fixture: Fixture,
    scenario: Scenario,
    checkpoint: Path,
    variant: Variant,
    *,
    run: int = 1,
    refusal: str | None = None,
    timed: bool = True,
) -> WorkerStep:
    """Return the step that serves a checkpoint with the engine and sends it the fixture's questions.

    `run` counts repetitions; `timed`: times are measured where the scenario has timings.
    """
    job = {
        "dtype": scenario.dtype,
        "kv": "auto",
        "limit": scenario.items or None,
        "length": LENGTH,
        "cache": CACHE,
        "device": scenario.device,
        "timings": scenario.timings and timed,
        "compiled": scenario.compiled,
    }
    return bench.step(
        "vllm",
        variant,
        "serve",
        kind="serve",
        title=f"serve {scenario.name} {variant.title}" + (f", run {run}" if run > 1 else ""),
        **_served(bench, fixture, checkpoint, job, run=run),
        environment=ENGINE,
        timeout=scenario.timeout,
        refusal=refusal,
        timed=scenario.timings and timed,
    )


def http_step(bench: Bench, fixture: Fixture, scenario: Scenario, checkpoint: Path, variant: Variant) -> WorkerStep:
    """Return the step that starts `vllm serve`, sends it requests with the openai client, and ends it."""
    options = ["--dtype", scenario.dtype, "--max-model-len", str(LENGTH), "--kv-cache-memory-bytes", str(CACHE)]
    job = {"server": [*_server(bench)], "options": options, "timeout": scenario.timeout}
    return bench.step(
        "vllm",
        variant,
        *("serve_http", "http_client"),
        kind="http",
        title=f"serve {scenario.name} over HTTP {variant.title}",
        **_served(bench, fixture, checkpoint, job),
        environment=COMMON,
        timeout=scenario.timeout,
    )


def _served(bench: Bench, fixture: Fixture, checkpoint: Path, job: dict[str, Any], **more: object) -> dict[str, Any]:
    """Return the job of a step that serves a checkpoint, and the inputs that it depends on, `more` among them."""
    digests = {"checkpoint": bench.digest(checkpoint), "items": bench.digest(*fixture.files)}
    paths = {"model": str(checkpoint), "items": str(fixture.items)}
    return {"inputs": {**digests, "job": job, **more}, "job": {**job, **paths}}


def _server(bench: Bench) -> tuple[str, ...]:
    """Return the module and first arguments of `vllm serve`.

    The CPU build is a distribution of another name, whose `vllm` command cannot find its own version and dies; the
    server that it starts is a module, too.
    """
    if "vllm" in bench.serve.versions:
        return "vllm.entrypoints.cli.main", "serve"
    return "vllm.entrypoints.openai.api_server", "--model"


def converted(bench: Bench, checkpoint: Path) -> Path:
    """Return a checkpoint as compressed-tensors.

    Raises:
        SeriesError: a layer cannot be folded.
    """
    code = Path(inspect.getfile(convert)).parent
    inputs = {"checkpoint": bench.digest(checkpoint), "code": digest(code)}

    def work(folder: Path) -> dict[str, Any]:
        shutil.rmtree(folder / "converted", ignore_errors=True)
        return asdict(convert(checkpoint, folder / "converted", bench.reporter))

    bench.cache.run("convert", inputs, work)
    return bench.cache.path("convert", inputs) / "converted"


def check_side(side: Side, output: StepOutput) -> list[ScenarioCheck]:
    """Return the checks that a side was served or refused as expected, and with the expected kernel."""
    error = output.error
    if side.outcome == "refused":
        right = error is not None and side.message in str(output.answer.get("tail", ""))
        checks = [holds(f"{side.name}: refused", right, error or "served", f"refused: {side.message}")]
    else:
        checks = [holds(f"{side.name}: served", error is None, error or "yes", "yes")]
    if side.kernel is not None and error is None:
        kinds = sorted({kind for kind in output.answer["contract"]["layers"].values() if "Kernel" in kind})
        chosen = any(side.kernel in kind for kind in kinds)
        checks.append(holds(f"{side.name}: kernel", chosen, ", ".join(kinds) or "none", side.kernel))
    return checks


def side_result(side: Side, answer: dict[str, Any]) -> SideResult:
    """Return a side as the report has it."""
    vllm = f"without {side.without}" if side.without else side.vllm
    return SideResult(
        side=side.name,
        vllm=vllm + (", converted" if side.convert else "") + (", over HTTP" if side.http else ""),
        outcome="refused" if "error" in answer else "served",
        error=str(answer.get("error", "")),
        contract=answer.get("contract", {}),
        start_seconds=answer.get("start seconds"),
        peak_bytes=answer.get("peak bytes"),
        timings=answer.get("timings") or {},
    )
