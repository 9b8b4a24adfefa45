"""What ``benchmarks.determinism`` runs: a model that shows its inside, in several variants."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx
from numpy.typing import NDArray

from runtime.backend import ModelMetadata, ModelSpec
from runtime.errors import UserError, first_line
from runtime.images import Image
from runtime.preprocess import prepare_batch
from trt_build.backend import Backend
from trt_build.build import build_engine
from trt_build.onnx_file import exporter_metadata, load_onnx
from trt_build.options import BuildOptions
from trt_build.pictures import generated_pictures
from trt_build.stages import make_output, show_stages

if TYPE_CHECKING:
    from runtime.engine import Engine

Arrays = Mapping[str, NDArray[Any]]


class Subject(NamedTuple):
    """One variant of a model."""

    infer: Callable[[Arrays], Arrays]
    """Runs it once; new arrays. Threads may call it at once."""
    facts: Callable[[], dict[str, Any]]
    """What the variant is: to be asked after it ran."""


def inputs_of(path: Path) -> list[Arrays]:
    """The inputs of an exported ONNX for two pictures, always the same, each half padding.

    Raises:
        UserError: the file does not say what it takes.
    """
    model = exporter_metadata(path, load_onnx(path))
    try:
        metadata = ModelMetadata.from_json(json.dumps(model))
        batch = None if model["batch"] == "dynamic" else int(model["batch"])
        spec = ModelSpec(model["height"], model["width"], batch, model["mask"], metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a Co-DETR model: {error}; export it again") from error
    return [
        _feeds(picture, spec) for picture in generated_pictures(spec.height, spec.width).values()
    ]


def _feeds(picture: Image, spec: ModelSpec) -> Arrays:
    prepared = prepare_batch([picture], spec)
    masks = {"img_masks": prepared.img_masks} if spec.has_mask else {}
    return {"batch_inputs": prepared.batch_inputs, **masks}


def show_inside(path: Path) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Let an exported ONNX put out its stages, and all that its TopK nodes read and put out.

    Returns:
        The model, and what is known of each output, in the order of computation.

    Raises:
        UserError: the file cannot be read, or does not name its stages.
    """
    shown = show_stages(path, force_topk=False)
    graph = shown.model.graph
    labels = {output: stage for stage, output in shown.outputs.items()}
    labels[shown.topk] = "chosen tokens"
    known = {value.name: value for value in (*graph.value_info, *graph.output)}
    for node in [node for node in graph.node if node.op_type == "TopK"]:
        parts = {"input": node.input[0], "values": node.output[0], "indices": node.output[1]}
        for part, tensor in parts.items():
            if tensor:  # an output that nobody reads has no name
                labels.setdefault(make_output(graph, known[tensor]), f"{node.name} {part}")
    moments = moments_of(graph)
    outputs = sorted((value.name for value in graph.output), key=moments.__getitem__)
    return shown.model, {output: labels.get(output, output) for output in outputs}


def moments_of(graph: onnx.GraphProto) -> dict[str, int]:
    """When each tensor is computed: the place of its node. A cast counts as what it reads."""
    moments = {value.name: -1 for value in graph.input}
    for index, node in enumerate(graph.node):
        cast = node.op_type == "Cast"
        moment = moments.get(node.input[0], index) if cast else index
        moments |= dict.fromkeys(node.output, moment)
    return moments


def sessions(path: Path) -> Iterator[Subject]:
    """ONNX Runtime on the CPU, which has no variants.

    Raises:
        UserError: it cannot load the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise UserError(f"cannot run {path}: {first_line(error)}; give a .ref.onnx") from error
    names = [output.name for output in session.get_outputs()]
    yield Subject(lambda feeds: dict(zip(names, session.run(names, feeds), strict=True)), dict)


def engines(
    path: Path, folder: Path, backend: Backend, timing_cache: Path | None
) -> Iterator[Subject]:
    """Engines with and without auxiliary streams, each with and without CUDA graph.

    Args:
        path: the ONNX.
        folder: where the engines go.
        backend: what builds and runs them.
        timing_cache: see ``trt_build.build.build_engine``.

    Raises:
        UserError: one cannot be built or run here.
    """
    from runtime.engine import Engine

    for most in (None,) if "aux_streams" in backend.lacks else (None, 0):
        file = folder / f"{path.stem}-{most}.engine"
        print(f"building {file.name}", flush=True)
        options = BuildOptions(aux_streams=most)
        build_engine(path, file, backend=backend, options=options, timing_cache=timing_cache)
        with Engine(file, backend.load()) as engine:
            facts = partial(_facts_of, engine, most)
            for cuda_graph in (True, False):
                engine.cuda_graph = cuda_graph
                yield Subject(engine.infer, facts)


def _facts_of(engine: Engine, most: int | None) -> dict[str, Any]:
    streams = {"most_aux_streams": most, "aux_streams": engine.aux_streams}
    return streams | {"cuda_graph": engine.cuda_graph}
