"""``python -m tests.golden --engine``: its comparison here, its engines on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.backend import RawOutputs
from tests.conftest import has_gpu
from tests.detections import run_graph
from tests.golden import main
from tests.golden_case import read_case
from tests.golden_engine import case_inputs, golden_errors
from tests.synthetic_checkpoint import GOLDEN

CASE = "swin_tiny_b_masked"


@pytest.fixture(scope="module")
def case():
    return read_case(GOLDEN, CASE)


@pytest.fixture(scope="module")
def outputs(exported, case) -> RawOutputs:
    """What the reference graph gives: the same as an engine, without a GPU."""
    files = exported("co_dino_swin_tiny", height=160, width=224, batch="dynamic")
    return run_graph(files.reference, case_inputs(case))


def wrong(outputs, case):
    return [error.name for error in golden_errors(outputs, case) if not error.ok]


def test_right_detections_pass(outputs, case):
    assert wrong(outputs, case) == []
    assert {error.name for error in golden_errors(outputs, case)} == {
        f"{kind}_{part}" for kind in ("prenms", "final") for part in ("boxes", "scores", "labels")
    }


def test_wrong_detections_are_told(outputs, case):
    moved = outputs.boxes.copy()
    moved[0, 0, 0] += 1
    assert "prenms_boxes" in wrong(outputs._replace(boxes=moved), case)
    scores = outputs.scores + np.float32(2e-3)
    assert "prenms_scores" in wrong(outputs._replace(scores=scores), case)
    labels = (outputs.labels + 1) % 80
    assert "prenms_labels" in wrong(outputs._replace(labels=labels), case)
    twice = RawOutputs(*(np.concatenate([a[:, :1], a[:, :-1]], axis=1) for a in outputs))
    assert "prenms_labels" in wrong(twice, case)  # one query decoded twice, another not at all


@pytest.mark.skipif(has_gpu(), reason="engines can be built here")
def test_without_a_gpu_it_is_one_line(capsys):
    assert main([str(GOLDEN), "--engine", "fp16"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "there is no NVIDIA GPU here" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_engines_match_the_goldens(precision, timing_cache, capsys):
    code = main([str(GOLDEN), "--engine", precision, "--timing-cache", str(timing_cache)])
    out = capsys.readouterr().out
    assert code == 0, out
    assert out.endswith("all within tolerance\n")
