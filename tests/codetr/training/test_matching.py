"""Who answers for which box: Hungarian matching, noise, tokens."""

import itertools

import pytest
import torch

from codetr.geometry import Geometry
from codetr.model import Encoded
from codetr.training.boxes import overlaps, to_centres, to_corners
from codetr.training.denoising import BOX_NOISE, make_noise, visible
from codetr.training.dense import assign_tokens
from codetr.training.losses import denoising_pairs
from codetr.training.matching import match, matching_costs
from codetr.training.targets import Targets
from tests.codetr.training.tiny import targets

ONE = [[1, 0.5, 0.5, 0.2, 0.2]]
TWO = [[0, 0.2, 0.3, 0.2, 0.4], [2, 0.7, 0.6, 0.3, 0.1]]


def random_predictions(sets, batch, queries):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(sets, batch, queries, 3, generator=random)
    return logits, torch.rand(sets, batch, queries, 4, generator=random)


def test_formats_are_inverse_and_overlaps_are_the_known_ones():
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [4, 0, 6, 2], [1, 1, 1, 1]])
    assert torch.equal(to_corners(to_centres(boxes)), boxes)
    iou, giou = overlaps(boxes[0], boxes)
    assert iou.tolist() == pytest.approx([1, 1 / 7, 0, 0])
    assert giou.tolist() == pytest.approx([1, 1 / 7 - 2 / 9, -4 / 12, 0])
    assert overlaps(boxes[3], boxes[3])[1].isfinite()  # empty


def test_targets_are_relative_to_the_picture_inside_the_padding():
    masks = torch.zeros(2, 40, 80)
    masks[1, 20:] = 1
    masks[1, :, 40:] = 1
    box = torch.tensor([[10.0, 5, 30, 15]])
    made = Targets.from_lists([torch.tensor([7])] * 2, [box, box], masks)
    assert made.boxes[0, 0].tolist() == [0.25, 0.25, 0.25, 0.25]
    assert made.boxes[1, 0].tolist() == [0.5, 0.5, 0.5, 0.5]


def test_matching_has_the_least_total_cost():
    wanted = targets(TWO, [], ONE)
    logits, boxes = random_predictions(2, 3, 5)
    pairs = match(logits, boxes, wanted)
    costs = matching_costs(logits, boxes, wanted)
    assert len(pairs.sets) == 2 * 3
    for number, picture in itertools.product(range(2), range(3)):
        mine = (pairs.sets == number) & (pairs.pictures == picture)
        queries, rows = pairs.queries[mine], pairs.boxes[mine]
        count = wanted.counts[picture]
        assert sorted(rows.tolist()) == list(range(count))
        cost = costs[number, picture]
        least = min(
            sum(cost[query, row].item() for row, query in enumerate(chosen))
            for chosen in itertools.permutations(range(5), count)
        )
        assert cost[queries, rows].sum().item() == pytest.approx(least)


def test_a_perfect_prediction_is_matched():
    wanted = targets(TWO)
    boxes = torch.full((1, 1, 4, 4), 0.5)
    boxes[0, 0, [3, 1]] = wanted.boxes[0]
    pairs = match(torch.zeros(1, 1, 4, 3), boxes, wanted)
    assert dict(zip(pairs.boxes.tolist(), pairs.queries.tolist(), strict=True)) == {0: 3, 1: 1}


def test_the_right_class_decides_between_equal_boxes():
    wanted = targets(ONE)
    logits = torch.zeros(1, 1, 3, 3)
    logits[0, 0, 2, 1] = 3
    boxes = wanted.boxes.expand(1, 1, 3, 4)
    assert match(logits, boxes, wanted).queries.tolist() == [2]


def test_pictures_without_boxes_match_nothing():
    assert len(match(*random_predictions(2, 2, 5), targets([], [])).sets) == 0


# Denoising


