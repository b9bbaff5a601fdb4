"""Serving a checkpoint with vLLM: its engine, or its HTTP server with a real client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regression.model.scenario import Scenario
from regression.stages.bench import Bench, Variant
from regression.stages.kit import Kit
from regression.stages.step import Step, do

LENGTH = 512  # tokens of context
CACHE = 1 << 28  # bytes of KV cache: enough for a few dozen of those
# Threads are not bound to cores, which several processes would all bind to the same.
COMMON = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
# One process for the engine, so that what goes wrong is said by it.
ENGINE = {**COMMON, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


@dataclass(frozen=True)
class Served:
    """What a side said, or why it refused. `folder` holds `logprobs.npy` where it was served."""

    folder: Path
    answer: dict[str, Any]

    @property
    def error(self) -> str | None:
        found = self.answer.get("error")
        return found if isinstance(found, str) else None


def serve_step(
    bench: Bench,
    kit: Kit,
    scenario: Scenario,
    checkpoint: Path,
    variant: Variant,
    *,
    run: int = 1,
    refusal: str | None = None,
    timed: bool = True,
) -> Step:
    """Return the step that serves a checkpoint with the engine and asks it the kit's questions.

    `run` counts repetitions; `timed`: times are measured where the scenario wants them.
    """
    changed = bench.overlay("vllm", bench.serve, variant)
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
    return Step(
        stage="serve",
        script="serve",
        title=f"serve {scenario.name} {variant.words}" + (f", run {run}" if run > 1 else ""),
        python=bench.serve,
        changed=changed,
        inputs={
            **bench.inputs(bench.serve, changed, "serve"),
            "checkpoint": bench.digest(checkpoint),
            "items": bench.digest(*kit.files),
            "job": job,
            "run": run,
        },
        job={**job, "model": str(checkpoint), "items": str(kit.items)},
        tree=variant.words,
        environment=ENGINE,
        timeout=scenario.timeout,
        refusal=refusal,
        timed=scenario.timings and timed,
    )


def http_step(bench: Bench, kit: Kit, scenario: Scenario, checkpoint: Path, variant: Variant) -> Step:
    """Return the step that starts `vllm serve`, asks it with the openai client, and ends it."""
    changed = bench.overlay("vllm", bench.serve, variant)
    options = ["--dtype", scenario.dtype, "--max-model-len", str(LENGTH), "--kv-cache-memory-bytes", str(CACHE)]
    job = {"server": [*_server(bench)], "options": options, "timeout": scenario.timeout}
    return Step(
        stage="http",
        script="serve_http",
        title=f"serve {scenario.name} over HTTP {variant.words}",
        python=bench.serve,
        changed=changed,
        inputs={
            **bench.inputs(bench.serve, changed, "serve_http", "ask_http"),
            "checkpoint": bench.digest(checkpoint),
            "items": bench.digest(*kit.files),
            "job": job,
        },
        job={**job, "model": str(checkpoint), "items": str(kit.items)},
        tree=variant.words,
        environment=COMMON,
        timeout=scenario.timeout,
    )


def serve(bench: Bench, step: Step) -> Served:
    """Return what a step's side said.

    Raises:
        Unfinished, EnvironmentProblem: see `do`.
    """
    return Served(*do(bench, step))


def _server(bench: Bench) -> tuple[str, ...]:
    """Return the module and first arguments of `vllm serve`.

    The CPU build is a distribution of another name, whose `vllm` command cannot find its own version and dies; the
    server that it starts is a module, too.
    """
    if "vllm" in bench.serve.versions:
        return "vllm.entrypoints.cli.main", "serve"
    return "vllm.entrypoints.openai.api_server", "--model"
