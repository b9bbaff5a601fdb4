"""Serve a checkpoint with vLLM's engine and ask it a kit's questions: `serve.py FOLDER JOB`.

JOB is a JSON object: `model` (folder), `items` (items.json), `dtype`, `kv` (vLLM's kv_cache_dtype), `limit` (items at
most), `length` (context), `device`. FOLDER gets `said.json`, and `logprobs.npy` with the log-probabilities over the
whole vocabulary of every answer's tokens, given the tokens before them, [tokens, vocabulary], fp32.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy

from asking import Item, open_picture, read_items
from telling import progress

ROUNDS = 5  # repetitions of each timing


def start(job: dict[str, Any]) -> Any:
    """Return the engine; it fails here where vLLM does not take the checkpoint."""
    from vllm import LLM

    return LLM(
        job["model"],
        dtype=job["dtype"],
        kv_cache_dtype=job["kv"],
        max_model_len=job["length"],
        max_logprobs=-1,
        seed=0,
        enforce_eager=True,
        enable_prefix_caching=False,
        limit_mm_per_prompt={"image": 1, "video": 0},
    )


def prompt(item: Item, *, told: bool) -> dict[str, Any]:
    """Return vLLM's prompt for a question, with its answer if `told`."""
    made: dict[str, Any] = {"prompt_token_ids": item.prompt + (item.answer if told else [])}
    if item.picture is not None:
        made["multi_modal_data"] = {"image": open_picture(item.picture)}
    return made


def fixed_tokens(llm: Any, items: list[Item], vocabulary: int) -> numpy.ndarray[Any, Any]:
    """Return the log-probabilities of all answers' tokens, [tokens, vocabulary]."""
    from vllm import SamplingParams

    asked = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=-1)
    rows = []
    for item, said in zip(items, llm.generate([prompt(item, told=True) for item in items], asked), strict=True):
        for position in said.prompt_logprobs[-len(item.answer) :]:
            row = numpy.full(vocabulary, -numpy.inf, numpy.float32)
            for token, found in position.items():
                row[token] = found.logprob
            rows.append(row)
    return numpy.stack(rows)


def answers(llm: Any, items: list[Item]) -> list[dict[str, Any]]:
    """Return what the model says to each question, greedily."""
    from vllm import SamplingParams

    asked = SamplingParams(temperature=0, max_tokens=max(len(item.answer) for item in items) + 4)
    found = llm.generate([prompt(item, told=False) for item in items], asked)
    return [{"tokens": list(one.outputs[0].token_ids), "text": one.outputs[0].text} for one in found]


def timings(llm: Any, items: list[Item]) -> dict[str, list[float]]:
    """Return ROUNDS measurements of each: seconds to the first token, seconds a token, tokens a second."""
    from vllm import SamplingParams

    single, many = prompt(items[0], told=False), [prompt(item, told=False) for item in items[:32]]
    found: dict[str, list[float]] = {"first token": [], "per token": [], "throughput": []}
    more = 16
    for number in range(ROUNDS):
        begin = time.perf_counter()
        llm.generate([single], SamplingParams(temperature=0, max_tokens=1), use_tqdm=False)
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        llm.generate([single], SamplingParams(temperature=0, max_tokens=1 + more, ignore_eos=True), use_tqdm=False)
        whole = time.perf_counter() - begin
        begin = time.perf_counter()
        llm.generate(many, SamplingParams(temperature=0, max_tokens=more, ignore_eos=True), use_tqdm=False)
        rate = len(many) * more / (time.perf_counter() - begin)
        found["first token"].append(first)
        found["per token"].append((whole - first) / more)
        found["throughput"].append(rate)
        progress(number + 1, ROUNDS, "rounds")
    return found


def load_contract(llm: Any) -> dict[str, Any]:
    """Return what vLLM made of the checkpoint: quantization, the method and kernel of each linear layer, memory."""

    def look(model: Any) -> dict[str, Any]:
        layers = {}
        for name, module in model.named_modules():
            method = getattr(module, "quant_method", None)
            if method is None:
                continue
            kernels = {type(found).__name__ for found in _kernels(method) + _kernels(getattr(module, "scheme", None))}
            layers[name] = "/".join([type(method).__name__, *sorted(kernels)])
        size = sum(value.numel() * value.element_size() for value in model.parameters())
        return {"layers": layers, "parameter bytes": size}

    found: dict[str, Any] = llm.apply_model(look)[0]
    config = llm.llm_engine.vllm_config
    quantization = config.quant_config
    return {
        "quantization": type(quantization).__name__ if quantization is not None else None,
        "kv cache": config.cache_config.cache_dtype,
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        **found,
    }


def _kernels(holder: object) -> list[object]:
    values = list(vars(holder).values()) if holder is not None and hasattr(holder, "__dict__") else []
    return [value for value in values if "Kernel" in type(value).__name__]


def main() -> None:
    """Serve, ask, measure, write."""
    folder, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    begin = time.perf_counter()
    llm = start(job)
    started = time.perf_counter() - begin
    tokens = llm.get_tokenizer()
    items = read_items(Path(job["items"]), tokens)[: job["limit"]]
    contract = load_contract(llm)
    vocabulary = llm.llm_engine.vllm_config.model_config.get_vocab_size()
    found = fixed_tokens(llm, items, vocabulary)
    numpy.save(folder / "logprobs.npy", found)
    said: dict[str, Any] = {"start seconds": started, "contract": contract, "answers": answers(llm, items)}
    said["timings"] = timings(llm, items) if job.get("timings") else None
    said["peak bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (folder / "said.json").write_text(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
