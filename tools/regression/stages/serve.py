"""Serving a checkpoint with vLLM: its engine, or its HTTP server with a real client."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regression.effects.process import Running
from regression.effects.server import free_port, listens, wait_until_healthy
from regression.effects.stages import digest
from regression.model.scenario import Scenario
from regression.stages.bench import INSIDE, Bench, Variant, last_error, raise_unfinished, read_said
from regression.stages.kit import Kit

LENGTH = 512  # tokens of context
# One process, so that what goes wrong is said by it; a small KV cache, for models of this size.
ENGINE = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True)
class Served:
    """What a side said, or why it refused. `folder` holds `logprobs.npy` where it was served."""

    folder: Path
    answer: dict[str, Any]

    @property
    def error(self) -> str | None:
        found = self.answer.get("error")
        return found if isinstance(found, str) else None


def serve(bench: Bench, kit: Kit, scenario: Scenario, checkpoint: Path, variant: Variant, run: int = 1) -> Served:
    """Serve a checkpoint with the engine and ask it the kit's questions; `run` counts repetitions.

    Raises:
        Unfinished, EnvironmentProblem: see `Bench.run`.
    """
    changed = bench.overlay("vllm", bench.serve, variant)
    job = {
        "dtype": scenario.dtype,
        "kv": "auto",
        "limit": scenario.items or None,
        "length": LENGTH,
        "device": scenario.device,
        "timings": scenario.timings,
    }
    inputs = {
        **bench.inputs(bench.serve, changed, "serve"),
        "checkpoint": digest(checkpoint),
        "items": kit.digest,
        "job": job,
        "run": run,
    }

    def work(folder: Path) -> dict[str, Any]:
        places = {"model": str(checkpoint), "items": str(kit.items)}
        command = [str(INSIDE / "serve.py"), str(folder), json.dumps({**job, **places})]
        kind = "with the series" if variant.series is not None else "as released"
        title = f"serve {scenario.name} {kind}"
        ended = bench.run(title, bench.serve, changed, command, folder, scenario.timeout, ENGINE)
        if not ended.good:
            return {"error": last_error(ended.tail), "tail": ended.tail, "seconds": ended.seconds}
        return {**read_said(folder), "seconds": ended.seconds, "peak bytes": ended.peak}

    answer = bench.stages.run("serve", inputs, work)
    return Served(bench.stages.path("serve", inputs), answer)


def serve_http(bench: Bench, kit: Kit, scenario: Scenario, checkpoint: Path, variant: Variant) -> Served:
    """Start `vllm serve`, ask it with the openai client, and end it.

    Raises:
        Unfinished, EnvironmentProblem: see `Bench.run`.
    """
    changed = bench.overlay("vllm", bench.serve, variant)
    inputs = {
        **bench.inputs(bench.serve, changed, "ask_http"),
        "checkpoint": digest(checkpoint),
        "items": kit.digest,
        "dtype": scenario.dtype,
        "server": _server(bench),
    }

    def work(folder: Path) -> dict[str, Any]:
        port = free_port()
        options = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "model", "--enforce-eager"]
        options += ["--dtype", scenario.dtype, "--max-model-len", str(LENGTH), "--no-enable-prefix-caching"]
        command = [str(bench.serve.path), "-m", *_server(bench), str(checkpoint), *options]
        more = {key: value for key, value in ENGINE.items() if "MULTIPROCESSING" not in key}
        log = folder / "server.txt"
        with ExitStack() as stack:
            task = stack.enter_context(bench.reporter.task(f"start the server of {scenario.name}", None, ""))
            env = bench.environment(changed, more)
            server = stack.enter_context(Running(command, env, folder, log, task))
            early = wait_until_healthy(server, port, scenario.timeout)
            if early is not None:
                raise_unfinished("vllm serve", early, scenario.timeout, log)
                return {"error": last_error(early.tail), "tail": early.tail}
            client = [str(INSIDE / "ask_http.py"), str(folder), str(port), str(kit.items)]
            ended = bench.run("ask over HTTP", bench.serve, None, client, folder, scenario.timeout)
            if not ended.good:
                died = "" if server.alive else f"; the server has died: {last_error(server.tail())}"
                return {"error": last_error(ended.tail) + died, "tail": ended.tail}
        return {**read_said(folder), "port closed": not listens(port)}

    answer = bench.stages.run("http", inputs, work)
    return Served(bench.stages.path("http", inputs), answer)


def _server(bench: Bench) -> tuple[str, ...]:
    """Return the module and first arguments of `vllm serve`.

    The CPU build is a distribution of another name, whose `vllm` command cannot find its own version and dies; the
    server that it starts is a module, too.
    """
    if "vllm" in bench.serve.versions:
        return "vllm.entrypoints.cli.main", "serve"
    return "vllm.entrypoints.openai.api_server", "--model"
