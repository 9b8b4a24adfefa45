"""Which detections count as the same."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.backend import RawOutputs
from trt_build.agreement import agreement

BOXES = np.array([[0, 0, 100, 100], [50, 50, 90, 80], [10, 20, 60, 90], [5, 5, 15, 15]], np.float32)
LABELS = np.array([3, 1, 3, 2])


def detections(scores=(0.9, 0.5, 0.3, 0.05), boxes=BOXES, labels=LABELS) -> RawOutputs:
    """One picture."""
    return RawOutputs(boxes[None], np.array([scores], np.float32), np.array(labels)[None])


def test_equal_detections_agree_in_any_order():
    order = [2, 0, 3, 1]
    shuffled = RawOutputs(*(array[:, order] for array in detections()))
    assert agreement(shuffled, detections()) == 1


@pytest.mark.parametrize(
    "found",
    [
        detections(labels=[3, 0, 3, 2]),
        detections(boxes=BOXES + np.array([[0], [2], [0], [0]], np.float32)),
        detections(scores=(0.9, 0.53, 0.3, 0.05)),
        detections(scores=(0.9, np.nan, 0.3, 0.05)),
    ],
    ids=["label", "box", "score", "NaN"],
)
def test_one_that_differs_is_missed_by_both_sides(found):
    # Two of three on either side; NaN is no detection, so there it is two of two.
    share = agreement(found, detections())
    assert share == (4 / 5 if np.isnan(found.scores).any() else 4 / 6)


def test_small_differences_do_not_count():
    found = detections(scores=(0.91, 0.49, 0.3, 0.05), boxes=BOXES + np.float32(0.2))
    assert agreement(found, detections()) == 1


def test_detections_of_low_score_do_not_count():
    assert agreement(detections(labels=[3, 1, 3, 0]), detections()) == 1


def test_a_score_on_either_side_of_the_threshold_is_no_difference():
    found, wanted = detections((0.9, 0.5, 0.095, 0)), detections((0.9, 0.5, 0.105, 0))
    assert agreement(found, wanted) == agreement(wanted, found) == 1


def test_without_confident_detections_the_best_count():
    weak = (0.08, 0.05, 0.01, 0.01)
    assert agreement(detections(weak), detections(weak)) == 1
    assert agreement(detections(weak, labels=[3, 0, 3, 2]), detections(weak)) == 0.5
    assert agreement(detections(weak, labels=[3, 1, 0, 0]), detections(weak)) == 1


def test_pictures_count_by_their_detections():
    found, wanted = (
        RawOutputs(*map(np.concatenate, zip(side, detections((0.9, 0, 0, 0)), strict=True)))
        for side in (detections(labels=[0, 0, 0, 0]), detections())
    )
    assert agreement(found, wanted) == 2 / 8


def test_nothing_but_nan_agrees_with_nothing():
    nothing = detections([np.nan] * 4)
    assert agreement(nothing, nothing) == 0
