"""Generated images of two shapes, and the caption that each of them has.

A caption is `a <size> <colour> <shape> <relation> a <size> <colour> <shape>`, where the relation is `left of` or
`above`, so that an image has one right caption only. Every fifth caption, by its hash, is held out of training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import product

import numpy
from numpy.typing import NDArray

Pixels = NDArray[numpy.uint8]

SIDE = 56  # pixels; a multiple of the 28 that one token of the language model covers
SIZES = {"small": 7, "large": 12}  # radius in pixels
COLOURS = {"red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 80, 200), "yellow": (235, 200, 30)}
SHAPES = ("circle", "square", "triangle")
OPPOSITE = {"left of": "right of", "above": "below"}


@dataclass(frozen=True)
class Thing:
    """One shape of an image."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """The contents of an image: `first` is left of, or above, `second`."""

    first: Thing
    relation: str
    second: Thing

    @property
    def caption(self) -> str:
        return f"{self.first} {self.relation} {self.second}"

    @property
    def turned(self) -> str:
        """The same relation from the other shape's side; the answer of the text-only task."""
        return f"{self.second} {OPPOSITE[self.relation]} {self.first}"


def scenes() -> tuple[list[Scene], list[Scene]]:
    """Return the scenes to train on, and those held out."""
    things = [Thing(*parts) for parts in product(SIZES, COLOURS, SHAPES)]
    every = [Scene(*parts) for parts in product(things, OPPOSITE, things)]
    held = [hashlib.sha256(scene.caption.encode()).digest()[0] % 5 == 0 for scene in every]
    return (
        [scene for scene, out in zip(every, held, strict=True) if not out],
        [scene for scene, out in zip(every, held, strict=True) if out],
    )


def draw(scene: Scene, generator: numpy.random.Generator) -> Pixels:
    """Return an image of `scene`, [SIDE, SIDE, 3]; place, shade and noise come from `generator`."""
    image = generator.normal(generator.integers(90, 160), 5, (SIDE, SIDE, 3))
    along = (generator.integers(12, 16), generator.integers(41, 45))
    for thing, place in zip((scene.first, scene.second), along, strict=True):
        across = generator.integers(14, 42)
        x, y = (place, across) if scene.relation == "left of" else (across, place)
        shade = 1 + generator.uniform(-0.1, 0.1)
        image[_mask(thing, int(x), int(y))] = numpy.array(COLOURS[thing.colour]) * shade
    return image.clip(0, 255).astype(numpy.uint8)


def _mask(thing: Thing, x: int, y: int) -> NDArray[numpy.bool_]:
    rows, columns = numpy.ogrid[0:SIDE, 0:SIDE]
    down, right, radius = rows - y, columns - x, SIZES[thing.size]
    if thing.shape == "circle":
        return numpy.asarray(down**2 + right**2 <= radius**2)
    if thing.shape == "square":
        return numpy.asarray((abs(down) <= radius) & (abs(right) <= radius))
    return numpy.asarray((abs(right) <= (down + radius) / 2) & (down <= radius))
