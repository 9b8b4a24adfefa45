"""Pictures of digits made from a seed, many at once and all on one device.

Letters: B pictures, K shapes in each, H and W of the padded input.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from codetr.training.backgrounds import random_backgrounds
from codetr.training.degradation import BLOCK, degraded
from codetr.training.digits import Split
from codetr.training.layout import Layout, random_layout
from codetr.training.sprites import CELLS, SIDE, Atlas, atlas

MIN_VISIBLE = 0.7
"""A digit that shows less of its ink is left away, and what it would have covered shows: it could
not be told from others."""
_INK = 0.5
"""Opacity at the edge of a shape."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Batch:
    """Pictures and what is in them."""

    images: Tensor
    """(B, 3, H, W) float32, RGB 0 to 255, whole numbers unless resized; zeros where padded."""
    masks: Tensor
    """(B, H, W) float32, 0 picture and 1 padding (right and bottom)."""
    labels: list[Tensor]
    """Of each picture, (n,) int64."""
    boxes: list[Tensor]
    """Of each picture, (n, 4) float32: x1 y1 x2 y2 in pixels around the ink that shows."""


def make_batch(
    split: Split,
    *,
    seed: int,
    sizes: Sequence[tuple[int, int]],
    padded: tuple[int, int],
    device: torch.device,
    resized: tuple[int, int] | None = None,
) -> Batch:
    """Make a picture for each (h, w) of ``sizes``.

    The same arguments give the same bits on the same device; on others the last bits may differ.
    The splits differ in all.

    Args:
        split: whose digits.
        seed: any whole number.
        sizes: height and width of each picture.
        padded: H and W, no smaller than any picture.
        device: where everything big is made.
        resized: H and W that pictures and padding are resized to, as before a detector. Values are
            no whole numbers then.
    """
    # Mixed down to 32 bits: of a seed for the CPU, PyTorch ignores the others.
    mixed = random.Random(f"{split} {seed}").getrandbits(32)
    generator = torch.Generator().manual_seed(mixed)
    shapes = atlas(split, device)
    layout = random_layout(shapes, sizes, generator)
    # Whole blocks, for the noise of JPEG.
    canvas = (-padded[0] % BLOCK + padded[0], -padded[1] % BLOCK + padded[1])
    valid = _valid(sizes, canvas, device)
    background = random_backgrounds(len(sizes), canvas, device, generator)
    images, boxes, kept = _compose(layout.to(device), shapes, background, valid)
    images = degraded(images, generator) * valid[:, None]
    images, masks = images[..., : padded[0], : padded[1]], 1 - valid[:, : padded[0], : padded[1]]
    if resized:
        images, masks, boxes = _resized(images, masks, boxes, resized)

    kept = kept.cpu()  # the only time that the device is waited for
    chosen = (kept & layout.is_digit).flatten().nonzero()[:, 0]
    sprites = layout.sprites.flatten()[chosen].to(device)
    counts = (kept & layout.is_digit).sum(1).tolist()
    return Batch(
        images.contiguous(),
        masks,
        list(shapes.labels[sprites].split(counts)),
        list(boxes.flatten(0, 1)[chosen.to(device)].split(counts)),
    )


