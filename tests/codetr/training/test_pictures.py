"""Pictures of digits: their bits, boxes, padding and files."""

import json
from collections import Counter

import cv2
import pytest
import torch

from codetr.training.dataset import ANNOTATIONS, SIDES, main, pictures
from codetr.training.digits import CLASSES, TEST_DIGITS, digit_indices, digits
from codetr.training.layout import MAX_DIGITS, Layout, random_layout
from codetr.training.pictures import _compose, make_batch
from codetr.training.sprites import atlas

CPU = torch.device("cpu")
SIZES = [(256, 256), (300, 260), (277, 391), (256, 333)]
PADDED = (310, 400)


@pytest.fixture(scope="module")
def batch():
    return make_batch("train", seed=7, sizes=SIZES, padded=PADDED, device=CPU)


@pytest.fixture(scope="module")
def many():
    return [
        make_batch("train", seed=seed, sizes=[(256, 300)] * 16, padded=(256, 300), device=CPU)
        for seed in range(6)
    ]


def tensors(batch):
    return [batch.images, batch.masks, *batch.labels, *batch.boxes]


def test_same_seed_gives_the_same_bits(batch):
    again = make_batch("train", seed=7, sizes=SIZES, padded=PADDED, device=CPU)
    assert all(a.equal(b) for a, b in zip(tensors(batch), tensors(again), strict=True))


@pytest.mark.parametrize("other", [("train", 8), ("test", 7), ("train", 7 + 2**32)])
def test_another_seed_or_split_is_another_layout(batch, other):
    different = make_batch(other[0], seed=other[1], sizes=SIZES, padded=PADDED, device=CPU)
    # The background too: far more than a grain's difference, and in most pixels.
    apart = (batch.images - different.images).abs()[0, :, :256, :256]
    assert apart.mean() > 10


def test_no_digit_is_in_both_splits():
    labels = torch.arange(1797) % len(CLASSES)
    test, train = (digit_indices(split, labels).tolist() for split in ("test", "train"))
    assert Counter(labels[test].tolist()) == dict.fromkeys(range(10), TEST_DIGITS)
    assert sorted(test + train) == list(range(1797))


def test_splits_hold_what_they_say():
    from sklearn.datasets import load_digits

    data = load_digits()
    for split in ("train", "test"):
        ink, labels = digits(split)
        index = digit_indices(split, torch.from_numpy(data.target))
        assert (ink * 16).numpy().astype(int).tolist() == data.images[index].tolist()
        assert labels.tolist() == data.target[index].tolist()
        assert atlas(split, CPU).labels.equal(labels)
        assert min(Counter(labels.tolist()).values()) > 0.09 * len(labels)


def test_shapes_and_types(batch):
    assert batch.images.shape == (4, 3, *PADDED)
    assert batch.masks.shape == (4, *PADDED)
    assert batch.images.dtype == batch.masks.dtype == torch.float32
    for labels, boxes in zip(batch.labels, batch.boxes, strict=True):
        assert labels.dtype == torch.int64
        assert boxes.dtype == torch.float32
        assert boxes.shape == (len(labels), 4)


def test_padding_is_zero_and_only_that_is_masked(batch):
    for image, mask, (h, w) in zip(batch.images, batch.masks, SIZES, strict=True):
        expected = torch.ones(PADDED)
        expected[:h, :w] = 0
        assert mask.equal(expected)
        assert not image[:, mask == 1].any()
        assert image[:, :h, :w].std() > 1


def test_resized_pictures_keep_their_boxes(batch):
    size = (PADDED[0] * 2, PADDED[1] * 3)
    large = make_batch("train", seed=7, sizes=SIZES, padded=PADDED, device=CPU, resized=size)
    assert large.images.shape == (len(SIZES), 3, *size)
    for picture, (h, w) in enumerate(SIZES):
        assert (large.masks[picture] == 0).sum() == 6 * h * w
        wanted = batch.boxes[picture] * torch.tensor([3.0, 2.0, 3.0, 2.0])
        torch.testing.assert_close(large.boxes[picture], wanted)
        assert torch.equal(large.labels[picture], batch.labels[picture])
    # Two by three pixels average to what each was, but for their neighbours' share.
    small = torch.nn.functional.avg_pool2d(large.images, (2, 3))
    assert (small - batch.images)[:, :, :250, :250].abs().mean() < 3  # 7 if a pixel off
    assert not (large.images * large.masks[:, None]).any()


