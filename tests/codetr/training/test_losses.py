"""What training lowers."""

import pytest
import torch

from codetr.training.denoising import make_noise
from codetr.training.losses import losses, pair_losses, quality_focal_loss
from codetr.training.matching import Pairs, match
from codetr.training.network import Predictions, TrainedCoDino
from codetr.training.targets import Targets
from tests.codetr.training.tiny import CONFIG, make_batch, targets

WANTED = targets([[0, 0.2, 0.3, 0.2, 0.4], [2, 0.7, 0.6, 0.3, 0.1]])


@pytest.fixture(scope="module")
def step():
    """A network in evaluation mode, inputs of it, and its outputs."""
    batch = make_batch("train", seed=1, sizes=[], padded=(0, 0), device="cpu")
    wanted = Targets.from_lists(batch.labels, batch.boxes, batch.masks)
    noise = make_noise(wanted, 3, torch.Generator().manual_seed(0))
    network = TrainedCoDino(CONFIG, seed=0)
    inputs = batch.images / 50, batch.masks
    return network, inputs, wanted, network(*inputs, noise)


def test_quality_focal_loss_is_zero_where_the_score_is_the_overlap():
    score = torch.tensor([0.2, 0.7])
    assert quality_focal_loss(score.logit(), score).tolist() == pytest.approx([0, 0], abs=1e-6)
    # A background with score p costs p^2 * -log(1 - p).
    assert quality_focal_loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(
        0.25 * 0.6931, rel=1e-3
    )


def test_perfect_predictions_cost_nothing():
    logits = torch.full((1, 1, 3, 3), -20.0)
    boxes = torch.full((1, 1, 3, 4), 0.5)
    boxes[0, 0, :2] = WANTED.boxes[0]
    logits[0, 0, [0, 1], WANTED.labels[0]] = 20.0
    pairs = match(logits, boxes, WANTED)
    found = pair_losses(Predictions(logits, boxes), pairs, WANTED, 2)
    assert [value.item() for value in found.values()] == pytest.approx([0, 0, 0], abs=1e-5)
    logits[0, 0, 2] = 5.0  # a false alarm
    assert pair_losses(Predictions(logits, boxes), pairs, WANTED, 2)["class"] > 1


def test_losses_count_by_set_and_are_divided_by_the_number_of_boxes():
    boxes = WANTED.boxes[None].repeat(2, 1, 1, 1)
    boxes[1, 0, 1, 0] += 0.1
    rows = torch.tensor([0, 1, 0, 1])
    pairs = Pairs(torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long), rows, rows)
    found = pair_losses(Predictions(torch.zeros(2, 1, 2, 3), boxes), pairs, WANTED, 2)
    assert found["l1"].tolist() == pytest.approx([0, 5 * 0.1 / 2])


def test_every_part_has_its_losses_and_every_weight_a_gradient(step):
    network, _, wanted, outputs = step
    found = losses(outputs, wanted)
    parts = ("layer0", "layer1", "proposals", "denoising", "dense")
    assert set(found) == {f"{part}/{kind}" for part in parts for kind in ("class", "l1", "giou")}
    assert all(value.isfinite() and value > 0 for value in found.values())
    network.zero_grad()
    sum(found.values()).backward(retain_graph=True)
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_training_predicts_what_inference_predicts(step):
    network, inputs, _, outputs = step
    with torch.no_grad():
        stages = network.detector.stages(*inputs)
        predicted = [network.detector.predict(stages, layer) for layer in range(2)]
    for layer, (logits, boxes) in enumerate(predicted):
        torch.testing.assert_close(outputs.matched.logits[layer], logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(outputs.matched.boxes[layer], boxes, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(outputs.matched.boxes[-1], stages.proposals.boxes)


def test_a_layer_s_boxes_teach_the_layer_before_but_not_its_reference(step):
    network, _, _, outputs = step
    heads = network.detector.reg_branches
    parameters = [head[-1].weight for head in heads]
    gradients = torch.autograd.grad(outputs.matched.boxes[1].sum(), parameters, retain_graph=True)
    # The two layers' heads, and the proposals'.
    assert [bool(gradient.any()) for gradient in gradients] == [True, True, False]


def test_pictures_without_boxes_are_all_background(step):
    network, inputs, _, _ = step
    nothing = targets([], [], [], [])
    found = losses(network(*inputs, make_noise(nothing, 3, torch.Generator())), nothing)
    assert all(value.isfinite() for value in found.values())
    assert sum(value for name, value in found.items() if not name.endswith("class")) == 0
    assert found["layer1/class"] > 0
