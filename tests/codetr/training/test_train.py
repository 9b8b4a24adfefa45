"""Training in legs, what it leaves behind, and that it learns."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from codetr.checkpoint import build_model, read_checkpoint
from codetr.errors import UserError
from codetr.model import CoDino
from codetr.presets import PRESETS
from codetr.training import plan, train
from codetr.training.boxes import overlaps
from codetr.training.files import export_weights
from codetr.training.initialise import initialise
from codetr.training.leg import run_leg
from codetr.training.log import curves, read_log
from codetr.training.pictures import make_batch as make_pictures
from codetr.training.plan import INPUTS, learning_rate, plan_step
from codetr.training.trainer import Run, Trainer
from tests.codetr.training.tiny import CONFIG, make_batch

CLASSES = ("red", "green", "blue")
CPU = torch.device("cpu")


def trainer(steps=6, seed=0, batches=make_batch):
    return Trainer(CONFIG, Run(steps=steps, batch=2, seed=seed), batches, CPU)


def leg(output, steps=6, seconds=float("inf"), **options):
    output.mkdir(exist_ok=True)
    made = trainer(steps)
    weights = run_leg(made, output, seconds=seconds, classes=CLASSES, metadata={}, **options)
    return made, weights


def tensors(value):
    """All tensors in a state, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in tensors(part)]
    return []


class StopError(Exception):
    pass


def test_a_run_in_two_legs_equals_a_run_in_one(tmp_path):
    whole, weights = leg(tmp_path / "whole")
    assert whole.step == 6
    assert weights is not None

    (tmp_path / "legs").mkdir()
    first = trainer()
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "legs" / "checkpoint.pt")
    second, resumed = leg(tmp_path / "legs")
    assert second.step == 6
    assert len(load_file(weights)) > 0
    for name, tensor in load_file(weights).items():
        assert torch.equal(load_file(resumed)[name], tensor)
    states = [
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        for name in ("whole", "legs")
    ]
    for part in ("network", "average", "optimizer"):
        both = [tensors(state[part]) for state in states]
        assert len(both[0]) == len(both[1]) > 0
        assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))
    assert leg(tmp_path / "legs")[0].step == 6  # a third call has nothing to do


def test_a_leg_without_time_saves_and_says_so(tmp_path):
    made, weights = leg(tmp_path / "run", seconds=0)
    assert weights is None
    assert made.step == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"checkpoint.pt", "curves.svg"}


def test_seeds_differ():
    losses = [sum(trainer(seed=seed).advance()[0].values()).item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_another_run_s_folder_is_refused(tmp_path):
    leg(tmp_path / "run", seconds=0)
    with pytest.raises(UserError, match=r"--steps 6 .* not with --steps 7 "):
        leg(tmp_path / "run", steps=7)


def test_what_was_logged_after_the_checkpoint_is_dropped(tmp_path):
    leg(tmp_path / "run", seconds=0)
    log = tmp_path / "run" / "log.jsonl"
    log.write_text('{"step": 0, "loss": 1}\n{"step": 50, "loss": 2}\n')
    leg(tmp_path / "run", evaluate=lambda _: {"ap": 0.5})
    entries = read_log(log)
    assert [entry["step"] for entry in entries] == [0, 6]
    assert entries[1]["ap"] == 0.5
    assert entries[1]["loss"] == pytest.approx(sum(entries[1]["losses"].values()), abs=0.01)
    assert "COCO AP" in curves(entries)
    assert "COCO AP" not in curves(entries[:1])


def test_a_failed_save_keeps_the_last_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    made = trainer()
    made.save(path)
    before = path.read_bytes()

    def fail(_, file):
        file.write_bytes(b"half")
        raise StopError

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(StopError):
        made.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Weights


def test_exported_weights_load_like_any_others(tmp_path):
    model = CoDino(PRESETS["co_dino_digits"]).eval()
    initialise(model, torch.Generator().manual_seed(0))
    # Orders that a wrong conversion would mix up.
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    path = tmp_path / "weights.safetensors"
    names = tuple("0123456789")
    export_weights(model, names, path, {"preset": "co_dino_digits", "steps": "6"})
    assert path.stat().st_size <= 6e6
    loaded, classes = build_model("co_dino_digits", read_checkpoint(path))
    assert classes == names
    state = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor.bfloat16().half().float()), name
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(names)
        assert file.metadata()["steps"] == "6"


