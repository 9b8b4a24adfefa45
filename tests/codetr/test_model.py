"""The network's parts against slow and simple versions of themselves."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codetr.checkpoint import load_original
from codetr.deform_attn import ms_deform_attn
from codetr.geometry import Geometry
from codetr.model import CoDino
from codetr.original_names import from_original
from codetr.presets import PRESETS
from codetr.swin import relative_position_index
from codetr.window_attn import shift_mask
from tests.synthetic_checkpoint import state_of
from tests.synthetic_images import picture, to_input

SIZE = (96, 160)


@pytest.fixture(scope="module")
def model():
    model = CoDino(PRESETS["co_dino_swin_tiny"]).eval()
    load_original(model, state_of("co_dino_swin_tiny"))
    return model


def prepared(height, width, seed):
    images, masks = to_input(picture(height, width, seed), *SIZE)
    return torch.from_numpy(images), torch.from_numpy(masks).float()


# The whole


@torch.inference_mode()
def test_pictures_of_a_batch_do_not_see_each_other(model):
    """Two pictures with different padding give in one batch what each gives alone."""
    singles = [prepared(90, 121, seed=1), prepared(71, 160, seed=2)]
    batch = model(*(torch.cat(tensors) for tensors in zip(*singles, strict=True)))
    for i, single in enumerate(singles):
        boxes, scores, labels = (output[0] for output in model(*single))
        of_batch = [output[i] for output in batch]
        torch.testing.assert_close(of_batch[1], scores, rtol=0, atol=1e-5)
        # Two scores that differ by a rounding may change places: each finds its own again.
        errors = (of_batch[0][:, None] - boxes).abs().amax(-1)  # (N, N) pixels
        errors += 1e3 * (of_batch[2][:, None] != labels)
        errors += 200 * (of_batch[1][:, None] - scores).abs()
        assert errors.amin(1).max() < 2e-3
        assert errors.argmin(1).unique().numel() == len(boxes)


@torch.inference_mode()
def test_no_mask_is_a_mask_of_zeros(model):
    images, masks = prepared(*SIZE, seed=3)
    assert not masks.any()
    for without, zeros in zip(model(images), model(images, masks), strict=True):
        assert without.equal(zeros)


@torch.inference_mode()
def test_forward_gives_the_best_pairs_of_the_last_layer(model):
    images, masks = prepared(80, 120, seed=4)
    boxes, scores, labels = (x[0] for x in model(images, masks))
    logits, relative = model.predict(model.stages(images, masks), 2)
    best = sorted(
        (
            (s, q, k)
            for q, row in enumerate(logits[0].sigmoid().tolist())
            for k, s in enumerate(row)
        ),
        reverse=True,
    )[:300]
    assert scores.tolist() == pytest.approx([s for s, _, _ in best], abs=1e-6)
    assert labels.tolist() == [k for _, _, k in best]
    for box, (_, query, _) in zip(boxes.tolist(), best, strict=True):
        cx, cy, w, h = relative[0, query].tolist()
        corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        limits = (120, 80, 120, 80)
        expected = [min(max(c * m, 0), m) for c, m in zip(corners, limits, strict=True)]
        assert box == pytest.approx(expected, abs=1e-4)


# Deformable attention


def simple_deform_attn(value, sampling, reference, level_sizes, valid_sizes, heads, points):
    """Float64, one corner of one sample at a time."""
    value, sampling, reference = value.double(), sampling.double(), reference.double()
    (batch, queries, _), levels = sampling.shape, len(level_sizes)
    depth, samples = value.shape[2] // heads, heads * levels * points
    output = torch.zeros(batch, queries, value.shape[2], dtype=torch.float64)
    starts = [0, *itertools.accumulate(math.prod(size) for size in level_sizes.tolist())]
    for b, q, m in itertools.product(range(batch), range(queries), range(heads)):
        box = reference[b % len(reference), q]
        logits = sampling[b, q, 2 * samples :].view(heads, -1)[m]
        weights = logits.softmax(0).view(levels, points)
        offsets = sampling[b, q, : 2 * samples].view(heads, levels, points, 2)[m]
        for level, p in itertools.product(range(levels), range(points)):
            valid_h, valid_w = valid_sizes[b % len(valid_sizes), level].tolist()
            x, y = offsets[level, p].tolist()
            if len(box) == 4:
                x, y = x / points * box[2] * valid_w / 2, y / points * box[3] * valid_h / 2
            x, y = float(box[0] * valid_w + x - 0.5), float(box[1] * valid_h + y - 0.5)
            for row, column in itertools.product(
                (math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)
            ):
                if 0 <= row < valid_h and 0 <= column < valid_w:
                    token = starts[level] + row * int(level_sizes[level, 1]) + column
                    corner = weights[level, p] * (1 - abs(y - row)) * (1 - abs(x - column))
                    channels = slice(m * depth, (m + 1) * depth)
                    output[b, q, channels] += corner * value[b, token, channels]
    return output


LEVELS = torch.tensor([[5, 7], [3, 4], [1, 2]], dtype=torch.int32)
VALID = torch.tensor([[[4, 7], [3, 3], [1, 2]], [[5, 2], [2, 1], [1, 1]]], dtype=torch.int32)
HEADS, POINTS, CHANNELS, QUERIES = 2, 3, 8, 6


def attention_inputs(coordinates=2, dtype=torch.float32, spread=3.0, shared=False):
    """Arguments of the operator; ``shared``: one reference and no padding for the whole batch."""
    generator = torch.Generator().manual_seed(0)
    samples = HEADS * len(LEVELS) * POINTS
    value = torch.randn(2, int(LEVELS.prod(1).sum()), CHANNELS, generator=generator)
    sampling = torch.randn(2, QUERIES, 3 * samples, generator=generator)
    sampling[..., : 2 * samples] *= spread
    reference = torch.rand(1 if shared else 2, QUERIES, coordinates, generator=generator)
    valid = LEVELS[None] if shared else VALID
    return value.to(dtype), sampling.to(dtype), reference, LEVELS, valid, HEADS, POINTS


@pytest.mark.parametrize("coordinates", [2, 4])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_ms_deform_attn(coordinates, shared, dtype):
    """Whatever the type, only the result is rounded to it."""
    inputs = attention_inputs(coordinates, dtype, shared=shared)
    result = ms_deform_attn(*inputs)
    assert result.dtype == dtype
    expected = simple_deform_attn(*inputs)
    assert expected.abs().mean() > 0.05
    rounding = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(result.double(), expected, rtol=rounding, atol=2e-6)


@pytest.mark.parametrize("spread", [30.0, 1e6])
def test_samples_far_outside_are_zero(spread):
    inputs = attention_inputs(spread=spread)
    result, expected = ms_deform_attn(*inputs), simple_deform_attn(*inputs)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)
    assert (expected == 0).all() == (spread == 1e6)


def test_padding_is_never_read():
    value, *rest = attention_inputs()
    padded = value.clone()
    planes = padded.split(LEVELS.prod(1).tolist(), dim=1)
    for (b, valid), (level, (h, w)) in itertools.product(
        enumerate(VALID.tolist()), enumerate(LEVELS.tolist())
    ):
        plane = planes[level][b].view(h, w, CHANNELS)
        plane[valid[level][0] :] = plane[:, valid[level][1] :] = math.nan
    assert padded.isnan().any()
    assert ms_deform_attn(padded, *rest).equal(ms_deform_attn(value, *rest))


@pytest.mark.parametrize("coordinates", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_operator_is_registered_as_torch_wants(coordinates, dtype):
    torch.library.opcheck(ms_deform_attn, attention_inputs(coordinates, dtype))


# Geometry


def test_valid_sizes_are_those_of_the_interpolated_mask():
    """Every length up to 70 padded to many others, on every level of the network."""
    for padded in (*range(1, 71), 160, 331, 608, 1199):
        lengths = [padded]
        for _ in range(6):
            lengths.append(-(-lengths[-1] // 2))
        valid = torch.arange(1, padded + 1) if padded <= 70 else torch.arange(1, padded + 1, 7)
        outside = torch.arange(padded) >= valid[:, None]  # (B, padded)
        masks = (outside[:, :, None] | outside[:, None, :]).float()
        sizes = tuple((length, length) for length in lengths[2:])
        geometry = Geometry.from_masks(masks, (padded, padded), sizes, masks.device)
        assert geometry.picture_sizes.equal(valid[:, None].expand(-1, 2).float())
        for level, size in enumerate(sizes):
            cells = F.interpolate(masks[:, None, 0], size=size[0]).squeeze(1) == 0
            assert geometry.valid_sizes[:, level, 1].equal(cells.sum(1).int()), (padded, size)
            assert geometry.valid_sizes[:, level, 0].equal(cells.sum(1).int()), (padded, size)


@pytest.mark.parametrize("size", [(37, 61), (150, 200), (64, 333)])
def test_levels_are_masked_as_by_interpolation(size):
    height, width = size
    sizes = tuple((-(-height // s), -(-width // s)) for s in (4, 8, 16, 32, 64))
    masks = torch.ones(3, *size)
    for mask, (valid_h, valid_w) in zip(
        masks, ((1, 1), (height - 5, width), (20, 50)), strict=True
    ):
        mask[:valid_h, :valid_w] = 0
    geometry = Geometry.from_masks(masks, size, sizes, masks.device)
    for level, level_size in enumerate(sizes):
        expected = F.interpolate(masks[None], size=level_size)[0]
        for b, (valid_h, valid_w) in enumerate(geometry.valid_sizes[:, level].tolist()):
            mask = torch.ones(level_size)
            mask[:valid_h, :valid_w] = 0
            assert mask.equal(expected[b])


# Swin


@pytest.mark.parametrize("size", [2, 7, 12])
def test_relative_position_index(size):
    index = relative_position_index(size)
    positions = list(itertools.product(range(size), range(size)))
    for (i, (y, x)), (j, (v, u)) in itertools.product(enumerate(positions), enumerate(positions)):
        assert index[i, j] == (y - v + size - 1) * (2 * size - 1) + (x - u + size - 1)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(8, 12, 4), (5, 7, 4), (3, 2, 7), (14, 9, 7)]
)
def test_shift_mask(height, width, size):
    """Label the padded map by the three slices of each axis, as the original does."""
    rows, columns = -(-height // size), -(-width // size)
    regions = torch.zeros(rows * size, columns * size)
    slices = (slice(0, -size), slice(-size, -(size // 2)), slice(-(size // 2), None))
    for label, (y, x) in enumerate(itertools.product(slices, slices)):
        regions[y, x] = label
    mask = shift_mask(height, width, size, regions)
    assert mask.shape == (rows * columns, 1, size**2, size**2)
    for window, (y, x) in enumerate(itertools.product(range(rows), range(columns))):
        label = regions[y * size : (y + 1) * size, x * size : (x + 1) * size].flatten()
        expected = torch.where(label[:, None] == label, 0.0, -100.0)
        assert mask[window, 0].equal(expected)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_patch_merging_is_the_originals(model, size):
    """nn.Unfold, norm and reduction with the original's weights, in its channel order."""
    state = state_of("co_dino_swin_tiny")
    prefix = "backbone.stages.1.downsample"
    ours = from_original(model, state)
    assert not ours[f"{prefix}.reduction.weight"].equal(state[f"{prefix}.reduction.weight"])
    x = torch.randn(2, 64, *size, generator=torch.Generator().manual_seed(0))
    padded = F.pad(x, (0, size[1] % 2, 0, size[0] % 2))
    tokens = nn.Unfold(2, stride=2)(padded).transpose(1, 2)  # (B, H/2*W/2, 4C)
    weight, bias = state[f"{prefix}.norm.weight"], state[f"{prefix}.norm.bias"]
    tokens = F.layer_norm(tokens, weight.shape, weight, bias)
    expected = tokens @ state[f"{prefix}.reduction.weight"].T
    with torch.inference_mode():
        merged = model.backbone.stages[1].downsample(x.permute(0, 2, 3, 1))
    torch.testing.assert_close(merged.flatten(1, 2), expected, rtol=0, atol=1e-5)
