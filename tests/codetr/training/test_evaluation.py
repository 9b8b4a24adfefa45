"""AP of a detector in training."""

import pytest
import torch

from codetr.training.evaluation import average_precision, held_out_batches
from codetr.training.pictures import make_batch
from tests.codetr.training.tiny import make_batch as make_rectangles

pytest.importorskip("pycocotools")
CPU = torch.device("cpu")


class Oracle(torch.nn.Module):
    """Finds what there is, moved by a share of the box's width."""

    class config:  # noqa: N801
        num_classes = 3

    def __init__(self, batches, shift):
        super().__init__()
        self.batches, self.shift = iter(batches), shift

    def forward(self, images, masks):
        del images, masks
        batch = next(self.batches)
        boxes = torch.nn.utils.rnn.pad_sequence(batch.boxes, batch_first=True)
        labels = torch.nn.utils.rnn.pad_sequence(batch.labels, batch_first=True)
        scores = (boxes[..., 2] > 0).float()
        boxes[..., 0::2] += self.shift * (boxes[..., 2:3] - boxes[..., 0:1])
        return boxes, scores, labels


def test_ap_of_perfect_and_of_moved_boxes():
    batches = [make_rectangles("test", seed=s, sizes=[], padded=(0, 0), device=CPU) for s in (0, 1)]

    def ap(shift):
        return average_precision(Oracle(batches, shift), batches, lambda batch: batch.images)

    assert ap(0) == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1})
    moved = ap(0.18)  # an IoU of 0.69: right for 4 of the 10 thresholds
    assert moved == pytest.approx({"ap": 0.4, "ap50": 1, "ap75": 0}, abs=0.03)


def test_held_out_pictures_are_the_same_every_time(monkeypatch):
    monkeypatch.setattr("codetr.training.evaluation.PICTURES", 2)
    monkeypatch.setattr("codetr.training.evaluation.BATCH", 1)
    first, second = held_out_batches(make_batch, CPU), held_out_batches(make_batch, CPU)
    assert len(first) == 2
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
