"""The study of how near the model comes to the limits of float16."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import torch

from benchmarks.gpu import DIGITS
from benchmarks.residual_plot import plot
from benchmarks.residual_stream import Range, Recorder, main
from codetr.model import CoDino
from codetr.presets import PRESETS

KINDS = STREAM, HIDDEN, LOGITS = "stream", "mlp_hidden", "attention_logits"


def test_range():
    seen = Range()
    seen.add(torch.tensor([0.0, 3.0, 6.0e-5]))
    seen.add(torch.tensor([[-70000.0], [6.2e-5]]))
    assert seen.figures() == {"max": 70000, "subnormal": 0.25}  # of the four that are not zero


def recorded(model):
    """What is recorded of it on noise."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(), Recorder(model) as recorder:
        model(torch.randn(1, 3, 128, 160, generator=generator))
    return {
        name: {kind: seen.figures()["max"] for kind, seen in ranges.items()}
        for name, ranges in recorder.blocks.items()
    }


@pytest.mark.parametrize(
    ("block", "parameter", "last", "value", "kind", "expected"),
    [
        ("backbone.stages.1.blocks.1", "attn.relative_position_bias_table", 0, 500, LOGITS, 500),
        ("backbone.stages.1.blocks.2", "fc1.bias", 0, 600, HIDDEN, 600),
        ("backbone.stages.1.blocks.3", "fc2.bias", 0, -700, STREAM, 700),
        # The logits of 4 heads, 5 levels and 4 points stand behind the offsets.
        ("encoder.layers.0", "self_attn.sampling.bias", 80, 800, LOGITS, 800),
        ("encoder.layers.1", "ffn.fc2.bias", 0, 900, STREAM, 900),  # before the norm takes it away
        # Queries and keys alike, of 32 channels.
        ("decoder.layers.0", "self_attn.in_proj.bias", 0, 20, LOGITS, 20 * 20 * 32**0.5),
        ("decoder.layers.1", "ffn.fc1.bias", 0, 600, HIDDEN, 600),
    ],
)
def test_what_grows_is_seen_where_it_is(block, parameter, last, value, kind, expected):
    torch.manual_seed(0)
    model = CoDino(PRESETS["co_dino_digits"]).eval()
    assert recorded(model)[block][kind] < 100
    with torch.no_grad():
        model.get_parameter(f"{block}.{parameter}")[-last:] = value
    found = recorded(model)
    assert found[block][kind] == pytest.approx(expected, rel=0.1)
    blocks = list(found)
    for earlier in blocks[: blocks.index(block)]:
        assert max(found[earlier].values()) < 100


def test_command(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.residual_stream.PICTURES", 1)
    out, drawn = tmp_path / "study.json", tmp_path / "study.svg"
    command = ["--preset", "co_dino_digits", "--weights", DIGITS, "-o", out, "--plot", drawn]
    command += ["--height", 128, "--width", 160]
    assert main(list(map(str, command))) == 0
    report = json.loads(out.read_text())
    assert (report["pictures"], report["fp16"]["max"]) == (1, 65504)
    assert len(report["blocks"]) == 9 + 2 + 3
    for block in report["blocks"]:
        assert all(0 < block[kind]["max"] < 65504 for kind in KINDS)
    circles = ElementTree.fromstring(drawn.read_text()).iter("{http://www.w3.org/2000/svg}circle")
    assert len(list(circles)) == 3 * 14 + len(KINDS)  # and the legend's


def test_a_model_with_convolutions_has_no_more_than_its_stream():
    block = {"block": "backbone.layer1.0", "stream": {"max": 3.0, "subnormal": 0.0}}
    report = {"model": "co_dino_r50", "pictures": 1, "fp16": {"max": 65504}, "blocks": [block]}
    assert plot(report).count("<circle") == 1 + len(KINDS)


def test_weights_that_are_not_there(tmp_path, capsys):
    out = tmp_path / "study.json"
    command = ["--preset", "co_dino_digits", "--weights", tmp_path / "w.pth", "-o", out]
    assert main(list(map(str, command))) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    assert not out.exists()
