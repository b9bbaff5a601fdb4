"""Tiny models with random weights, of the families that the series serve, and their prompts.

Imported by scripts in two environments: the one that quantizes (with ModelOpt) and the one that serves (with vLLM).
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
# Bytes first, then the special tokens; embeddings are padded to a multiple of 64.
TOKEN = {name: 256 + number for number, name in enumerate(SPECIAL)}
VOCABULARY = 320
# One pad stands for the image; vLLM puts in as many as the image has patches, and so does `image_inputs`.
IMAGE = [TOKEN["<|vision_start|>"], TOKEN["<|image_pad|>"], TOKEN["<|vision_end|>"]]
SIDE = 56

_SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 256,
    "tie_word_embeddings": False, "initializer_range": 0.06,
    "bos_token_id": None, "eos_token_id": TOKEN["<|endoftext|>"], "pad_token_id": TOKEN["<|endoftext|>"],
}  # fmt: skip
_VISION = {"depth": 2, "hidden_size": 128, "num_heads": 2, "intermediate_size": 192, "out_hidden_size": 256}
_IDS = {
    "image_token_id": TOKEN["<|image_pad|>"],
    "video_token_id": TOKEN["<|video_pad|>"],
    "vision_start_token_id": TOKEN["<|vision_start|>"],
    "vision_end_token_id": TOKEN["<|vision_end|>"],
}


def config(family: str) -> Any:
    """Return the transformers configuration of `family`, which is a `model_type`."""
    import transformers as hf

    if family == "qwen2_5_vl":
        rope = {"rope_type": "default", "type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6}
        return hf.Qwen2_5_VLConfig(
            text_config={**_SIZES, "rope_parameters": rope, "rope_scaling": rope},
            vision_config={**_VISION, "fullatt_block_indexes": [1], "window_size": 56},
            tie_word_embeddings=False,
            **_IDS,
        )
    if family == "qwen3_vl":
        rope = {"rope_type": "default", "mrope_section": [12, 10, 10], "mrope_interleaved": True, "rope_theta": 5e6}
        vision = {**_VISION, "deepstack_visual_indexes": [0], "num_position_embeddings": 64, "initializer_range": 0.06}
        return hf.Qwen3VLConfig(
            text_config={**_SIZES, "rope_parameters": rope, "rope_scaling": rope},
            vision_config=vision,
            tie_word_embeddings=False,
            **_IDS,
        )
    if family == "qwen3_moe":
        return hf.Qwen3MoeConfig(**_SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=128)
    return hf.AutoConfig.for_model(family, **_SIZES)


def build(family: str) -> Any:
    """Return the model with random weights, in fp32; the same ones in each run."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    configuration = config(family)
    auto = hf.AutoModelForImageTextToText if hasattr(configuration, "vision_config") else hf.AutoModelForCausalLM
    model = auto.from_config(configuration, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(std=0.05)
    # What loading a model sets, and what export writes into config.json.
    model.config.architectures = [type(model).__name__]
    model.generation_config.eos_token_id = _SIZES["eos_token_id"]
    return model


def image(tokens: list[int]) -> Any:
    """Return an image whose size needs no resizing; other tokens give another one."""
    import numpy
    from PIL import Image

    rows, columns = numpy.mgrid[0:SIDE, 0:SIDE]
    red, green, blue = tokens
    pixels = numpy.stack([rows * 4 ^ red, columns * 4 ^ green, (rows ^ columns) * 4 ^ blue], 2)
    return Image.fromarray(pixels.astype("uint8"))


def patch_size(family: str) -> int:
    """Return the side in pixels of a patch of the vision tower."""
    return 16 if family == "qwen3_vl" else 14


def prompts(family: str) -> tuple[str, ...]:
    """Return the kinds of prompts that `family` understands."""
    return ("text", "image") if family.endswith("_vl") else ("text",)


def image_inputs(family: str, tokens: list[int]) -> dict[str, Any]:
    """Return the model's keyword arguments for an image and `tokens`, as transformers wants them."""
    import torch
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil(**_processor(family))
    inputs = dict(processor(images=[image(tokens)], return_tensors="pt"))
    pads = int(inputs["image_grid_thw"].prod()) // 4
    ids = [token for token in IMAGE + tokens for _ in range(pads if token == TOKEN["<|image_pad|>"] else 1)]
    inputs["input_ids"] = torch.tensor([ids])
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == TOKEN["<|image_pad|>"]).int()
    return inputs


def _processor(family: str) -> dict[str, Any]:
    side = patch_size(family)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return {
        "size": {"shortest_edge": (2 * side) ** 2, "longest_edge": (8 * side) ** 2},
        "patch_size": side,
        "temporal_patch_size": 2,
        "merge_size": 2,
        **half,
    }


def write_processor(family: str, folder: Path) -> None:
    """Write the tokenizer, and for a vision-language model its processor, to `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=256
    ).save_pretrained(folder)
    if not family.endswith("_vl"):
        return
    configured = json.loads((folder / "tokenizer_config.json").read_text())
    configured["tokenizer_class"] = "Qwen2Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(configured))
    processor = "Qwen3VLProcessor" if family == "qwen3_vl" else "Qwen2_5_VLProcessor"
    video = "Qwen3VLVideoProcessor" if family == "qwen3_vl" else "Qwen2VLVideoProcessor"
    image_config = {**_processor(family), "image_processor_type": "Qwen2VLImageProcessor", "processor_class": processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(image_config))
    video_config = {**_processor(family), "video_processor_type": video, "processor_class": processor}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video_config))
