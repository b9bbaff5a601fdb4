"""FlashAttention 3 with its KV cache in bf16 and in FP8, for the shapes of Qwen2.5-VL-3B: time under CUDA graphs.

    python benchmarks/attention.py

Microseconds; 16 heads of 128, 2 of keys and values. `splits` is the number along the context that vLLM allows: 32 in a
CUDA graph, 0 leaves it to FlashAttention. Wants vLLM's CUDA wheel and a Hopper GPU.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable

import torch

HEADS, KV_HEADS, SIZE = 16, 2, 128
MAX_CONTEXT = 1024
# Sequences, new tokens of each, context.
CASES = {
    "decode 128 at 150": (128, 1, 150),
    "decode 128 at 300": (128, 1, 300),
    "decode 128 at 900": (128, 1, 900),
    "decode 1 at 300": (1, 1, 300),
    "prefill 1 x 512": (1, 512, 512),
    "prefill 16 x 512": (16, 512, 512),
}
PAGES = (16, 256)
SPLITS = (32, 0, 1)


def microseconds(call: Callable[[], object], repeat: int = 20) -> float:
    """Return the median time of one call within a graph of `repeat`."""
    for _ in range(3):
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeat):
            call()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(10):
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(1000 * start.elapsed_time(end) / repeat)
    # The first replay warms up.
    return statistics.median(times[1:])


def measure(sequences: int, new: int, context: int, page: int, dtype: torch.dtype, splits: int) -> float:
    """Return the microseconds of one layer's attention, with vLLM's cache layout [blocks, heads, page, k and v]."""
    from vllm.vllm_flash_attn import flash_attn_varlen_func, get_scheduler_metadata

    pages = MAX_CONTEXT // page
    blocks = sequences * pages + 1
    cache = torch.randn(blocks, KV_HEADS, page, 2 * SIZE, device="cuda").to(dtype)
    k, v = cache.transpose(1, 2).split(SIZE, dim=-1)
    table = torch.arange(1, blocks, dtype=torch.int32, device="cuda").view(sequences, pages)
    starts = torch.arange(sequences + 1, dtype=torch.int32, device="cuda") * new
    lengths = torch.full((sequences,), context, dtype=torch.int32, device="cuda")
    q = torch.randn(sequences * new, HEADS, SIZE, device="cuda").to(dtype)
    out = torch.empty(q.shape, dtype=torch.bfloat16, device="cuda")
    one = torch.tensor(1.0, device="cuda").expand(sequences, KV_HEADS)
    longest = MAX_CONTEXT if new == 1 else new
    schedule = get_scheduler_metadata(
        batch_size=sequences, max_seqlen_q=new, max_seqlen_k=longest, num_heads_q=HEADS, num_heads_kv=KV_HEADS,
        headdim=SIZE, cache_seqlens=lengths, qkv_dtype=dtype, cu_seqlens_q=starts, page_size=page, causal=True,
        num_splits=splits,
    )  # fmt: skip
    return microseconds(
        lambda: flash_attn_varlen_func(
            q=q, k=k, v=v, out=out, cu_seqlens_q=starts, max_seqlen_q=new, seqused_k=lengths, max_seqlen_k=longest,
            softmax_scale=SIZE**-0.5, causal=True, block_table=table, scheduler_metadata=schedule, fa_version=3,
            q_descale=one, k_descale=one, v_descale=one, num_splits=splits,
        )
    )  # fmt: skip


def main() -> None:
    print(f"{'':20} {'page':>5} {'splits':>6} {'bf16':>8} {'FP8':>8}")
    for (name, case), page, splits in itertools.product(CASES.items(), PAGES, SPLITS):
        times = [measure(*case, page, dtype, splits) for dtype in (torch.bfloat16, torch.float8_e4m3fn)]
        print(f"{name:20} {page:>5} {splits:>6} " + " ".join(f"{time:>8.1f}" for time in times))


if __name__ == "__main__":
    main()