def test_positives_stay_closer_than_negatives():
    wanted = targets(TWO, ONE)
    noise = make_noise(wanted, 3, torch.Generator().manual_seed(0))
    shape = 2, noise.groups, 2, 2  # picture, group, positive or negative, box
    moved = to_corners(noise.boxes.view(*shape, 4)) - to_corners(wanted.boxes)[:, None, None]
    half = wanted.boxes[:, None, None, :, 2:].repeat(1, 1, 1, 1, 2) / 2
    there = wanted.present()[:, None, None].expand(shape)
    relative = (moved.abs() / half)[there].view(-1, 4)
    kind = torch.tensor([0, 1])[:, None].expand(2, 2).expand(shape)[there]
    assert relative[kind == 0].max() <= BOX_NOISE + 1e-5
    assert relative[kind == 1].max() <= 2 * BOX_NOISE + 1e-5
    assert relative[kind == 1].min() >= BOX_NOISE - 1e-5
    wrong = noise.labels.view(shape) != wanted.labels[:, None, None]
    assert 0 < wrong[there].float().mean() < 0.4


def test_noise_is_the_generator_s_alone():
    made = [make_noise(targets(TWO), 3, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(made[0].boxes, made[1].boxes)
    assert not torch.equal(made[0].boxes, made[2].boxes)


def test_groups_see_themselves_and_what_is_matched():
    noise = make_noise(targets(TWO, ONE), 3, torch.Generator())
    seen = visible(5, noise)
    size = 4  # two rows, positive and negative
    assert len(seen) == 5 + noise.groups * size
    assert seen[:, :5].all()
    assert not seen[:5, 5:].any()  # or the boxes are given away
    rest = seen[5:, 5:]
    for group in range(noise.groups):
        span = slice(group * size, (group + 1) * size)
        assert rest[span, span].all()
        assert rest[span].sum() == size * size


def test_every_positive_answers_for_its_box():
    wanted = targets(TWO, [], ONE)
    noise = make_noise(wanted, 3, torch.Generator().manual_seed(0))
    pairs = denoising_pairs(wanted, 2, noise.boxes.shape[1])
    assert len(pairs.sets) == 2 * noise.groups * 3
    noisy = noise.boxes[pairs.pictures, pairs.queries]
    true = wanted.boxes[pairs.pictures, pairs.boxes]
    assert overlaps(to_corners(noisy), to_corners(true))[0].min() > 0.3


# The dense head


def encoded(size, masks=None):
    levels = tuple((size // stride, size // stride) for stride in (4, 8, 16))
    geometry = Geometry.from_masks(masks, (size, size), levels, torch.device("cpu"))
    return Encoded([], [], geometry, geometry.reference_points(), torch.empty(0))


def test_tokens_near_the_centre_on_the_level_of_the_size_answer():
    tokens = encoded(128)
    # 20 pixels: level 0, around token (8, 8) and its neighbours; 64 pixels: level 2.
    wanted = targets([[0, 34 / 128, 34 / 128, 20 / 128, 20 / 128], [1, 0.75, 0.75, 0.5, 0.5]])
    pairs, countable = assign_tokens(tokens, wanted)
    assert countable.all()
    level_0 = pairs.queries[pairs.boxes == 0]
    expected = {y * 32 + x for y, x in itertools.product((7, 8, 9), repeat=2)}
    assert set(level_0.tolist()) == expected
    level_2 = pairs.queries[pairs.boxes == 1] - (32 * 32 + 16 * 16)
    assert level_2.min() >= 0
    centre = tokens.reference[0, pairs.queries[pairs.boxes == 1]]
    assert (centre - 0.75).abs().max() < 1.5 / 8


def test_a_token_near_two_boxes_takes_the_smaller():
    wanted = targets([[0, 0.5, 0.5, 0.2, 0.2], [1, 0.5, 0.5, 0.15, 0.15]])
    pairs, _ = assign_tokens(encoded(128), wanted)
    assert set(pairs.boxes.tolist()) == {1}


def test_padding_answers_for_nothing_and_does_not_count():
    masks = torch.zeros(1, 128, 128)
    masks[:, :, 64:] = 1
    tokens = encoded(128, masks)
    pairs, countable = assign_tokens(tokens, targets([[0, 0.97, 0.5, 0.2, 0.2]]))
    assert len(pairs.queries) > 0
    assert countable[0, pairs.queries].all()
    assert countable.float().mean() == 0.5
