"""A tiny ONNX model that keeps the contract; its outputs tell what its inputs were."""

import json

import numpy as np
import onnx
import onnx.parser

CLASSES = ("cat", "dog", "bird")
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)

# The three boxes of every picture, as fractions of its valid region: x1 y1 x2 y2.
UNIT_BOXES = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.75, 1], [0, 0, 0.5, 0.25]], np.float32)


def expected_scores(rgb):
    """Scores of a picture whose pixels are all ``rgb``, before NMS."""
    return 1 / (1 + np.exp(-(np.array(rgb, np.float32) - MEAN) / STD))


def metadata(**changes):
    data = {
        "version": "0.1.0",
        "role": "reference",
        "preset": "tiny",
        "precision": "fp32",
        "classes": list(CLASSES),
        "preprocess": {"mean": MEAN.tolist(), "std": STD.tolist()},
    }
    return json.dumps(data | changes)


_WITH_MASK = """
    one = Constant<value_float: float = 1.0>()
    valid = Sub(one, img_masks)
    first_row = Slice(valid, zero, one_, one_)
    first_column = Slice(valid, zero, one_, two)
    w = ReduceSum(first_row, two)
    h = ReduceSum(first_column, one_)
    sizes = Concat<axis: int = 2>(w, h, w, h)
"""

_WITHOUT_MASK = """
    nothing = Sub(pixel, pixel)
    channel = Slice(nothing, zero, one_, one_)
    column = Squeeze(channel, three)
    size = Constant<value_floats: floats = [W, H, W, H]>()
    sizes = Add(column, size)
"""

# sizes is (B, 1, 4): valid width, height, width, height
_MODEL = """
<ir_version: 10, opset_import: ["": 17]>
tiny (INPUTS) => (float[B,3,4] boxes, float[B,3] scores, int64[B,3] labels)
<int64[1] zero = {0}, int64[1] one_ = {1}, int64[1] two = {2}, int64[1] three = {3},
 int64[2] hw = {2, 3}, int64[2] corner = {0, 0}, int64[2] corner_end = {1, 1},
 float[1,3,4] unit_boxes = {UNIT_BOXES}, int64[1,3] label_row = {0, 1, 2}>
{
    pixel = Slice(batch_inputs, corner, corner_end, hw)
    SIZES
    boxes = Mul(sizes, unit_boxes)
    logits = Squeeze(pixel, hw)
    scores = Sigmoid(logits)
    score_bits = Cast<to: int = 7>(scores)
    no_labels = Sub(score_bits, score_bits)
    labels = Add(no_labels, label_row)
}
"""


def save_tiny_model(path, *, height=48, width=64, batch="batch", mask=True, entry=None):
    """Write the model and return its path.

    Box i = ``UNIT_BOXES[i]`` times the valid size (counted in the mask, else W x H), label i,
    score i = sigmoid of the normalised channel i at the top left pixel.

    Args:
        batch: int, or a name for a dynamic batch.
        entry: text of the metadata entry "codetr" instead of the right one; "" leaves it out.
    """
    inputs = f"float[{batch},3,{height},{width}] batch_inputs"
    if mask:
        inputs += f", float[{batch},{height},{width}] img_masks"
    sizes = _WITHOUT_MASK.replace("W", f"{width}.0").replace("H", f"{height}.0")
    text = _MODEL.replace("INPUTS", inputs).replace("[B,", f"[{batch},")
    text = text.replace("UNIT_BOXES", ", ".join(map(str, UNIT_BOXES.ravel())))
    text = text.replace("SIZES", _WITH_MASK if mask else sizes)
    return _save(path, text, metadata() if entry is None else entry)


def save_model_of_any_size(path, *, height=(64, 128), width=(64, 160), batch="batch"):
    """The same for all heights and widths in these ranges."""
    entry = metadata(height=height, width=width)
    return save_tiny_model(path, height="height", width="width", batch=batch, entry=entry)


def save_plugin_model(path):
    """Write a model with a node of the plugin, as ``model.onnx`` has."""
    text = """<ir_version: 10, opset_import: ["": 17, "codetr": 1]>
    plugin (float[1,9,8] value, float[1,4,18] sampling, float[1,4,2] reference,
            int32[1,2] level_sizes, int32[1,1,2] valid_sizes) => (float[1,4,8] output) {
        output = codetr.CoDetrMSDeformAttn
            <num_heads = 2, num_points = 3, plugin_version = "1", plugin_namespace = "">
            (value, sampling, reference, level_sizes, valid_sizes)
    }"""
    return _save(path, text, metadata())


def save_foreign_model(path, entry):
    """Write a model with other inputs and outputs."""
    text = """<ir_version: 10, opset_import: ["": 17]>
    foreign (float[n,3,8,8] images) => (float[n,3,8,8] dets) { dets = Relu(images) }"""
    return _save(path, text, entry)


def _save(path, text, entry):
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    if entry:
        onnx.helper.set_model_props(model, {"codetr": entry})
    onnx.save(model, path)
    return path
