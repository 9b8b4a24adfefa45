"""An export of any height and width: one file computes what PyTorch computes at every size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
import torch

import runtime.shapes
from codetr.checkpoint import load_original, read_checkpoint
from codetr.errors import UserError
from codetr.model import CoDino
from codetr.original_names import expected_shapes
from codetr.presets import PRESETS, CoDinoConfig, SwinConfig
from onnx_export.export import ExportConfig, export
from onnx_export.topk import LONG_ROW
from onnx_export.trace import SIZE_STEP
from runtime import Detections, Detector
from runtime.backend import ModelSpec
from runtime.preprocess import prepare_batch
from tests.detections import Outputs, assert_close
from tests.synthetic_checkpoint import settled, state_of_shapes, write_checkpoint
from tests.synthetic_images import picture

# Fewer layers than any preset, because a trace of any size is slow: it computes with symbols.
MICRO = CoDinoConfig(
    backbone=SwinConfig(embed_dims=32, depths=(2, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=7),
    num_queries=60,
    encoder_layers=1,
    decoder_layers=1,
    encoder_ffn=64,
    decoder_ffn=64,
)
HEIGHT, WIDTH = (64, 384), (96, 384)  # up to 12,276 tokens, which are ranked in parts
SIZES = [(64, 96), (64, 224), (384, 384), (160, 160), (224, 128), (96, 192)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    state = settled(state_of_shapes(expected_shapes(CoDino(MICRO))))
    return write_checkpoint(tmp_path_factory.mktemp("any_size") / "weights.safetensors", state)


@pytest.fixture(scope="module")
def reference(weights):
    config = ExportConfig(
        preset="micro", weights=weights, height=HEIGHT, width=WIDTH, batch="dynamic"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "micro", MICRO)
        return export(config, weights.with_name("any.onnx"), lambda _: None)[1]


@pytest.fixture(scope="module")
def run(reference):
    """Run the graph in ONNX Runtime."""
    session = onnxruntime.InferenceSession(reference, providers=["CPUExecutionProvider"])
    return lambda inputs: Outputs(*session.run(["boxes", "scores", "labels"], inputs))


@pytest.fixture(scope="module")
def model(weights):
    """The model in PyTorch."""
    model = CoDino(MICRO)
    load_original(model, read_checkpoint(weights).state)
    return model.eval()


def inputs_of(size: tuple[int, int], *, pictures: int = 1) -> dict[str, np.ndarray]:
    """Smooth pictures, each of another valid size."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    masks = np.zeros((pictures, height, width), np.float32)
    images = np.zeros((pictures, 3, height, width), np.float32)
    for row in range(pictures):
        for channel in range(3):
            images[row, channel] = np.sin(x / (5 + channel) + row) + np.cos(y / (7 - channel))
        masks[row, height - 11 * row :] = 1
        masks[row, :, width - 21 * (row + 1) :] = 1
    return {"batch_inputs": images * (1 - masks[:, None]), "img_masks": masks}


@pytest.mark.parametrize("suffix", [".onnx", ".ref.onnx"])
def test_files_say_what_they_take(reference, suffix):
    model = onnx.load(reference.with_name(f"any{suffix}"))
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {
        "batch_inputs": ["batch", 3, "height", "width"],
        "img_masks": ["batch", "height", "width"],
        "boxes": ["batch", 300, 4],
        "scores": ["batch", 300],
        "labels": ["batch", 300],
    }
    metadata = json.loads(model.metadata_props[0].value)
    assert (metadata["height"], metadata["width"]) == ([64, 384], [96, 384])


def test_no_row_is_ranked_whole_that_may_be_long(reference):
    graph = gs.import_onnx(onnx.load(reference))
    rows = [node.inputs[0].shape[-1] for node in graph.nodes if node.op == "TopK"]
    assert len(rows) > 2 and all(row <= LONG_ROW for row in rows)


@pytest.mark.parametrize("size", SIZES)
def test_equals_pytorch(run, model, size):
    inputs = inputs_of(size)
    with torch.inference_mode():
        wanted = model(*(torch.from_numpy(array) for array in inputs.values()))
    assert_close(run(inputs), Outputs(*(output.numpy() for output in wanted)), 1e-4)


def test_a_batch_gives_what_single_pictures_of_its_size_give(run):
    inputs = inputs_of((128, 160), pictures=3)
    found = run(inputs)
    for row in range(3):
        wanted = run({name: array[row : row + 1] for name, array in inputs.items()})
        assert_close(Outputs(*(array[row : row + 1] for array in found)), wanted, 1e-4)


class InPyTorch:
    """The model as one of a fixed size, for a detector."""

    backend, concurrency = "pytorch", 1

    def __init__(self, model: CoDino, spec: ModelSpec) -> None:
        self.model, self.spec = model, spec

    def infer_images(self, images):
        batch = prepare_batch(images, self.spec)
        with torch.inference_mode():
            found = self.model(*map(torch.from_numpy, (batch.batch_inputs, batch.img_masks)))
        return Outputs(*(output.numpy() for output in found))


@pytest.mark.parametrize(
    ("pictures", "padded"),
    [
        ([(300, 200)], (384, 256)),
        ([(50, 333)], (64, 384)),
        ([(10, 1000)], (64, 384)),
        ([(1000, 10)], (384, 96)),
        ([(100, 250), (90, 250)], (160, 384)),
    ],
    ids=str,
)
def test_a_detector_finds_what_a_model_of_the_padded_size_finds(reference, model, pictures, padded):
    images = [picture(*size, seed=seed) for seed, size in enumerate(pictures)]
    with Detector(reference, nms="none", max_batch=2) as detector:
        found = detector(images)
        metadata = dataclasses.replace(detector.model.spec.metadata, sizes=None)
    spec = ModelSpec(*padded, None, True, metadata)
    wanted = Detector(InPyTorch(model, spec), nms="none", max_batch=2)(images)
    for one, other in zip(found, wanted, strict=True):
        assert_close(outputs_of(one), outputs_of(other), 1e-4)


def outputs_of(found: Detections) -> Outputs:
    return Outputs(found.boxes[None], found.scores[None], found.labels[None])


def test_exporter_and_runtime_take_the_same_steps():
    assert runtime.shapes.SIZE_STEP == SIZE_STEP


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": (320, 640), "width": 640}, "height is 320:640 and width is 640; give two"),
        ({"height": (320, 650), "width": (320, 640)}, "height is 320:650; give the smallest and"),
        ({"height": (320, 640), "width": (640, 320)}, "width is 640:320; give the smallest and"),
        ({"height": (0, 640), "width": (320, 640)}, "height is 0 pixels; choose 1 to 8192"),
        ({"height": (320, 640), "width": (320, 640), "mask": False}, "leave --no-mask out"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        ExportConfig(preset="co_dino_r50", weights=Path("w.pth"), **options)
