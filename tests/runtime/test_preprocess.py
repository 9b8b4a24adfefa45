from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.backend import ModelMetadata, ModelSpec
from runtime.errors import UserError
from runtime.preprocess import prepare_batch
from runtime.shapes import ShapeRange
from tests.runtime.tiny_model import CLASSES, MEAN, STD
from tests.synthetic_images import picture

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def spec(height, width, *, batch=None, has_mask=True, smallest=None):
    sizes = ShapeRange(smallest, (height, width)) if smallest else None
    of_pixels = (tuple(values.tolist()) for values in (MEAN, STD))
    metadata = ModelMetadata("tiny", "fp32", CLASSES, *of_pixels, sizes)
    return ModelSpec(height, width, batch, has_mask, metadata)


@pytest.mark.parametrize("case", ["swin_tiny_a", "swin_tiny_b_masked", "r50_small_a_masked"])
def test_normalising_and_padding_equal_the_original(case):
    golden = np.load(GOLDEN / f"{case}.npz")
    image = golden["image_rgb_u8"]
    h, w, _ = image.shape
    # The goldens are padded on two sides, which keep-ratio resizing never does: one at a time.
    for height, width in [(h, golden["input"].shape[3]), (golden["input"].shape[2], w)]:
        batch = prepare_batch([image], spec(height, width))
        np.testing.assert_array_equal(batch.batch_inputs, golden["input"][..., :height, :width])
        np.testing.assert_array_equal(batch.img_masks, golden["img_mask"][:, :height, :width])
        assert batch.scales == [(1, 1)]


# (h, w) -> (new h, new w) by mmcv.rescale_size((w, h), (2048, 1280)), in which the longer side
# of the picture is fitted into 2048 and the shorter into 1280.
@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((480, 640), (1280, 1707)),
        ((427, 640), (1280, 1919)),
        ((375, 500), (1280, 1707)),
        ((333, 500), (1280, 1922)),
        ((1080, 1920), (1152, 2048)),
        ((4000, 6000), (1280, 1920)),
    ],
)
def test_landscape_sizes_are_those_of_mmcv(size, resized):
    batch = prepare_batch([np.zeros((*size, 3), np.uint8)], spec(1280, 2048))
    assert tuple(int(n) for n in valid_size(batch.img_masks[0])) == resized
    assert batch.scales == [(resized[1] / size[1], resized[0] / size[0])]


def valid_size(mask):
    return (mask[:, 0] == 0).sum(), (mask[0] == 0).sum()


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((1, 1), (48, 48)),
        ((640, 480), (48, 36)),
        ((10000, 10), (48, 1)),
        ((10, 10000), (1, 64)),
        ((97, 101), (48, 50)),
    ],
)
def test_any_size_fits(size, resized):
    image = np.full((*size, 3), (200, 100, 50), np.uint8)
    batch = prepare_batch([image], spec(48, 64))
    new_h, new_w = resized
    assert valid_size(batch.img_masks[0]) == resized
    assert (batch.img_masks[0] == 0).sum() == new_h * new_w
    colour = (np.array([200, 100, 50], np.float32) - MEAN) / STD
    valid = batch.batch_inputs[0, :, :new_h, :new_w]
    np.testing.assert_array_equal(valid, np.broadcast_to(colour[:, None, None], valid.shape))
    assert not batch.batch_inputs[0][:, batch.img_masks[0] == 1].any()


# Within 64 to 128 x 64 to 160 pixels: (h, w) -> (H, W) of the input.
@pytest.mark.parametrize(
    ("size", "input_size"),
    [
        ((128, 160), (128, 160)),
        ((128, 128), (128, 128)),
        ((64, 160), (64, 160)),
        ((129, 160), (128, 160)),
        ((1000, 1000), (128, 128)),
        ((100, 130), (128, 160)),  # 123 x 160
        ((60, 100), (96, 160)),
        ((65, 160), (96, 160)),
        ((1, 1), (128, 128)),
        ((10, 10000), (64, 160)),
        ((10000, 10), (128, 64)),
    ],
)
def test_an_input_of_any_size_is_as_large_as_the_picture_in_whole_steps(size, input_size):
    image = picture(*size, seed=1)
    batch = prepare_batch([image], spec(128, 160, smallest=(64, 64)))
    assert batch.batch_inputs.shape == (1, 3, *input_size)
    fixed = prepare_batch([image], spec(128, 160))
    height, width = input_size
    np.testing.assert_array_equal(batch.batch_inputs, fixed.batch_inputs[..., :height, :width])
    np.testing.assert_array_equal(batch.img_masks, fixed.img_masks[:, :height, :width])
    assert batch.scales == fixed.scales
    assert fixed.img_masks.sum() - batch.img_masks.sum() == 128 * 160 - height * width


@pytest.mark.parametrize("batch", [None, 3])
def test_pictures_of_a_batch_share_the_size_that_holds_them_all(batch):
    images = [picture(40, 100, seed=2), picture(100, 60, seed=3)]  # 64 x 160 and 128 x 77
    found = prepare_batch(images, spec(128, 160, smallest=(64, 64), batch=batch))
    assert found.batch_inputs.shape == (batch or 2, 3, 128, 160)
    assert valid_size(found.img_masks[0]) == (64, 160)
    assert valid_size(found.img_masks[1]) == (128, 77)


def test_resize_is_cv2_bilinear():
    image = picture(30, 50, seed=2)
    batch = prepare_batch([image], spec(48, 64))
    resized = cv2.resize(image, (64, 38), interpolation=cv2.INTER_LINEAR)
    expected = ((resized.astype(np.float32) - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_array_equal(batch.batch_inputs[0, :, :38], expected)


def test_without_mask_the_picture_is_stretched():
    batch = prepare_batch([picture(30, 50, seed=2)], spec(48, 64, has_mask=False))
    assert batch.scales == [(64 / 50, 48 / 30)]
    assert not batch.img_masks.any()
    assert batch.batch_inputs[0, :, -1].any()
    assert batch.batch_inputs[0, :, :, -1].any()


def test_rows_are_independent_and_a_fixed_batch_is_filled():
    images = [picture(30, 50, seed=2), picture(50, 30, seed=3)]
    batch = prepare_batch(images, spec(48, 64, batch=4))
    assert batch.batch_inputs.shape == (4, 3, 48, 64)
    assert batch.img_masks.shape == (4, 48, 64)
    assert len(batch.scales) == 2
    for row, image in enumerate(images):
        alone = prepare_batch([image], spec(48, 64))
        np.testing.assert_array_equal(batch.batch_inputs[row], alone.batch_inputs[0])
        np.testing.assert_array_equal(batch.img_masks[row], alone.img_masks[0])
    assert not batch.batch_inputs[2:].any()
    assert not batch.img_masks[2:].any()  # a row all padding would divide by a valid size of 0


def test_views_such_as_a_reversed_channel_order_work():
    image = picture(30, 50, seed=2)
    view = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    expected = prepare_batch([image], spec(48, 64)).batch_inputs
    np.testing.assert_array_equal(prepare_batch([view], spec(48, 64)).batch_inputs, expected)


def test_wrong_arrays_are_refused():
    with pytest.raises(UserError, match="got float64"):
        prepare_batch([np.zeros((4, 4, 3))], spec(48, 64))
