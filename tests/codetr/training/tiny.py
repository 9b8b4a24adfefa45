"""A detector and pictures so small that training them takes seconds."""

import torch

from codetr.presets import CoDinoConfig, SwinConfig
from codetr.training.pictures import Batch
from codetr.training.targets import Targets

CONFIG = CoDinoConfig(
    backbone=SwinConfig(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4),
    num_queries=20,
    num_classes=3,
    encoder_layers=1,
    decoder_layers=2,
    encoder_ffn=64,
    decoder_ffn=64,
    embed_dims=32,
    num_heads=2,
    max_per_image=10,
)
SIDE, PICTURES = 64, 4


def make_batch(split, *, seed, sizes, padded, device, resized=None):
    """Rectangles of three colours on grey; the same pictures for the same seed."""
    del split, sizes, padded, resized
    random = torch.Generator().manual_seed(seed)
    images = torch.full((PICTURES, 3, SIDE, SIDE), 128.0)
    masks = torch.zeros(PICTURES, SIDE, SIDE)
    masks[-1, :, 48:] = 1
    labels, boxes = [], []
    for picture in range(PICTURES):
        count = int(torch.randint(1, 3, (), generator=random))
        corners = torch.randint(0, 8, (count, 2), generator=random) * 3.0
        corners[:, 0] += torch.arange(count) * 16
        size = torch.randint(12, 24, (count, 2), generator=random)
        box = torch.cat((corners, corners + size), dim=1)
        box = box.clamp(max=48)
        label = torch.randint(0, 3, (count,), generator=random)
        for colour, (left, top, right, bottom) in zip(label, box.int(), strict=True):
            images[picture, :, top:bottom, left:right] = 0
            images[picture, colour, top:bottom, left:right] = 255
        labels.append(label)
        boxes.append(box)
    images *= 1 - masks[:, None]
    return Batch(images.to(device), masks.to(device), labels, boxes)


def targets(*pictures):
    """From (label, cx, cy, w, h) rows of each picture."""
    tables = [torch.tensor(rows).reshape(-1, 5) for rows in pictures]
    boxes = []
    for table in tables:
        centre, size = table[:, 1:].split(2, dim=1)
        boxes.append(torch.cat((centre - size / 2, centre + size / 2), dim=1))
    masks = torch.zeros(len(tables), 1, 1)
    return Targets.from_lists([table[:, 0].long() for table in tables], boxes, masks)