def test_values_are_whole_numbers_of_a_byte(batch):
    assert batch.images.equal(batch.images.byte().float())


def test_boxes_lie_inside_the_picture(batch):
    for boxes, (h, w) in zip(batch.boxes, SIZES, strict=True):
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, 2:] <= torch.tensor((w, h))).all()


def test_all_classes_counts_and_sizes_occur(many):
    counts = Counter(len(labels) for batch in many for labels in batch.labels)
    labels = torch.cat([labels for batch in many for labels in batch.labels])
    boxes = torch.cat([boxes for batch in many for boxes in batch.boxes])
    heights = boxes[:, 3] - boxes[:, 1]
    assert set(labels.tolist()) == set(range(len(CLASSES)))
    assert counts[0] > 0
    assert 8 <= max(counts) <= MAX_DIGITS
    assert heights.min() < 16
    assert heights.max() > 120


def layout_of(*, sprites, heights, centres, thresholds=0.45):
    """One picture with upright digits, nearest first."""
    count = len(sprites)
    half = torch.tensor(heights) * 0.625  # a field is 10 cells, a digit 8 of them
    return Layout(
        present=torch.ones((1, count), dtype=torch.bool),
        is_digit=torch.ones((1, count), dtype=torch.bool),
        sprites=torch.tensor([sprites]),
        heights=torch.tensor([heights]),
        centres=torch.tensor([centres]),
        to_sprite=torch.diag_embed((1 / half)[None, :, None].expand(-1, -1, 2)),
        thresholds=torch.full((1, count), thresholds),
        contrasts=torch.ones(1, count),
        tints=torch.zeros(1, count, 3),
    )


def drawn(layout, size=(200, 240)):
    """The digits on black: (H, W) brightness, boxes and which were kept."""
    background, valid = torch.zeros(1, 3, *size), torch.ones(1, *size)
    image, boxes, kept = _compose(layout, atlas("train", CPU), background, valid)
    return image[0, 0], boxes[0], kept[0].tolist()


@pytest.mark.parametrize("height", [12.0, 40.0, 160.0])
@pytest.mark.parametrize("sprite", [0, 5, 100])
def test_box_is_tight_around_the_ink(sprite, height):
    layout = layout_of(sprites=[sprite], heights=[height], centres=[[120.0, 101.0]])
    image, boxes, kept = drawn(layout)
    ink = image > image.max() / 2
    ys, xs = ink.nonzero(as_tuple=True)
    assert kept == [True]
    whole = torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    assert (boxes[0] - whole).abs().max() <= 0.5
    assert boxes[0, 3] - boxes[0, 1] == pytest.approx(height, abs=0.15 * height + 1)


@pytest.mark.parametrize("height", [12.0, 30.0])
def test_box_is_finer_than_pixels(height):
    """The same digit eight times as large has eight times the box."""
    errors = []
    for sprite in range(0, 1400, 100):
        places = [30.3, 25.6], [8 * 30.3, 8 * 25.6]
        small, large = (
            layout_of(sprites=[sprite], heights=[scale * height], centres=[place])
            for scale, place in zip((1, 8), places, strict=True)
        )
        _, found, _ = drawn(small, size=(60, 60))
        _, exact, _ = drawn(large, size=(480, 480))
        errors.append((found - exact / 8).abs())
    assert torch.cat(errors).max() < 0.4
    assert torch.cat(errors).mean() < 0.15  # whole pixels would be 0.25 off


def test_ink_is_where_the_handwriting_has_it():
    ink, _ = digits("train")
    layout = layout_of(sprites=[3], heights=[80.0], centres=[[120.0, 100.0]])
    image, *_ = drawn(layout)
    cells = image[60:140, 80:160].unflatten(0, (8, 10)).unflatten(-1, (8, 10)).mean((1, 3))
    alike = torch.corrcoef(torch.stack((cells.flatten(), ink[3].flatten())))
    assert alike[0, 1] > 0.9


def test_edges_are_crisp_at_every_size():
    for height in (40.0, 160.0):
        layout = layout_of(sprites=[0], heights=[height], centres=[[120.0, 100.0]])
        image, *_ = drawn(layout)
        share = image / image.max()
        between = ((share > 0.1) & (share < 0.9)).sum()
        assert between < 12 * height  # some lines of a pixel, not areas


