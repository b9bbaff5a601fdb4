"""Write a fixture with a random model of Qwen2.5-VL-3B's shape.

    large.py FOLDER [--layers N] [--seed N] [--device cpu|cuda]

It has learned nothing, so that there is no score; but layers, types, kernels and memory are those of the real one.
FOLDER gets `model/`, and captions, calibration items and questions as train.py writes them. Every linear layer keeps
its input's variance, outputs into the residual stream are divided by the depth, the distributions are as narrow as
those of a trained one, and outliers.py's channels are inserted, so that the effect of quantization can be measured.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch

import outliers
import shapes_model
import train
from progress_lines import progress
from scenes import scenes

LAYERS = 36
ITEMS = (24, 8)  # images and texts
HEAD = 5.0  # standard deviation of the logits: the likeliest few of 151 936 tokens then share the mass


def config(ids: dict[str, int], layers: int) -> Any:
    """Return the configuration that Qwen2.5-VL-3B-Instruct publishes, but for its embeddings: they are not tied."""
    from transformers import Qwen2_5_VLConfig

    rope = {"rope_type": "default", "type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": layers,
            "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "rope_parameters": rope, "rope_scaling": rope,
            "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112, "patch_size": shapes_model.PATCH,
            "spatial_merge_size": shapes_model.MERGE,
        },
        tie_word_embeddings=False,
        **shapes_model.token_ids(ids),
    )  # fmt: skip


@torch.no_grad()
def build(config: Any, seed: int, device: str) -> Any:
    """Return the model in bfloat16."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16).eval()
    depth = config.text_config.num_hidden_layers
    generator = torch.Generator(device).manual_seed(seed)
    total = sum(1 for _ in model.parameters())
    for number, (name, parameter) in enumerate(model.named_parameters(), 1):
        if parameter.ndim > 1:
            std = 1 / math.sqrt(parameter[0].numel())
            if name.endswith(("o_proj.weight", "down_proj.weight")) and "visual" not in name:
                std /= math.sqrt(2 * depth)
            elif name.endswith("embed_tokens.weight"):
                std = 0.5
            elif name.endswith("lm_head.weight"):
                std *= HEAD
            parameter.normal_(std=std, generator=generator)
        elif name.endswith("bias"):
            parameter.normal_(std=0.05, generator=generator)
        progress(number, total, "tensors")
    outliers.insert(model, seed, device=device)
    model.config.architectures = [type(model).__name__]
    return model


def main() -> None:
    """Build the model, write the fixture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    known, held = scenes()
    tokens = train.tokenizer(known)
    ids = {name: tokens.convert_tokens_to_ids(name) for name in shapes_model.SPECIAL}
    model = build(config(ids, options.layers), options.seed, options.device)
    options.folder.mkdir(parents=True)
    model.save_pretrained(options.folder / "model")
    shapes_model.write_processor(tokens, options.folder / "model")
    train.write_calibration(options.folder, known, options.seed)
    train.write_items(options.folder / "items.json", held, *ITEMS, options.seed + 3)


if __name__ == "__main__":
    main()
