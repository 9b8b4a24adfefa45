import numpy as np
import pytest

from runtime.detections import Detections
from runtime.draw import class_colour, draw_detections


def detections(boxes, classes=("cat", "dog")):
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4),
        np.linspace(0.9, 0.5, n).astype(np.float32),
        np.arange(n) % len(classes),
        classes,
    )


def test_boxes_have_the_colour_of_their_class():
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_detections(image, detections([[20, 50, 120, 180], [150, 60, 280, 190]]))
    assert tuple(drawn[100, 20]) == class_colour(0)
    assert tuple(drawn[120, 280]) == class_colour(1)
    assert not drawn[150, 70].any()  # inside a box
    assert not image.any()  # the input is not drawn into


def test_best_box_is_on_top():
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_detections(image, detections([[20, 50, 120, 180], [20, 50, 120, 180]]))
    assert tuple(drawn[100, 20]) == class_colour(0)


def test_nothing_to_draw():
    image = np.full((20, 30, 3), 7, np.uint8)
    np.testing.assert_array_equal(draw_detections(image, detections([])), image)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (1000, 2)])
def test_boxes_at_the_border_of_odd_pictures(shape):
    h, w = shape
    image = np.zeros((h, w, 3), np.uint8)
    drawn = draw_detections(image, detections([[0, 0, w, h], [-5, -5, w + 5, h + 5]]))
    assert drawn.shape == image.shape
    assert drawn.any()


def test_line_width_goes_with_the_picture():
    def painted_columns(height, width):
        image = np.zeros((height, width, 3), np.uint8)
        box = [width * 0.25, height * 0.25, width * 0.75, height * 0.75]
        row = draw_detections(image, detections([box]))[int(height * 0.6)]
        return int(row.any(axis=1).sum())

    assert painted_columns(1750, 2000) > 2 * painted_columns(350, 400)


def test_label_stays_inside_the_picture():
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_detections(image, detections([[290, 1, 299, 40]], classes=("traffic light",)))
    assert tuple(drawn[2, 250]) == class_colour(0)  # left of the box: its label, moved inside


def test_colours_differ_within_coco():
    assert len({class_colour(label) for label in range(80)}) == 80
    assert class_colour(17) == class_colour(17)
