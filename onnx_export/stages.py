"""Names of the tensors that show how far a graph has gone right, for ``trt_build verify``."""

from __future__ import annotations

from typing import TypedDict

import onnx_graphsurgeon as gs

from codetr.presets import CoDinoConfig
from onnx_export.checks import GraphError
from onnx_export.topk import PARTS


class Stages(TypedDict):
    """Tensors of one graph; the metadata entry ``stages`` of its file."""

    backbone: list[str]
    """(B, H_s, W_s, C_s), finest first."""
    neck: list[str]
    """(B, H_l, W_l, C), finest first."""
    memory: list[str]
    """(B, S, C), the encoder's result."""
    topk: str
    """(B, Q) int64: the tokens that become queries."""
    decoder: list[str]
    """(B, Q, C) after each layer, before the final norm."""


def find_stages(graph: gs.Graph, config: CoDinoConfig) -> Stages:
    """Look the stages up by module path.

    Args:
        graph: sorted, its nodes named by ``onnx_export.trace`` and its tensors by their nodes.
        config: of the model that was traced.

    Raises:
        GraphError: a stage is not there.
    """
    results: dict[str, str] = {}
    sources: dict[str, str] = {}
    for node in graph.nodes:
        module = node.name.partition("/")[0]  # also of a custom node that is written out
        if node.op == "MatMul":
            sources[module] = node.inputs[0].name
        # What follows a norm in half precision is a cast: before it, names are alike in all types.
        if node.op != "Cast":
            results[module] = node.outputs[0].name
    # The second top-k ranks what the queries of the first became, so it comes later.
    topk = chosen_tokens(graph)
    maps = range(len(config.backbone.out_channels))
    extra = range(config.num_levels - len(maps))
    try:
        tokens, _picks = topk
        return Stages(
            # Backbones end in different operations, but the neck reads from all of them.
            backbone=[sources[f"neck.convs.{i}.conv"] for i in maps],
            neck=[results[f"neck.convs.{i}.gn"] for i in maps]
            + [results[f"neck.extra_convs.{i}.gn"] for i in extra],
            memory=[results[f"encoder.layers.{config.encoder_layers - 1}.norm2"]],
            topk=tokens,
            decoder=[results[f"decoder.layers.{i}.norm3"] for i in range(config.decoder_layers)],
        )
    except KeyError as error:
        raise GraphError(f"no node of the module {error} is left") from error
    except ValueError as error:
        raise GraphError(f"{len(topk)} TopK nodes instead of 2") from error


def chosen_tokens(graph: gs.Graph) -> list[str]:
    """What each top-k picks, in order: the tokens that become queries, then (query, class) pairs.

    The nodes that ``onnx_export.topk`` added to rank a row in parts belong to the one they help.
    """
    return [
        _in_whole_row(node.outputs[1]).name
        for node in graph.nodes
        if node.op == "TopK" and not _ranks_parts(node)
    ]


def _in_whole_row(indices: gs.Tensor) -> gs.Tensor:
    """Indices among the best of all parts -> indices into the whole row."""
    for node in indices.outputs:
        if _ranks_parts(node):
            return _in_whole_row(node.outputs[0])
    return indices


def _ranks_parts(node: gs.Node) -> bool:
    return str(node.name).rpartition("/")[0].endswith(PARTS)