def test_a_digit_at_the_edge_has_its_box_cut():
    layout = layout_of(sprites=[0], heights=[100.0], centres=[[120.0, 30.0]])
    _, boxes, kept = drawn(layout)
    assert kept == [True]
    assert boxes[0, 1] == 0


def test_a_hidden_digit_is_left_away():
    same = [[120.0, 100.0]] * 2
    _, _, kept = drawn(layout_of(sprites=[0, 0], heights=[80.0, 80.0], centres=same))
    assert kept == [True, False]
    image, _, kept = drawn(layout_of(sprites=[0], heights=[80.0], centres=[[120.0, -30.0]]))
    assert kept == [False]
    assert not image.any()


def test_boxes_hold_only_what_shows():
    # The second digit is partly under the first, which does not care. A one has no hole to see
    # it through.
    one = int((digits("train")[1] == 1).nonzero()[0])
    alone = drawn(layout_of(sprites=[one], heights=[100.0], centres=[[120.0, 100.0]]))
    centres = [[120.0, 100.0], [150.0, 100.0]]
    under = drawn(layout_of(sprites=[one, one], heights=[100.0, 100.0], centres=centres))
    assert under[2] == [True, True]
    assert under[1][0].equal(alone[1][0])
    shifted = alone[1][0] + torch.tensor([30.0, 0, 30, 0])
    assert under[1][1, 0] > shifted[0]
    assert under[1][1, 2] == shifted[2]


def test_turned_digits_stay_apart():
    generator = torch.Generator().manual_seed(0)
    layout = random_layout(atlas("train", CPU), [(400, 400)] * 50, generator)
    up = torch.linalg.inv(layout.to_sprite) @ torch.tensor((0.0, -1.0))
    steepness = torch.atan2(up[..., 0].abs(), -up[..., 1]).rad2deg()
    assert 40 < steepness.max() < 50  # 30 degrees and the shear: a 6 is no 9


def test_written_folder_is_coco(tmp_path):
    folder = tmp_path / "new" / "set"
    assert main(["--count", "12", "--seed", "4", "-o", str(folder)]) == 0
    content = json.loads((folder / ANNOTATIONS).read_text())
    images = {image["id"]: image for image in content["images"]}
    assert len(images) == 12
    assert [(c["id"], c["name"]) for c in content["categories"]] == [
        (index + 1, name) for index, name in enumerate("0123456789")
    ]
    identifiers = [annotation["id"] for annotation in content["annotations"]]
    assert len(set(identifiers)) == len(identifiers) > 12
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        x, y, w, h = annotation["bbox"]
        assert annotation["area"] == w * h > 0
        assert min(x, y) >= 0
        assert x + w <= image["width"]
        assert y + h <= image["height"]
        assert annotation["category_id"] in range(1, 11)
        assert annotation["iscrowd"] == 0
    expected = list(pictures("test", 12, 4))
    for image, picture in zip(content["images"], expected, strict=True):
        stored = cv2.cvtColor(cv2.imread(str(folder / image["file_name"])), cv2.COLOR_BGR2RGB)
        assert (stored == picture.image).all()
        assert stored.shape[:2] == (image["height"], image["width"])
        assert all(SIDES[0] <= side <= SIDES[1] for side in stored.shape[:2])
    labels = [label for picture in expected for label in picture.labels]
    assert labels == [annotation["category_id"] - 1 for annotation in content["annotations"]]
    assert {path.name for path in folder.parent.iterdir()} == {"set"}


def test_a_set_begins_like_a_smaller_one():
    small, large = list(pictures("test", 3, 1)), list(pictures("test", 5, 1))
    assert all((a.image == b.image).all() for a, b in zip(small, large[:3], strict=True))


def test_sheet(tmp_path):
    assert main(["--count", "5", "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (2 * 648, 4 * 648, 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "nothing to write"),
        (["-o", "{}/set", "--count", "0"], "--count is 0"),
        (["-o", "{}"], "is there already"),
        (["-o", "{}/file/set"], "cannot write"),
        (["--sheet", "{}/sheet.jpg"], "PNG"),
        (["--sheet", "{}/nowhere/sheet.png", "--count", "1"], "cannot write"),
    ],
)
def test_mistakes_are_told_in_one_line(options, says, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([option.format(tmp_path) for option in options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_stays_of_a_set_that_failed(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("codetr.training.dataset.write_png", fail)
    assert main(["--count", "1", "-o", str(tmp_path / "set")]) == 130
    assert not list(tmp_path.iterdir())
