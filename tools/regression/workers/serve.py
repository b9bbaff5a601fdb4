"""Serve checkpoints with vLLM's engine, one after the other in one process: `serve.py JOBS`.

JOBS is a JSON list of objects: `folder` (where the answer goes), `model` (folder), `items` (items.json), `dtype`, `kv`
(vLLM's kv_cache_dtype), `limit` (items at most), `length` (context), `cache` (bytes of KV cache), `device`, `timings`,
`compiled` (torch.compile, and CUDA graphs on a GPU).
Each folder gets `output.json`, and `logprobs.npy` with the log-probabilities over the whole vocabulary of every
answer's tokens, given the tokens before them, [tokens, vocabulary], fp32; or `error.txt`, with the error's traceback.

The log-probabilities are vLLM's own `compute_logits` of its model's last hidden states: as `prompt_logprobs`, they
would come as one Python object for each token of the vocabulary and position, at a hundred times the cost.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import Any

import numpy

from items import Item, open_image, tokenize_items
from progress_lines import Peak, StepProgress, do_jobs

ROUNDS = 5  # repetitions of each timing
GRAPHS = [1, 2, 4, 8, 16, 32, 64, 128]  # batches that CUDA graphs are captured for; vLLM's 51 take their time


def start(job: dict[str, Any]) -> Any:
    """Return the engine; it fails here where vLLM does not take the checkpoint."""
    from vllm import LLM

    return LLM(
        job["model"],
        dtype=job["dtype"],
        kv_cache_dtype=job["kv"],
        kv_cache_memory_bytes=job["cache"],
        # With the cache's size given, this share is nothing but what has to be free at the start.
        gpu_memory_utilization=0.05,
        max_model_len=job["length"],
        seed=0,
        enforce_eager=not job["compiled"],
        **({"compilation_config": {"cudagraph_capture_sizes": GRAPHS}} if job["compiled"] else {}),
        enable_prefix_caching=False,
        limit_mm_per_prompt={"image": 1, "video": 0},
        # Tuning is for speed, and takes longer than all the questions.
        **({"kernel_config": {"enable_flashinfer_autotune": False}} if job["device"] == "cuda" else {}),
    )


def prompt(item: Item, *, answered: bool = False) -> dict[str, Any]:
    """Return vLLM's prompt for a question, with its answer if `answered`."""
    values: dict[str, Any] = {"prompt_token_ids": item.prompt + (item.answer if answered else [])}
    if item.image is not None:
        values["multi_modal_data"] = {"image": open_image(item.image)}
    return values


def fixed_tokens(llm: Any, items: list[Item], steps: StepProgress) -> numpy.ndarray[Any, Any]:
    """Return the log-probabilities of all answers' tokens, [tokens, vocabulary]."""
    import torch
    from vllm import SamplingParams

    kept: list[Any] = []

    def keep(_: Any, arguments: Any, hidden: Any) -> None:
        kept.append(hidden)

    def look(end: int, count: int) -> Any:
        @torch.inference_mode()
        def logits(model: Any) -> numpy.ndarray[Any, Any]:
            # The row at `end` stands for the token after the answer.
            values = model.compute_logits(kept[0][end - count : end])
            rows: numpy.ndarray[Any, Any] = values.float().log_softmax(-1).cpu().numpy()
            return rows

        return logits

    rows = []
    (handle,) = llm.apply_model(lambda model: model.register_forward_hook(keep))
    try:
        for number, item in enumerate(items, 1):
            kept.clear()
            sampling = SamplingParams(temperature=0, max_tokens=1)
            (output,) = llm.generate([prompt(item, answered=True)], sampling, use_tqdm=False)
            # Images count as the tokens that they became; what is beyond the prompt is padding.
            length = len(output.prompt_token_ids)
            if not kept or len(kept[0]) < length:
                raise RuntimeError(f"a prompt of {length} tokens did not go through the model in one step")
            rows.append(llm.apply_model(look(length - 1, len(item.answer)))[0])
            steps.part(number, 2 * len(items))
    finally:
        handle.remove()
    return numpy.concatenate(rows)


def answers(llm: Any, items: list[Item]) -> list[dict[str, Any]]:
    """Return the model's greedy answer to each question."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=max(len(item.answer) for item in items) + 4)
    outputs = llm.generate([prompt(item) for item in items], sampling, use_tqdm=False)
    return [{"tokens": list(one.outputs[0].token_ids), "text": one.outputs[0].text} for one in outputs]


def timings(llm: Any, items: list[Item]) -> dict[str, list[float]]:
    """Return ROUNDS measurements of each: seconds to the first token, seconds a token, tokens a second."""
    from vllm import SamplingParams

    def generate(prompts: list[dict[str, Any]], tokens: int) -> float:
        sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        begin = time.perf_counter()
        llm.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - begin

    single, many = [prompt(items[0])], [prompt(item) for item in items[:32]]
    measurements: dict[str, list[float]] = {"first token": [], "per token": [], "throughput": []}
    more = 16
    for _ in range(ROUNDS):
        first, whole = generate(single, 1), generate(single, 1 + more)
        measurements["first token"].append(first)
        measurements["per token"].append((whole - first) / more)
        measurements["throughput"].append(len(many) * more / generate(many, more))
    return measurements


def load_contract(llm: Any) -> dict[str, Any]:
    """Return the properties of the loaded model: quantization, the method and kernel of each linear layer, memory."""

    def look(model: Any) -> dict[str, Any]:
        layers = {}
        for name, module in model.named_modules():
            method = getattr(module, "quant_method", None)
            if method is None:
                continue
            kernels = {type(kernel).__name__ for kernel in _kernels(method) + _kernels(getattr(module, "scheme", None))}
            layers[name] = "/".join([type(method).__name__, *sorted(kernels)])
        size = sum(value.numel() * value.element_size() for value in model.parameters())
        return {"layers": layers, "parameter bytes": size}

    model: dict[str, Any] = llm.apply_model(look)[0]
    config = llm.llm_engine.vllm_config
    quantization = config.quant_config
    return {
        "quantization": type(quantization).__name__ if quantization is not None else None,
        "kv cache": config.cache_config.cache_dtype,
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        **model,
    }


def _kernels(holder: object) -> list[object]:
    values = list(vars(holder).values()) if holder is not None and hasattr(holder, "__dict__") else []
    return [value for value in values if "Kernel" in type(value).__name__]


def serve(job: dict[str, Any], steps: StepProgress) -> dict[str, Any]:
    """Return the answers and measurements of one checkpoint; its log-probabilities go into a file."""
    if "vllm" in sys.modules:
        # An engine of an earlier job was here.
        from vllm.distributed import cleanup_dist_env_and_memory

        gc.collect()
        cleanup_dist_env_and_memory()
    peak, begin = Peak(job["device"]), time.perf_counter()
    llm = start(job)
    output: dict[str, Any] = {"start seconds": time.perf_counter() - begin}
    items = tokenize_items(Path(job["items"]), llm.get_tokenizer())[: job["limit"]]
    output["contract"] = load_contract(llm)
    numpy.save(Path(job["folder"]) / "logprobs.npy", fixed_tokens(llm, items, steps))
    output["answers"] = answers(llm, items)
    output["timings"] = timings(llm, items) if job["timings"] else None
    return output | {"peak bytes": peak.bytes(), "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    do_jobs(serve)
