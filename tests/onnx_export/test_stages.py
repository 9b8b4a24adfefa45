"""The stages that the metadata names: there, of the right shapes, and the same in both files.

Where one file has a custom node, the other has a node of the same module.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto

from codetr.presets import PRESETS
from onnx_export.checks import GraphError
from onnx_export.stages import chosen_tokens, find_stages
from onnx_export.topk import LONG_ROW, split_topk

SWIN = {"preset": "co_dino_swin_tiny", "height": 160, "width": 224}
R50 = {"preset": "co_dino_r50_small", "height": 128, "width": 192}
EXPORTS = (
    {**SWIN, "batch": "dynamic"},
    {**SWIN, "precision": "fp16", "stable": True},
    {**SWIN, "precision": "fp16", "stable": True, "kernels": "attention"},
    {**SWIN, "mask": False},
    {**R50, "batch": 2},
    {**R50, "precision": "fp16", "stable": True},
    {**R50, "precision": "fp16", "stable": True, "kernels": "attention"},
)


def stages_and_shapes(path):
    """The metadata entry, and dtype and shape of every tensor that has one."""
    model = onnx.load(path)
    shapes = {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in model.graph.value_info
    }
    return json.loads(model.metadata_props[0].value)["stages"], shapes


def modules(stages):
    """What each stage comes from."""
    return {
        kind: [name.partition("/")[0] for name in ([names] if kind == "topk" else names)]
        for kind, names in stages.items()
    }


@pytest.mark.parametrize("options", EXPORTS, ids=lambda o: " ".join(map(str, o.values())))
def test_stages_are_named(exported, options):
    files = exported(**options)
    stages, shapes = stages_and_shapes(files.plugin)
    in_reference, reference_shapes = stages_and_shapes(files.reference)
    assert modules(in_reference) == modules(stages)
    is_custom = options.get("precision") == "fp16" and "kernels" not in options
    assert (in_reference == stages) != is_custom
    config = PRESETS[options["preset"]]
    batch = {"dynamic": "batch"}.get(options.get("batch"), options.get("batch", 1))
    height, width = options["height"], options["width"]
    sizes = [[-(-height // s), -(-width // s)] for s in (4, 8, 16, 32, 64)]
    tokens = sum(h * w for h, w in sizes)
    wanted = {
        "backbone": [
            [batch, *size, channels]
            for channels, size in zip(config.backbone.out_channels, sizes, strict=False)
        ],
        "neck": [[batch, *size, 256] for size in sizes],
        "memory": [[batch, tokens, 256]],
        "decoder": [[batch, config.num_queries, 256]] * config.decoder_layers,
    }
    for kind, kind_shapes in wanted.items():
        assert [shapes[name][1] for name in stages[kind]] == kind_shapes
        assert [reference_shapes[name][1] for name in in_reference[kind]] == kind_shapes
    assert shapes[stages["topk"]] == (TensorProto.INT64, [batch, config.num_queries])


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("neck.convs.2.conv/MatMul", "no node of the module 'neck.convs.2.conv' is left"),
        ("decoder.layers.0.norm3/LayerNormalization", "module 'decoder.layers.0.norm3'"),
        ("detector/TopK", "1 TopK nodes instead of 2"),
    ],
)
def test_a_stage_that_is_not_there_is_told(exported, lost, message):
    graph = gs.import_onnx(onnx.load(exported(**R50, batch=2).plugin))
    node = next(node for node in graph.nodes if node.name == lost)
    node.name, node.op = "somewhere/Else", "Cast"
    with pytest.raises(GraphError, match=message):
        find_stages(graph, PRESETS["co_dino_r50_small"])


@pytest.mark.parametrize("length", [LONG_ROW, LONG_ROW + 1, 204600])
def test_the_choice_of_a_top_k_in_parts_is_its_last_node(length):
    """The choice of the whole row, not that of a part or among the best of the parts."""
    chosen = gs.Variable("indices", np.int64, (1, 900))
    row = gs.Variable("row", np.float32, (1, length))
    picks = gs.Constant("picks", np.array([900]))
    node = gs.Node(
        "TopK", "detector/TopK", {"axis": 1}, [row, picks], [gs.Variable("best"), chosen]
    )
    graph = gs.Graph([node], [row], [], opset=20)
    split_topk(graph)
    assert chosen_tokens(graph) == ["indices"]
