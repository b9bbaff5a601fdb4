"""Where the GPU's time goes when vLLM serves a random Qwen2.5-VL of 3B's layers: its kernels, by name, for each step.

    python benchmarks/serving_profile.py int8-kv                        12 layers, CUDA graphs
    python benchmarks/serving_profile.py bf16 --kv-cache-dtype fp8      the cache alone in FP8
    python benchmarks/serving_profile.py int8-kv --backend TRITON_ATTN --json out.json
    python benchmarks/serving_profile.py int8-kv --tiny                 a dry run without a GPU

Three kinds of step: the prefill of one prompt of 512 tokens, a decode step of 128 sequences with some 320 tokens of
context, and one of a single sequence. For each: the time on the clock, without the profiler, and the time in which any
kernel ran. Where the first is much longer, the host is what one waits for; what it did is listed too, under the
profiler, which slows it. The weights are random; no checkpoint is written. The engine shares the process, so that the
profiler sees it. Wants what serving.py wants.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests/series/vllm")]
# Sequences, tokens of each prompt, steps that warm up.
STEPS = {"decode": (128, 300, 16), "single": (1, 300, 4)}
TINY_STEPS = {"decode": (4, 20, 2), "single": (1, 20, 2)}
# What a random layer's scales are, for activations and weights of variance one.
SCALES = {"input_scale": 0.03, "pre_quant_scale": 1.01, "k_scale": 0.02, "v_scale": 0.02}


def fill(model: Any, weight_step: float) -> None:
    """Give every weight a value that a model could have; `weight_step` is a quantized weight's standard deviation."""
    import torch

    for name, value in model.named_parameters():
        last = name.rsplit(".", 1)[-1]
        if value.dtype == torch.int8:
            value.data.random_(-127, 128)
        elif value.dtype == torch.float8_e4m3fn:
            value.data.copy_(torch.randn(value.shape, device=value.device, dtype=torch.bfloat16).to(value.dtype))
        elif last == "weight_scale":
            value.data.fill_(1 / 45 / weight_step)
        elif last in SCALES:
            value.data.fill_(SCALES[last])
        elif value.ndim < 2:
            value.data.fill_(0.01 if last == "bias" else 1.0)
        else:
            value.data.normal_(std=value[0].numel() ** -0.5)


def start(arguments: argparse.Namespace, folder: Path) -> Any:
    """Return the engine."""
    import serving_model as sm
    import torch
    import vllm.model_executor.model_loader.dummy_loader as loader
    from vllm import LLM

    form = sm.FORMATS[arguments.format]
    # Uniform int8 has a standard deviation of 73, e4m3 is filled with one of 1.
    step = 1.0 if form.algo == "FP8" else 73.0
    loader.DummyModelLoader.load_weights = lambda _, model, __: fill(model, step)
    made = sm.config(arguments.tiny, arguments.layers)
    made.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    sm.write(folder / "model", argparse.Namespace(config=made), form, {"none": torch.zeros(1)})
    options: dict[str, Any] = {"compilation_config": {"cudagraph_capture_sizes": [1, 8, 128, 256, 512]}}
    if arguments.tiny:
        # vLLM's CPU build has no FP8 quantization of its own.
        options = {"compilation_config": {"custom_ops": ["all", "-quant_fp8"]}, "enforce_eager": True}
    if arguments.backend:
        options["attention_config"] = {"backend": arguments.backend}
    if arguments.kv_cache_dtype:
        options["kv_cache_dtype"] = arguments.kv_cache_dtype
    return LLM(
        str(folder / "model"), dtype="bfloat16", load_format="dummy", max_model_len=1024, enable_prefix_caching=False,
        max_num_seqs=256, max_num_batched_tokens=8192, limit_mm_per_prompt={"image": 0, "video": 0},
        kv_cache_memory_bytes=(1 << 28) if arguments.tiny else (3 << 30), gpu_memory_utilization=0.1,
        kernel_config={"enable_flashinfer_autotune": False}, **options,
    )  # fmt: skip