def test_first_weights():
    model = CoDino(PRESETS["co_dino_digits"])
    initialise(model, torch.Generator().manual_seed(0))
    assert model.cls_branches[0].bias.sigmoid().mean().item() == pytest.approx(0.01)
    assert not model.reg_branches[0][-1].weight.any()
    attention = model.encoder.layers[0].self_attn
    offsets = attention.sampling.bias[: 4 * 5 * 4 * 2].view(4, 5, 4, 2)
    # Right, down, left and up, by 1 to 4 cells.
    direction = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    expected = direction[:, None, None] * torch.arange(1, 5)[:, None]
    torch.testing.assert_close(offsets, expected.expand(4, 5, 4, 2), atol=1e-6, rtol=0)
    assert not attention.sampling.weight.any()


# The plan


def test_pixels_of_a_step_are_about_the_same_whatever_the_size():
    steps = [plan_step(step, seed=3, batch=32) for step in range(200)]
    assert {step.resized for step in steps} == set(INPUTS)
    assert len({step.seed for step in steps}) == 200
    for step in steps:
        pixels = len(step.sizes) * step.resized[0] * step.resized[1]
        assert pixels == pytest.approx(32 * 320 * 320, rel=0.06)
        assert all(0.75 * step.padded[0] <= h <= step.padded[0] for h, _ in step.sizes)
        assert all(0.75 * step.padded[1] <= w <= step.padded[1] for _, w in step.sizes)
    shares = [step.padded[0] / step.resized[0] for step in steps]
    assert 0.59 < min(shares) < 0.65
    assert 1.2 < max(shares) < 1.26
    assert steps[7] == plan_step(7, seed=3, batch=32) != plan_step(7, seed=4, batch=32)


def test_learning_rate_rises_then_falls():
    rates = [learning_rate(step, 5000) for step in range(5000)]
    assert rates[: plan.WARM_UP] == sorted(rates[: plan.WARM_UP])
    assert max(rates) == plan.LEARNING_RATE
    assert rates[plan.WARM_UP :] == sorted(rates[plan.WARM_UP :], reverse=True)
    assert rates[-1] < 0.02 * plan.LEARNING_RATE


# The command


def test_a_mistake_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train.main(["--output", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "python -m codetr.training.train: error: PyTorch sees no NVIDIA GPU; "
        "give --device cpu, which takes days"
    ]


# It learns


def test_a_handful_of_pictures_is_learnt_by_heart(monkeypatch):
    monkeypatch.setattr(plan, "LEARNING_RATE", 2e-3)

    def same(split, *, seed, **options):
        del seed
        return make_batch(split, seed=1, **options)

    made = trainer(steps=160, batches=same)
    first = sum(made.advance()[0].values()).item()
    while made.step < made.run.steps:
        found, _ = made.advance()
    last = sum(found.values()).item()
    assert last < first / 4
    batch = same("train", seed=0, sizes=[], padded=(0, 0), device=CPU)
    model = made.average.module.eval()
    with torch.no_grad():
        boxes, scores, labels = model(made.normalise(batch), batch.masks)
    for picture, truth in enumerate(batch.boxes):
        count = len(truth)
        order = labels[picture, :count].sort().indices
        assert torch.equal(labels[picture, :count][order], batch.labels[picture].sort().values)
        iou, _ = overlaps(boxes[picture, :count, None], truth)
        assert iou.amax(0).min() > 0.7
        assert scores[picture, count - 1] > scores[picture, count]


@pytest.mark.gpu
def test_the_first_steps_on_the_gpu_lower_the_loss(monkeypatch):
    monkeypatch.setattr(plan, "INPUTS", {(320, 320): 1})  # each size takes a minute to compile
    made = Trainer(
        PRESETS["co_dino_digits"],
        Run(steps=120, batch=16, seed=0),
        make_pictures,
        torch.device("cuda"),
    )
    losses = [sum(made.advance()[0].values()).item() for _ in range(120)]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])
