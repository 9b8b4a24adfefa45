from pathlib import Path

import numpy as np
import pytest

from runtime.postprocess import NMS_MODES, nms, rescale_boxes

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def arrays(boxes, scores, labels):
    return np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels, np.int64)


@pytest.mark.parametrize("unit", ["u0", "u1"])
def test_soft_nms_is_bit_equal_to_mmcv(unit):
    golden = np.load(GOLDEN / "softnms_unit.npz")
    boxes = golden[f"{unit}_boxes"]
    kept, scores = nms(boxes, golden[f"{unit}_scores"], golden[f"{unit}_labels"], mode="soft")
    np.testing.assert_array_equal(kept, golden[f"{unit}_keep"])
    np.testing.assert_array_equal(scores, golden[f"{unit}_dets"][:, 4])
    np.testing.assert_array_equal(boxes[kept], golden[f"{unit}_dets"][:, :4])


@pytest.mark.parametrize("case", ["swin_tiny_a", "swin_tiny_b_masked", "r50_small_a_masked"])
def test_soft_nms_of_whole_models(case):
    golden = np.load(GOLDEN / f"{case}.npz")
    boxes, scores, labels = (golden[f"prenms_{name}"] for name in ("boxes", "scores", "labels"))
    kept, new_scores = nms(boxes, scores, labels, mode="soft")
    np.testing.assert_array_equal(labels[kept], golden["final_labels"])
    np.testing.assert_allclose(new_scores, golden["final_scores"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(boxes[kept], golden["final_boxes"], rtol=0, atol=1e-5)


def soft_nms_one_by_one(boxes, scores, iou_threshold, min_score):
    """The algorithm of mmcv's ``softnms_cpu`` for one class, in scalars: slow and obvious."""
    rows = [
        (i, *map(np.float32, (*box, score)))
        for i, (box, score) in enumerate(zip(boxes, scores, strict=True))
    ]
    done = []
    while rows:
        best = max(range(len(rows)), key=lambda position: rows[position][-1])
        rows[0], rows[best] = rows[best], rows[0]
        index, x1, y1, x2, y2, score = rows.pop(0)
        done.append((index, score))
        position = 0
        while position < len(rows):
            other, ox1, oy1, ox2, oy2, other_score = rows[position]
            width = max(np.float32(0), min(x2, ox2) - max(x1, ox1))
            height = max(np.float32(0), min(y2, oy2) - max(y1, oy1))
            inter = width * height
            iou = inter / ((x2 - x1) * (y2 - y1) + (ox2 - ox1) * (oy2 - oy1) - inter)
            if iou >= np.float32(iou_threshold):
                other_score *= 1 - iou
            rows[position] = (other, ox1, oy1, ox2, oy2, other_score)
            if other_score < np.float32(min_score):
                rows[position] = rows[-1]
                rows.pop()
            else:
                position += 1
    return done


@pytest.mark.parametrize("seed", range(5))
def test_soft_nms_decides_equal_scores_by_position_as_mmcv(seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 4, (60, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 4, (60, 2))], 1).astype(np.float32)
    scores = (rng.integers(1, 5, 60) / 5).astype(np.float32)  # four values: many are equal
    kept, new_scores = nms(
        boxes, scores, np.zeros(60, np.int64), mode="soft", iou_threshold=0.3, min_score=0.1
    )
    expected = soft_nms_one_by_one(boxes, scores, 0.3, 0.1)
    assert len(expected) < 60
    assert list(zip(kept.tolist(), new_scores, strict=True)) == expected


# IoU of the first two boxes: 9 / 10 = 0.9; the third overlaps none.
BOXES = [[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]


def test_soft_nms_decays_and_sorts_again():
    kept, scores = nms(*arrays(BOXES, [0.9, 0.8, 0.5], [0, 0, 0]), mode="soft")
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.08], rtol=1e-6)


def test_soft_nms_drops_below_min_score():
    kept, _ = nms(*arrays(BOXES, [0.9, 0.009, 0.5], [0, 0, 0]), mode="soft")
    assert kept.tolist() == [0, 2]
    kept, _ = nms(*arrays(BOXES, [0.9, 0.009, 0.5], [0, 0, 0]), mode="soft", min_score=1e-4)
    assert kept.tolist() == [0, 2, 1]


def test_hard_nms_drops_duplicates():
    kept, scores = nms(*arrays(BOXES, [0.5, 0.8, 0.9], [0, 0, 0]), mode="hard")
    assert kept.tolist() == [2, 1]
    np.testing.assert_array_equal(scores, np.array([0.9, 0.8], np.float32))
    kept, _ = nms(*arrays(BOXES, [0.5, 0.8, 0.9], [0, 0, 0]), mode="hard", iou_threshold=0.95)
    assert kept.tolist() == [2, 1, 0]


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_classes_do_not_see_each_other(mode):
    kept, scores = nms(*arrays(BOXES, [0.9, 0.8, 0.5], [0, 1, 0]), mode=mode)
    assert kept.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(scores, np.array([0.9, 0.8, 0.5], np.float32))


def test_none_keeps_all_in_order():
    kept, scores = nms(*arrays(BOXES, [0.1, 0.8, 0.9], [0, 0, 0]), mode="none")
    assert kept.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(scores, np.array([0.1, 0.8, 0.9], np.float32))


@pytest.mark.parametrize("mode", NMS_MODES)
def test_no_boxes(mode):
    kept, scores = nms(*arrays(np.zeros((0, 4)), [], []), mode=mode)
    assert kept.shape == scores.shape == (0,)


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_empty_boxes_are_kept(mode):
    point = [[5, 5, 5, 5]] * 2  # IoU 0 / 0
    kept, scores = nms(*arrays(point, [0.5, 0.4], [0, 0]), mode=mode)
    assert kept.tolist() == [0, 1]
    np.testing.assert_array_equal(scores, np.array([0.5, 0.4], np.float32))


@pytest.mark.parametrize("mode", NMS_MODES)
def test_inputs_are_not_changed(mode):
    boxes, scores, labels = arrays(BOXES, [0.8, 0.9, 0.5], [0, 0, 0])
    copies = boxes.copy(), scores.copy(), labels.copy()
    nms(boxes, scores, labels, mode=mode)
    for array, copy in zip((boxes, scores, labels), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_rescale_uses_one_factor_per_axis():
    boxes = rescale_boxes(np.array([[2, 3, 4, 6]], np.float32), (2.0, 3.0))
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[1, 1, 2, 2]]
