"""Serve checkpoints with vLLM, one after the other in one process, and write their answers.

Run by an interpreter that has vLLM: `serving.py ANSWER JOBS`. JOBS is a JSON list of objects with

    name      under which the answer stands
    folder    the checkpoint
    family    see tiny.py
    prompts   their tokens: `{"text": [...], "image": [...]}`; absent: it is only loaded
    options   more arguments of `vllm.LLM`
    changes   endings of tensors' names, and what a copy of the checkpoint has in their place: a factor, or null
              where it lacks them

ANSWER maps each name to `{"error": "..."}`, or to `quantization`, `kernels` (the kernel's class of each linear layer),
`kv_scales` ([k, v] of each attention layer), and for each prompt its `logprobs` and greedy `tokens`.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import gc
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import tiny

GREEDY = 6


def changed(folder: Path, changes: dict[str, float | None]) -> Path:
    """Return a copy of the checkpoint with some tensors scaled or left out."""
    from safetensors.torch import load_file, save_file

    copy = Path(tempfile.mkdtemp(dir=Path.cwd()))
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    tensors = load_file(folder / "model.safetensors")
    for ending, factor in changes.items():
        (name,) = [name for name in tensors if name.endswith(ending)]
        old = tensors.pop(name)
        if factor is not None:
            tensors[name] = old * factor
    save_file(tensors, copy / "model.safetensors")
    return copy


def look(model: Any) -> dict[str, Any]:
    """Return the loaded model's kernels and the scales of its KV cache."""
    kernels, scales = {}, {}
    for name, module in model.named_modules():
        method = getattr(module, "quant_method", None)
        kernel = getattr(method, "kernel", None)
        if kernel is not None:
            kernels[name] = type(kernel).__name__
        if hasattr(module, "_k_scale_float"):
            scales[name] = [float(module._k_scale_float), float(module._v_scale_float)]
    return {"kernels": kernels, "kv_scales": scales}


def serve(job: dict[str, Any]) -> dict[str, Any]:
    """Load one checkpoint, send it the prompts, and let go of it."""
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    llm = None
    try:
        options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 128, "max_num_seqs": 2}
        folder = changed(Path(job["folder"]), job["changes"]) if "changes" in job else Path(job["folder"])
        llm = LLM(str(folder), max_logprobs=tiny.VOCABULARY, **{**options, **job.get("options", {})})
        answer = {"quantization": llm.llm_engine.model_config.quantization}
        if llm.llm_engine.vllm_config.parallel_config.world_size == 1:
            (seen,) = llm.apply_model(look)
            answer.update(seen)
        for name, tokens in job.get("prompts", {}).items():
            prompt: dict[str, Any] = {"prompt_token_ids": tokens}
            if name == "image":
                prompt = {"prompt_token_ids": tiny.IMAGE + tokens}
                prompt["multi_modal_data"] = {"image": tiny.image(tokens)}
            sampling = SamplingParams(temperature=0, max_tokens=GREEDY, logprobs=tiny.VOCABULARY)
            (output,) = llm.generate([prompt], sampling, use_tqdm=False)
            first = output.outputs[0].logprobs[0]
            answer[name] = {
                "logprobs": [first[token].logprob for token in range(tiny.VOCABULARY)],
                "tokens": list(output.outputs[0].token_ids),
            }
        return answer
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        del llm
        gc.collect()
        cleanup_dist_env_and_memory()


def main() -> None:
    """Do all jobs."""
    answers = {job["name"]: serve(job) for job in json.loads(sys.argv[2])}
    Path(sys.argv[1]).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
