"""Serve a random Qwen2.5-VL of 3B's size with vLLM, in bf16, INT8 and FP8: how exact, how fast; in one run.

    python benchmarks/serving.py                                   bf16, INT8 + FP8 KV, FP8 + FP8 KV, CUDA graphs
    python benchmarks/serving.py --together                        all engines up at once, measured in turns
    python benchmarks/serving.py --together --no-exact --speeds single,ttft     just these figures
    python benchmarks/serving.py --formats int8-kv --modes eager,graphs
    python benchmarks/serving.py --paths stock=,ours=/path/of/patched     several vLLMs, side by side
    python benchmarks/serving.py --tiny --device cpu               a dry run without a GPU
    python benchmarks/serving.py --out results.json

Wants vLLM 0.30.0 (with the series), torch and transformers in the environment, about 20 GB in --folder, and a GPU
with 24 GB for the references (16 GB of weights in fp32). Every combination of vLLM, format and mode is an engine, one
after the other, or with --together all at once (about 12 GB each, beside the 16 GB that make the checkpoints): then the
speeds are measured in turns, and what else happens on the machine meets all of them. vLLM's engine has a process of its
own, as it has by default.

Exactness is measured against the checkpoint's own arithmetic in fp32 (see serving_model.py), at every position of
the prompts: how much the log-probability of the prompt's next token differs, and how often the most probable token is
the same; and on how many greedy tokens both agree. The bf16 row is what bf16 alone costs. A value near the boundary
of two int8 steps falls on either side by bf16's last bit, so two right computations of one checkpoint in bf16 differ
about as much as quantization changes the model. Therefore also: how far the reference is from the unquantized one
("itself"), and how far what vLLM serves is from that ("served"): a fault in serving makes the second the larger one.
Throughput: `prefill` is 512 prompts of 512 tokens, `decode` 128 sequences of 256 tokens, `single` one of 256, in
tokens/s; `ttft` the time in ms to the first token of a 512-token prompt, the median of 15. Medians of --turns, after
one that warms up.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from serving_engine import Engine, EngineDiedError, answer, look, wait_for

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests/series/vllm")]
GREEDY = 16
# Options that are handed on as they are.
FLAGS = ("tiny", "together", "no_exact", "no_speed")
SIZES = {"prefill": (512, 512, 1), "decode": (128, 16, 256), "single": (1, 16, 256)}
SPEEDS = (*SIZES, "ttft")
TINY_SIZES = {"prefill": (8, 32, 1), "decode": (4, 16, 16), "single": (1, 16, 16)}


def prompts() -> dict[str, list[int]]:
    """Return the words of each prompt; the last one comes with a picture."""
    import torch

    generator = torch.Generator().manual_seed(5)
    lengths = {"short": 8, "middle": 48, "long": 96, "picture": 3}
    return {name: torch.randint(0, 256, (length,), generator=generator).tolist() for name, length in lengths.items()}


def picture_inputs(words: list[int]) -> dict[str, Any]:
    """Return what transformers' model takes for a picture and words."""
    import tiny

    return tiny.image_inputs("qwen2_5_vl", words)


def make(arguments: argparse.Namespace) -> None:
    """Write the checkpoints, and beside each its reference."""
    import serving_model as sm
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    device = arguments.device
    sm.watch_attention()
    model = sm.build(arguments.tiny, device, arguments.layers)
    asked = {
        name: picture_inputs(words) if name == "picture" else {"input_ids": torch.tensor([words])}
        for name, words in prompts().items()
    }
    asked = {name: {key: value.to(device) for key, value in said.items()} for name, said in asked.items()}
    generator = torch.Generator().manual_seed(6)
    random = [{"input_ids": torch.randint(0, 256, (4, 128), generator=generator).to(device)} for _ in range(2)]
    calibration = sm.calibrate(model, [*random, asked["picture"]])
    for name in arguments.formats.split(","):
        form = sm.FORMATS[name]
        with sm.quantized(model, form, calibration) as tensors:
            sm.write(arguments.folder / name, model, form, tensors)
            reference = {} if arguments.no_exact else {kind: refer(model, said) for kind, said in asked.items()}
        (arguments.folder / f"{name}.json").write_text(json.dumps(reference))


