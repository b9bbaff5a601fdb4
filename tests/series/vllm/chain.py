"""Write a tiny random Qwen2 in ModelOpt's INT8 SmoothQuant format, serve it, and compare logits.

Run by an interpreter that has vLLM: `chain.py ANSWER FOLDER QUANT_ALGO [TENSOR VALUE]`. The tensor that ends
in TENSOR is multiplied by VALUE before it is written, or left out where VALUE is `none`.

The reference is the checkpoint's own arithmetic in fp32, as ModelOpt's fake quantization has it:
`y = (round(clamp(x * pre_quant_scale / input_scale)) * input_scale) @ (weight * weight_scale).T + bias`.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

PROMPT = [3, 17, 44, 5, 90, 61, 28, 7]
GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


def quantize(linear: torch.nn.Linear, scale: torch.Tensor, step: torch.Tensor) -> dict[str, torch.Tensor]:
    """Make `linear` compute what the served layer has to; return its tensors in the checkpoint."""
    smoothed = linear.weight.data / scale
    weight_scale = smoothed.abs().amax(1) / 127
    weight = (smoothed / weight_scale[:, None]).round().clamp(-128, 127)
    linear.weight.data = weight * weight_scale[:, None]
    linear.register_forward_pre_hook(
        lambda _, inputs: ((inputs[0] * scale / step).round().clamp(-128, 127) * step,),
    )
    return {
        "weight": weight.to(torch.int8),
        "weight_scale": weight_scale,
        "input_scale": step,
        "pre_quant_scale": scale,
    }


def write(folder: Path, algo: str, changes: dict[str, str]) -> Qwen2ForCausalLM:
    """Write the checkpoint to `folder`, and return the model that computes its reference."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=128, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        tie_word_embeddings=False, architectures=["Qwen2ForCausalLM"], dtype="float32",
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval().float()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(std=0.1)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    for layer in range(config.num_hidden_layers):
        for group in GROUPS:
            block = f"model.layers.{layer}." + ("self_attn" if group[0][0] in "qo" else "mlp")
            parts = [model.get_submodule(f"{block}.{part}") for part in group]
            scale = torch.rand(parts[0].in_features) + 0.5
            # Small enough that some activations saturate.
            step = torch.tensor(0.015 + 0.001 * layer) if group[0] in ("q_proj", "gate_proj") else torch.tensor(2e-4)
            for part, linear in zip(group, parts, strict=True):
                for key, value in quantize(linear, scale, step).items():
                    tensors[f"{block}.{part}.{key}"] = value
    for ending, value in changes.items():
        for name in [name for name in tensors if name.endswith(ending)]:
            if value == "none":
                del tensors[name]
            else:
                tensors[name] = tensors[name] * float(value)
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    # safetensors refuses tensors that share memory.
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    quantization = {"quant_algo": algo, "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]}
    said = {"producer": {"name": "modelopt", "version": "0.46.0"}, "quantization": quantization}
    (folder / "hf_quant_config.json").write_text(json.dumps(said))
    return model


def main() -> None:
    """Write, serve, answer with the largest difference of the logprobs and the greedy tokens."""
    from vllm import LLM, SamplingParams

    folder, algo = Path(sys.argv[2]), sys.argv[3]
    model = write(folder, algo, dict(zip(sys.argv[4::2], sys.argv[5::2], strict=True)))
    with torch.no_grad():
        expected = model(torch.tensor([PROMPT])).logits[0, -1].log_softmax(-1)
    llm = LLM(
        str(folder), skip_tokenizer_init=True, dtype="float32", max_model_len=64, max_logprobs=128, enforce_eager=True
    )
    # `detokenize` wants a tokenizer, and there is none.
    sampling = SamplingParams(temperature=0, max_tokens=1, logprobs=128, detokenize=False)
    (answer,) = llm.generate([{"prompt_token_ids": PROMPT}], sampling)
    logprobs = answer.outputs[0].logprobs[0]
    got = torch.tensor([logprobs[token].logprob for token in range(len(expected))])
    result = {
        "difference": (got - expected).abs().max().item(),
        "spread": (expected.max() - expected.min()).item(),
        "same token": answer.outputs[0].token_ids[0] == expected.argmax().item(),
    }
    Path(sys.argv[1]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
