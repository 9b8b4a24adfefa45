"""What every step does, as a function of its number alone: pictures, sizes, learning rate.

Nothing here remembers anything, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

LEARNING_RATE = 7e-4
WARM_UP = 500
"""Steps until the learning rate is reached; a tenth of the run if that is shorter."""
FINAL = 0.01
"""Share of the learning rate that the cosine ends at."""

STANDARD = 320 * 320
"""Pixels of the input that has as many pictures as the batch's size says."""
INPUTS = {(320, 320): 6, (512, 512): 2, (640, 640): 1}
"""Sizes (H, W) and how often they come: mostly small, and few, as each is compiled once."""
PADDED = (0.6, 1.25)
"""Sides that pictures are padded to, as part of the input's: detectors see pictures resized."""
SHRINK = 0.75
"""A picture's side is at least this part of what it is padded to."""


@dataclass(frozen=True)
class Step:
    """The pictures of one step."""

    seed: int
    """Of everything random in the step."""
    sizes: list[tuple[int, int]]
    """Height and width of each picture."""
    padded: tuple[int, int]
    """H and W that they are padded to."""
    resized: tuple[int, int]
    """H and W that all of that is resized to, the network's input."""


def plan_step(step: int, *, seed: int, batch: int) -> Step:
    """The pictures of step ``step`` of the run with this seed.

    Args:
        step: from 0.
        seed: of the run.
        batch: pictures at 320 x 320; other sizes have as many as hold the same number of pixels.
    """
    of_step = seed * 2**32 + step
    chance = random.Random(of_step)
    resized = chance.choices(list(INPUTS), weights=list(INPUTS.values()))[0]
    count = max(1, round(batch * STANDARD / (resized[0] * resized[1])))
    share = chance.uniform(*PADDED)
    padded = round(share * resized[0]), round(share * resized[1])
    return Step(of_step, random_sizes(chance, count, padded), padded, resized)


def random_sizes(
    chance: random.Random, count: int, padded: tuple[int, int]
) -> list[tuple[int, int]]:
    """Heights and widths of ``count`` pictures that will be padded to H and W."""
    low = [math.ceil(SHRINK * side) for side in padded]
    return [
        (chance.randint(low[0], padded[0]), chance.randint(low[1], padded[1])) for _ in range(count)
    ]


def learning_rate(step: int, total: int) -> float:
    """Linear warm-up, then half a cosine to nearly nothing at ``total``."""
    warm_up = min(WARM_UP, total // 10)
    if step < warm_up:
        return LEARNING_RATE * (step + 1) / warm_up
    cosine = (1 + math.cos(math.pi * (step - warm_up) / (total - warm_up))) / 2
    return LEARNING_RATE * (FINAL + (1 - FINAL) * cosine)