def refer(model: Any, said: dict[str, Any]) -> dict[str, Any]:
    """Return the model's log-probabilities of each next token of the prompt, its favourites, and greedy tokens."""
    import torch

    with torch.no_grad():
        logprobs = model(**said).logits[0].log_softmax(-1)
        ids = said["input_ids"][0]
        greedy = model.generate(**said, max_new_tokens=GREEDY, do_sample=False, eos_token_id=None)[0, len(ids) :]
    return {
        "logprobs": logprobs[:-1].gather(1, ids[1:, None])[:, 0].tolist(),
        "favourites": logprobs.argmax(-1).tolist(),
        "greedy": greedy.tolist(),
    }


def serve(arguments: argparse.Namespace) -> None:
    """Start an engine for one checkpoint in one mode, and answer questions about it."""
    from vllm import LLM, SamplingParams

    name, mode, descriptor = arguments.serve
    wait_for(arguments.folder / f"{name}.json")
    start = time.perf_counter()
    options: dict[str, Any] = {"kernel_config": {"enable_flashinfer_autotune": False}}
    if arguments.device == "cpu":
        # vLLM's CPU build has no FP8 quantization of its own.
        options["compilation_config"] = {"custom_ops": ["all", "-quant_fp8"]}
    if arguments.together:
        # Each takes what it needs and 2 GiB for its cache, not most of the GPU.
        options |= {"gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": 2 << 30}
    else:
        options["gpu_memory_utilization"] = 0.8
    llm = LLM(
        str(arguments.folder / name), dtype="bfloat16", max_model_len=1024, enable_prefix_caching=False,
        enforce_eager=mode == "eager", max_num_seqs=256, max_num_batched_tokens=8192,
        limit_mm_per_prompt={"image": 1, "video": 0}, tensor_parallel_size=arguments.tensor_parallel, **options,
    )  # fmt: skip
    ready = {"start": time.perf_counter() - start, "kernels": llm.apply_model(look)[0]}
    sizes = TINY_SIZES if arguments.tiny else SIZES

    def exact() -> dict[str, Any]:
        reference, plain = (read(arguments.folder / f"{which}.json") for which in (name, "bf16"))
        return exactness(llm, reference, plain)

    def speed(kind: str, turn: int) -> float:
        if kind == "ttft":
            one = SamplingParams(temperature=0, max_tokens=1, detokenize=False)
            length = sizes["prefill"][1]
            return 1000 * statistics.median(clock(llm, requests(1, length, 15 * turn + n), one) for n in range(15))
        count, length, made = sizes[kind]
        sampling = SamplingParams(temperature=0, max_tokens=made, ignore_eos=True, detokenize=False)
        return count * (length if made == 1 else made) / clock(llm, requests(count, length, turn), sampling)

    answer(int(descriptor), {"ready": lambda: ready, "exact": exact, "speed": speed})


def read(file: Path) -> dict[str, Any]:
    """Return a reference; nothing where it was not made."""
    said: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return said


def requests(count: int, length: int, seed: int) -> list[dict[str, Any]]:
    """Return prompts of random tokens."""
    import torch

    generator = torch.Generator().manual_seed(100 + seed)
    return [{"prompt_token_ids": row} for row in torch.randint(0, 256, (count, length), generator=generator).tolist()]


def clock(llm: Any, asked: list[dict[str, Any]], sampling: Any) -> float:
    """Return the seconds until all answers are there."""
    start = time.perf_counter()
    llm.generate(asked, sampling, use_tqdm=False)
    return time.perf_counter() - start