def kernels(profile: Any, steps: int) -> dict[str, Any]:
    """Return, of one of the profiled steps, the microseconds in which any kernel ran, and [launches, microseconds] of
    each kernel and of each operation of the host."""
    rows: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    spans = []
    for event in profile.events():
        # The annotations of what the host does come as events of the GPU too.
        if not str(event.device_type).endswith("CUDA") or event.name.startswith(("gpu_", "execute_", "ProfilerStep")):
            continue
        rows[event.name][0] += 1 / steps
        rows[event.name][1] += event.time_range.elapsed_us() / steps
        spans.append((event.time_range.start, event.time_range.end))
    busy, end = 0.0, 0.0
    for first, last in sorted(spans):
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
    host = {row.key: [row.count / steps, row.self_cpu_time_total / steps] for row in profile.key_averages()}
    return {"busy": busy / steps, "kernels": by_time(rows), "host": by_time(host)}


def by_time(rows: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the rows with the longest times first."""
    return dict(sorted(rows.items(), key=lambda row: -row[1][1]))


class Steps:
    """Runs single steps of an engine."""

    def __init__(self, engine: Any) -> None:
        import torch

        self.engine = engine
        self.serial = 0
        self.synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None

    def add(self, count: int, length: int, made: int) -> None:
        """Ask for `made` tokens after each of `count` prompts."""
        import torch
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0, max_tokens=made, ignore_eos=True, detokenize=False)
        generator = torch.Generator().manual_seed(self.serial)
        for row in torch.randint(0, 256, (count, length), generator=generator).tolist():
            self.serial += 1
            self.engine.add_request(str(self.serial), {"prompt_token_ids": row}, sampling)

    def run(self, count: int | None) -> None:
        """Run `count` steps, or all that there are."""
        while self.engine.has_unfinished_requests() and count != 0:
            self.engine.step()
            count = None if count is None else count - 1
        self.synchronize()

    def clock(self, count: int | None) -> float:
        """Return the milliseconds of `count` steps, or all."""
        begin = time.perf_counter()
        self.run(count)
        return 1000 * (time.perf_counter() - begin)


def profiled(steps: Steps, tiny: bool) -> dict[str, Any]:
    """Return milliseconds and kernels of each kind of step."""
    from torch.profiler import profile

    length = 32 if tiny else 512
    times = []
    for _ in range(20):
        steps.add(1, length, 1)
        times.append(steps.clock(None))
    with profile() as seen:
        for _ in range(3):
            steps.add(1, length, 1)
            steps.run(None)
    figures = {"prefill": {"ms": statistics.median(times[5:]), **kernels(seen, 3)}}
    for kind, (count, length, warm) in (TINY_STEPS if tiny else STEPS).items():
        steps.add(count, length, 60)
        steps.run(warm)
        taken = steps.clock(20) / 20
        with profile() as seen:
            steps.run(4)
        figures[kind] = {"ms": taken, **kernels(seen, 4)}
        steps.run(None)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", help="bf16, int8, int8-kv, fp8-kv")
    parser.add_argument("--layers", type=int, default=12, help="of the language model")
    parser.add_argument("--kv-cache-dtype", help="in place of what the format says")
    parser.add_argument("--backend", help="of attention, such as TRITON_ATTN")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, eager")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        llm = start(arguments, Path(folder))
        figures = profiled(Steps(llm.llm_engine), arguments.tiny)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    for kind, said in figures.items():
        print(f"{kind}: {said['ms']:.3f} ms, of which the GPU works {said['busy'] / 1000:.3f}")
        for which, count in (("kernels", 15), ("host", 8)):
            for name, (launches, taken) in list(said[which].items())[:count]:
                print(f"  {which:7} {taken:9.1f} us {launches:6.1f} x {name[:90]}")


if __name__ == "__main__":
    main()
