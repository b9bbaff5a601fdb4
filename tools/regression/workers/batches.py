"""Batches for training and testing the shapes model, as tensors."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import numpy
import torch

import shapes_model
from scenes import SIDE, Scene, draw

GRID = SIDE // shapes_model.PATCH
TOKENS = (GRID // shapes_model.MERGE) ** 2


def patches(pixels: list[Any]) -> torch.Tensor:
    """Return Qwen2VLImageProcessor's patches of images: [images * GRID**2, 3 * 2 * PATCH**2], fp32.

    The order is that of its source: blocks of MERGE x MERGE patches, each patch as (channel, time, row, column).
    """
    size, merge = shapes_model.PATCH, shapes_model.MERGE
    values = torch.from_numpy(numpy.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    blocks = values.view(len(pixels), 3, GRID // merge, merge, size, GRID // merge, merge, size)
    ordered = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, 3, 1, size, size)
    return ordered.expand(-1, 3, 2, size, size).reshape(len(pixels) * GRID**2, -1).contiguous()


class Batches:
    """Batches of questions with their answers; everything random comes from its own generator."""

    def __init__(self, tokens: Any, seed: int) -> None:
        self.tokens = tokens
        self.random = numpy.random.default_rng(seed)
        self.pad = tokens.convert_tokens_to_ids("<|endoftext|>")
        self.image = tokens.convert_tokens_to_ids("<|image_pad|>")

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, with as many image tokens as an image has."""
        ids = self.tokens(text, add_special_tokens=False)["input_ids"]
        return [token for one in ids for token in [one] * (TOKENS if one == self.image else 1)]

    def question(self, scene: Scene, image: bool) -> list[int]:
        if image:
            return self.encode(shapes_model.prompt(shapes_model.DESCRIBE, 1))
        return self.encode(shapes_model.prompt(shapes_model.TURN + scene.caption))

    def answer(self, scene: Scene, image: bool) -> list[int]:
        return self.encode((scene.caption if image else scene.turned) + "<|im_end|>")

    def batch(self, scenes: list[Scene], image: bool) -> dict[str, torch.Tensor]:
        """Return the model's keyword arguments with labels for the answers alone."""
        pairs = [(self.question(scene, image), self.answer(scene, image)) for scene in scenes]
        length = max(len(question) + len(answer) for question, answer in pairs)
        ids = torch.full((len(scenes), length), self.pad)
        labels = torch.full((len(scenes), length), -100)
        for row, (question, answer) in enumerate(pairs):
            end = len(question) + len(answer)
            ids[row, :end] = torch.tensor(question + answer)
            labels[row, len(question) : end] = torch.tensor(answer)
        return {**self.inputs(ids, [draw(scene, self.random) for scene in scenes] if image else []), "labels": labels}

    def inputs(self, ids: torch.Tensor, pixels: list[Any]) -> dict[str, torch.Tensor]:
        """Return the model's keyword arguments; every row of `ids` has one image in the same place, or none."""
        values = {"input_ids": ids, "position_ids": self.positions(ids)}
        if pixels:
            values["pixel_values"] = patches(pixels)
            values["image_grid_thw"] = torch.tensor([[1, GRID, GRID]] * len(pixels))
        return values

    def positions(self, ids: torch.Tensor) -> torch.Tensor:
        """Return Qwen2.5-VL's three position ids of each token, [3, rows, length].

        Text counts on in all three; an image's tokens share the time and count rows and columns, and the text
        after it goes on behind the largest of them (https://arxiv.org/abs/2409.12191, section 2.1).
        """
        (row, length), side = ids.shape, GRID // shapes_model.MERGE
        where = (ids[0] == self.image).nonzero().flatten().tolist()
        if not where:
            return torch.arange(length).expand(3, row, length)
        start, grid = where[0], torch.arange(TOKENS)
        image = torch.stack([torch.zeros_like(grid), grid // side, grid % side]) + start
        before = torch.arange(start).expand(3, start)
        after = torch.arange(length - start - TOKENS).expand(3, -1) + start + side
        return torch.cat([before, image, after], 1)[:, None].expand(3, row, length)