def exactness(llm: Any, reference: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Hold the engine's answers against the references, of this checkpoint and of the unquantized model."""
    import tiny
    from vllm import SamplingParams

    got: list[float] = []
    same: list[bool] = []
    agreed: dict[str, int] = {}
    greedy = SamplingParams(temperature=0, max_tokens=GREEDY, ignore_eos=True, detokenize=False)
    both = SamplingParams(temperature=0, max_tokens=GREEDY, ignore_eos=True, detokenize=False, prompt_logprobs=1)
    texts = {kind: words for kind, words in prompts().items() if kind != "picture"}
    for kind, words in prompts().items():
        asked: dict[str, Any] = {"prompt_token_ids": words}
        if kind == "picture":
            asked = {"prompt_token_ids": tiny.IMAGE + words, "multi_modal_data": {"image": tiny.image(words)}}
        (said,) = llm.generate([asked], both if kind in texts else greedy, use_tqdm=False)
        pairs = zip(said.outputs[0].token_ids, reference[kind]["greedy"], strict=True)
        agreed[kind] = next((number for number, (one, other) in enumerate(pairs) if one != other), GREEDY)
        if kind in texts:
            for token, options, favourite in zip(
                words[1:], said.prompt_logprobs[1:], reference[kind]["favourites"], strict=False
            ):
                got.append(options[token].logprob)
                same.append(next(which for which, option in options.items() if option.rank == 1) == favourite)
    expected, unquantized = (
        [value for kind in texts for value in which[kind]["logprobs"]] if which else None
        for which in (reference, plain)
    )
    distances = {"error": distance(got, expected)}
    if unquantized:
        distances |= {"itself": distance(expected, unquantized), "served": distance(got, unquantized)}
    return {**distances, "favourites": statistics.mean(same), "greedy tokens, of 16": agreed}


def distance(one: list[float], other: list[float]) -> float:
    """Return the mean difference."""
    return statistics.mean(abs(a - b) for a, b in zip(one, other, strict=True))


def command_of(arguments: argparse.Namespace, *more: str) -> list[str]:
    """Return how this script is called for a part of its work."""
    command = [sys.executable, str(Path(__file__)), "--folder", str(arguments.folder), "--device", arguments.device]
    command += ["--layers", str(arguments.layers), "--formats", arguments.formats]
    command += ["--tensor-parallel", str(arguments.tensor_parallel)]
    command += [f"--{flag.replace('_', '-')}" for flag in FLAGS if getattr(arguments, flag)]
    return [*command, *more]


def environment(path: str) -> dict[str, str]:
    """Return the environment of an engine, with the vLLM of `path`."""
    return {
        **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_USE_FLASHINFER_SAMPLER": "0",
        # `look` is sent to the engine's process, and found there.
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
        "PYTHONPATH": ":".join(filter(None, (path, os.environ.get("PYTHONPATH"), str(HERE)))),
    }  # fmt: skip


def in_turns(engines: dict[str, Engine], results: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Ask all engines, in turns; an engine that dies leaves its last words in the results.

    The results are written as they come: whatever ends the run, what was measured stays.
    """

    def keep() -> None:
        Path(arguments.out).write_text(json.dumps(results, indent=1))

    def ask(key: str, *question: Any) -> Any:
        try:
            return engines[key].ask(*question)
        except EngineDiedError as error:
            results[key] = {"error": "it died", "log": str(error)}
            print(f"{key} died; the end of its log comes at the end", flush=True)
            engines.pop(key).close()
            return None

    for key in list(engines):
        ready = ask(key, "ready")
        if ready is not None:
            results[key] = ready
            keep()
            print(key, ready, flush=True)
    if not arguments.no_exact:
        for key in list(engines):
            results[key]["exact"] = ask(key, "exact")
            keep()
            print(key, results[key]["exact"], flush=True)
    for kind in () if arguments.no_speed else arguments.speeds.split(","):
        values: dict[str, list[float]] = {key: [] for key in engines}
        for turn in range(arguments.turns + 1):
            for key in list(engines):
                values[key].append(ask(key, "speed", kind, turn))
        for key in engines:
            # The first turn warms up.
            results[key][kind] = statistics.median(values[key][1:])
            results[key][f"{kind} turns"] = values[key][1:]
            print(f"{key} {kind} " + " ".join(f"{value:.1f}" for value in values[key]), flush=True)
        keep()


def show(results: dict[str, Any]) -> None:
    """Print one row for each run."""
    speeds, distances = ("start", *SPEEDS), ("error", "itself", "served", "favourites")
    print(f"{'':28}" + "".join(f"{column:>11}" for column in (*speeds, *distances)) + "  greedy, of 16")
    for name, said in results.items():
        if "error" in said:
            print(f"{name:28}{said['error']}\n{said['log'][-1500:]}")
            continue
        row = "".join(f"{said[column]:11.1f}" if column in said else f"{'-':>11}" for column in speeds)
        exact = said.get("exact") or {}
        row += "".join(f"{exact[column]:11.4f}" if column in exact else f"{'-':>11}" for column in distances)
        greedy = " ".join(map(str, exact.get("greedy tokens, of 16", {}).values()))
        print(f"{name:28}{row}  {greedy}  {said['kernels']}")


def start_making(arguments: argparse.Namespace, wanted: list[str]) -> subprocess.Popen[bytes]:
    """Start the process that writes the checkpoints."""
    asked = argparse.Namespace(**{**vars(arguments), "formats": ",".join(wanted)})
    with (arguments.folder / "make.log").open("w") as stream:
        return subprocess.Popen(
            command_of(asked, "--make"), env=environment(""), stdout=stream, stderr=subprocess.STDOUT
        )


def start_engines(
    group: list[str],
    combinations: dict[str, tuple[str, str, str]],
    arguments: argparse.Namespace,
    engines: dict[str, Engine],
) -> None:
    """Start the engines of a group."""
    for key in group:
        name, mode, path = combinations[key]
        log = arguments.folder / f"{key.replace(' ', '_')}.log"
        engines[key] = Engine(command_of(arguments, "--serve", name, mode), environment(path), log)


def main() -> None:
    """Make the checkpoints, serve each in each mode with each vLLM, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", default="bf16,int8-kv,fp8-kv", help="also: int8, int8-weights")
    parser.add_argument("--modes", default="graphs", help="graphs, eager or both")
    parser.add_argument("--paths", default="vllm=", help="NAME=FOLDER,...: put before PYTHONPATH")
    parser.add_argument("--folder", type=Path, help="where the checkpoints go; kept if it is named")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=36, help="of the language model")
    parser.add_argument("--tiny", action="store_true", help="a tiny model")
    parser.add_argument("--together", action="store_true", help="have all engines up at once, and measure in turns")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="GPUs of each engine")
    parser.add_argument("--turns", type=int, default=3, help="how often each speed is measured")
    parser.add_argument("--speeds", default=",".join(SPEEDS), help="what is measured, in this order: %(default)s")
    parser.add_argument("--no-speed", action="store_true", help="exactness only")
    parser.add_argument("--no-exact", action="store_true", help="speed only")
    parser.add_argument("--out", default="serving.json")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        return make(arguments)
    if arguments.serve:
        return serve(arguments)
    if unknown := set(arguments.speeds.split(",")) - {*SPEEDS}:
        parser.error(f"--speeds: not known: {', '.join(sorted(unknown))}")
    temporary = arguments.folder is None
    arguments.folder = arguments.folder or Path(tempfile.mkdtemp())
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    wanted = [name for name in arguments.formats.split(",") if not (arguments.folder / f"{name}.json").exists()]
    combinations = {
        f"{name} {mode} {label}": (name, mode, path)
        for name in arguments.formats.split(",")
        for mode in arguments.modes.split(",")
        for label, _, path in (pair.partition("=") for pair in arguments.paths.split(","))
    }
    try:
        made = start_making(arguments, wanted) if wanted else None
        groups = [list(combinations)] if arguments.together else [[key] for key in combinations]
        for group in groups:
            engines: dict[str, Engine] = {}
            try:
                if arguments.together:
                    # They wait for their checkpoints, and import vLLM meanwhile.
                    start_engines(group, combinations, arguments, engines)
                if made is not None and made.wait():
                    raise SystemExit((arguments.folder / "make.log").read_text()[-3000:])
                if not arguments.together:
                    start_engines(group, combinations, arguments, engines)
                in_turns(engines, results, arguments)
            finally:
                for engine in engines.values():
                    engine.close()
    finally:
        if temporary:
            shutil.rmtree(arguments.folder)
    show(results)
    return None


if __name__ == "__main__":
    main()
