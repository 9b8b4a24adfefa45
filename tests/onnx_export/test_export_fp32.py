"""The float32 export: what its files look like, and that they compute what PyTorch computes.

One file, because tests of one file run in one process and share the exports.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from codetr.presets import COCO_CLASSES
from onnx_export.node import DOMAIN, OP_TYPE
from tests.detections import Outputs, assert_close, golden_inputs, run_graph, run_model

TINY = {"preset": "co_dino_swin_tiny", "height": 160, "width": 224}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def files(exported):
    return exported(**TINY, batch="dynamic")


def test_custom_nodes(files):
    nodes = [n for n in onnx.load(files.plugin).graph.node if n.op_type == OP_TYPE]
    assert len(nodes) == 5
    for node in nodes:
        assert node.domain == DOMAIN
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {
            "num_heads": 8,
            "num_points": 4,
            "plugin_version": b"1",
            "plugin_namespace": b"",
        }


def test_reference_is_plain_onnx(files):
    model = onnx.load(files.reference)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert all(opset.domain == "" for opset in model.opset_import)


@pytest.mark.parametrize("kind", ["plugin", "reference"])
def test_inputs_and_outputs(files, kind):
    graph = onnx.load(getattr(files, kind)).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert shapes == {
        "batch_inputs": ["batch", 3, 160, 224],
        "img_masks": ["batch", 160, 224],
        "boxes": ["batch", 300, 4],
        "scores": ["batch", 300],
        "labels": ["batch", 300],
    }


@pytest.mark.parametrize(("kind", "role"), [("plugin", "plugin"), ("reference", "reference")])
def test_metadata(files, kind, role):
    model = onnx.load(getattr(files, kind))
    assert [p.key for p in model.metadata_props] == ["codetr"]
    metadata = json.loads(model.metadata_props[0].value)
    assert metadata.pop("classes") == list(COCO_CLASSES)
    assert re.fullmatch("[0-9a-f]{64}", metadata.pop("weights_sha256"))
    assert metadata.pop("stages").keys() == {"backbone", "neck", "memory", "topk", "decoder"}
    assert metadata == {
        "version": "0.1.0",
        "role": role,
        "preset": "co_dino_swin_tiny",
        "precision": "fp32",
        "kernels": "all",
        "height": 160,
        "width": 224,
        "batch": "dynamic",
        "mask": True,
        "weights": "weights.safetensors",
        "preprocess": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
    }


def test_names_say_where_a_node_comes_from(files):
    graph = onnx.load(files.plugin).graph
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    attention = "backbone.stages.0.blocks.1.attn/CoDetrWindowAttention/Softmax"
    assert any(name.startswith(attention) for name in names)
    assert "encoder.layers.1.self_attn/CoDetrMSDeformAttn" in names
    assert "decoder.norm.weight" in {tensor.name for tensor in graph.initializer}


def test_maps_become_tokens_without_a_round_trip(files, exported):
    """Nothing but the 3x3 convolution wants its channels first, behind the patches and ResNet."""
    small = exported("co_dino_r50_small", height=128, width=192, batch=2)
    for path, at_the_end in ((files.plugin, 0), (small.plugin, 4)):
        nodes = [node for node in onnx.load(path).graph.node if node.op_type == "Transpose"]
        modules = [node.name.rpartition("/")[0] for node in nodes]
        assert [name for name in modules if name.startswith("neck")] == [
            "neck.extra_convs.0.conv"
        ] * 2
        assert modules.count("backbone") == at_the_end


def test_files_hold_no_path_of_the_exporting_machine(files):
    root = str(Path(__file__).parents[2]).encode()
    assert root not in files.plugin.read_bytes()


def test_every_step_is_reported(files):
    assert "dropped 13 tensors that only training uses: 13 of query_head" in files.report
    passes = ["fold_constants", "remove_cast_pairs", "remove_dead_ends", "name_tensors"]
    words = [line.partition(":")[0] for line in files.report]
    assert words[-9:] == [*passes, "write_out_custom_nodes", *passes]


def test_no_mask_input_and_less_to_do(exported, files):
    plain = onnx.load(exported(**TINY, mask=False).plugin).graph
    assert [value.name for value in plain.input] == ["batch_inputs"]
    assert len(plain.node) < len(onnx.load(files.plugin).graph.node) - 100


@pytest.mark.parametrize("case", ["swin_tiny_a", "swin_tiny_b_masked"])
def test_dynamic_batch_of_one(exported, case):
    files = exported(**TINY, batch="dynamic")
    inputs = golden_inputs(case)
    wanted = run_model(TINY["preset"], files.weights, inputs)
    assert_close(run_graph(files.reference, inputs), wanted, TOLERANCE)


@pytest.mark.parametrize("copies", [1, 2])
def test_dynamic_batch_gives_what_single_pictures_give(exported, copies):
    files = exported(**TINY, batch="dynamic")
    cases = ["swin_tiny_a", "swin_tiny_b_masked"] * copies
    found = run_graph(files.reference, golden_inputs(*cases))
    for row, case in enumerate(cases):
        wanted = run_graph(files.reference, golden_inputs(case))
        assert_close(Outputs(*(a[row : row + 1] for a in found)), wanted, TOLERANCE)


def test_fixed_batch_of_two(exported):
    files = exported("co_dino_r50_small", height=128, width=192, batch=2)
    inputs = golden_inputs("r50_small_a_masked", "r50_small_a_masked")
    inputs["img_masks"][0] = 0  # the same picture once without and once with padding
    wanted = run_model("co_dino_r50_small", files.weights, inputs)
    found = run_graph(files.reference, inputs)
    assert_close(found, wanted, TOLERANCE)
    assert np.abs(found.scores[0] - found.scores[1]).max() > 0.01


def test_without_mask(exported):
    files = exported(**TINY, mask=False)
    inputs = golden_inputs("swin_tiny_a")
    assert not inputs.pop("img_masks").any()
    wanted = run_model(TINY["preset"], files.weights, inputs)
    assert_close(run_graph(files.reference, inputs), wanted, TOLERANCE)