def _resized(
    images: Tensor, masks: Tensor, boxes: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Resize all to H and W; what is half padding is padding."""
    height, width = masks.shape[1:]
    scale = torch.tensor((size[1] / width, size[0] / height) * 2)
    masks = F.interpolate(masks[:, None], size, mode="nearest-exact")[:, 0]
    images = F.interpolate(images, size, mode="bilinear") * (1 - masks)[:, None]
    return images, masks, boxes * scale.to(boxes.device, non_blocking=True)


def _valid(
    sizes: Sequence[tuple[int, int]], canvas: tuple[int, int], device: torch.device
) -> Tensor:
    """(B, H, W) float32: 1 picture, 0 padding."""
    heights, widths = torch.tensor(sizes).to(device, non_blocking=True).unbind(1)
    rows = torch.arange(canvas[0], device=device) < heights[:, None]
    columns = torch.arange(canvas[1], device=device) < widths[:, None]
    return (rows[:, :, None] & columns[:, None]).float()


def _compose(
    layout: Layout, shapes: Atlas, background: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Lay the shapes over the background, nearest first, for then what shows of each is known.

    Returns:
        (B, 3, H, W) pictures, (B, K, 4) boxes around what shows, (B, K) bool which show enough.
    """
    sprites = shapes.fields[layout.sprites]  # (B, K, SIDE, SIDE)
    thresholds, pixels = layout.thresholds, layout.cell_sides()
    areas = _opacity(sprites, thresholds[..., None, None], pixels[..., None, None]).sum((-1, -2))
    areas *= (pixels * CELLS / SIDE) ** 2
    needed = torch.where(layout.is_digit, MIN_VISIBLE, 0.0) * areas
    colours = _colours(layout, background, valid)
    rows_of, columns_of = _lines(layout, (background.shape[-2], background.shape[-1]))

    uncovered = valid.clone()
    picture = torch.zeros_like(background)
    kept, rows, columns = [], [], []
    for k in range(sprites.shape[1]):
        grid = rows_of[:, k, :, None] + columns_of[:, k, None]  # (B, H, W, 2)
        field = F.grid_sample(sprites[:, k : k + 1], grid, align_corners=False)[:, 0]
        opacity = _opacity(field, thresholds[:, k, None, None], pixels[:, k, None, None])
        visible = opacity * uncovered  # (B, H, W)
        keep = layout.present[:, k] & (visible.sum((1, 2)) >= needed[:, k])
        visible *= keep[:, None, None]
        uncovered -= visible
        picture.addcmul_(visible[:, None], colours[:, k, :, None, None])
        rows.append(visible.amax(2))
        columns.append(visible.amax(1))
        kept.append(keep & (rows[-1].amax(1) > _INK))
    picture.addcmul_(uncovered[:, None], background)
    top, bottom = _extent(torch.stack(rows, dim=1))
    left, right = _extent(torch.stack(columns, dim=1))
    boxes = torch.stack((left, top, right, bottom), dim=-1)
    return picture, boxes, torch.stack(kept, dim=1)


def _opacity(field: Tensor, threshold: Tensor, pixels: Tensor) -> Tensor:
    """0 to 1, with an edge that is one pixel wide, as a field rises by 1 in a cell.

    Args:
        field: heights.
        threshold: of the ink.
        pixels: along a cell's side.
    """
    return ((field - threshold) * pixels + 0.5).clamp(0, 1)


def _extent(profile: Tensor) -> tuple[Tensor, Tensor]:
    """(..., n) highest opacity of each line -> where the ink begins and ends, in pixels.

    Finer than whole pixels: a box off by half of one would cost a small digit a tenth of its IoU.
    """
    return _begin(profile), profile.shape[-1] - _begin(profile.flip(-1))


def _begin(profile: Tensor) -> Tensor:
    """Where opacity, taken as linear between the centres of pixels, first reaches ``_INK``."""
    first = (profile > _INK).int().argmax(-1, keepdim=True)
    at, before = profile.gather(-1, first), F.pad(profile, (1, 0)).gather(-1, first)
    # Without ink there is no begin; the clamp keeps such lines finite.
    back = (at - _INK) / (at - before).clamp(min=1e-6)
    return (first + 0.5 - back).squeeze(-1)


def _lines(layout: Layout, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What rows (B, K, H, 2) and columns (B, K, W, 2) add to the place of a pixel in a field.

    By hand: ``affine_grid`` multiplies matrices, in TF32 where that is allowed.
    """
    to_sprite, centres = layout.to_sprite, layout.centres
    y, x = (torch.arange(length, device=centres.device) + 0.5 for length in size)
    rows = (y - centres[..., 1:])[..., None] * to_sprite[..., None, :, 1]
    columns = (x - centres[..., :1])[..., None] * to_sprite[..., None, :, 0]
    return rows, columns


def _colours(layout: Layout, background: Tensor, valid: Tensor) -> Tensor:
    """(B, K, 3): darker or brighter than the background around, by more where that is rough."""
    luma, half = (
        torch.tensor(values).to(background.device, non_blocking=True)
        for values in (_LUMA, (background.shape[-1] / 2, background.shape[-2] / 2))
    )
    where = (layout.centres / half - 1)[:, :, None]  # (B, K, 1, 2)
    coarse = F.adaptive_avg_pool2d(background, 32)
    around = F.grid_sample(coarse, where, align_corners=False, padding_mode="border")
    level = around[..., 0].mT @ luma  # (B, K)
    brightness = torch.einsum("bchw,c->bhw", background, luma)
    area = valid.sum((1, 2))
    mean = (brightness * valid).sum((1, 2)) / area
    variance = ((brightness - mean[:, None, None]).square() * valid).sum((1, 2)) / area
    contrast = layout.contrasts
    step = 30 + 0.8 * variance.sqrt()[:, None] + 150 * contrast.abs() ** 1.5
    sign = contrast.sign()
    beyond = ((level + sign * step) < 0) | ((level + sign * step) > 255)
    ink = level + torch.where(beyond, -sign, sign) * step
    tint = 60 * layout.tints
    tint = tint - (tint @ luma)[..., None]  # as bright as without
    return (ink[..., None] + tint).clamp(0, 255)
