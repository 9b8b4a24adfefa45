import threading

import numpy as np
import pytest

from runtime.backend import ModelMetadata, ModelSpec, TensorInfo, open_model
from runtime.errors import UserError
from tests.runtime.tiny_model import (
    CLASSES,
    MEAN,
    STD,
    metadata,
    save_foreign_model,
    save_model_of_any_size,
    save_plugin_model,
    save_tiny_model,
)


def inputs(rows, height=48, width=64):
    return np.zeros((rows, 3, height, width), np.float32), np.zeros((rows, height, width), "f4")


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("mask", [True, False])
def test_spec_is_read_from_the_file(tmp_path, batch, mask):
    path = save_tiny_model(tmp_path / "m.onnx", height=32, width=80, batch=batch, mask=mask)
    spec = open_model(path).spec
    assert (spec.height, spec.width, spec.has_mask) == (32, 80, mask)
    assert spec.batch == (None if batch == "batch" else batch)
    assert (spec.metadata.preset, spec.metadata.precision) == ("tiny", "fp32")
    assert spec.metadata.classes == CLASSES
    np.testing.assert_array_equal(np.array(spec.metadata.mean, np.float32), MEAN)
    np.testing.assert_array_equal(np.array(spec.metadata.std, np.float32), STD)


@pytest.mark.parametrize("mask", [True, False])
def test_infer(tmp_path, mask):
    model = open_model(str(save_tiny_model(tmp_path / "M.ONNX", mask=mask)))
    batch_inputs, img_masks = inputs(2)
    img_masks[1, :, 32:] = 1
    outputs = model.infer(batch_inputs, img_masks)
    assert [a.shape for a in outputs] == [(2, 3, 4), (2, 3), (2, 3)]
    assert [a.dtype for a in outputs] == [np.float32, np.float32, np.int64]
    assert outputs.boxes[0, 0].tolist() == [0, 0, 64, 48]
    assert outputs.boxes[1, 0].tolist() == [0, 0, 32 if mask else 64, 48]


def test_close_twice_then_infer(tmp_path):
    model = open_model(save_tiny_model(tmp_path / "m.onnx"))
    model.close()
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.infer(*inputs(1))


def test_threads_share_a_model(tmp_path):
    model = open_model(save_tiny_model(tmp_path / "m.onnx"))
    widths = {}

    def work(valid):
        batch_inputs, img_masks = inputs(1)
        img_masks[..., valid:] = 1
        widths[valid] = {float(model.infer(batch_inputs, img_masks).boxes[0, 0, 2])} | {
            float(model.infer(batch_inputs, img_masks).boxes[0, 0, 2]) for _ in range(50)
        }

    threads = [threading.Thread(target=work, args=(valid,)) for valid in (10, 20, 30, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert widths == {valid: {float(valid)} for valid in (10, 20, 30, 40)}


def test_plugin_model_points_to_the_reference(tmp_path):
    path = save_plugin_model(tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"only TensorRT can run.*model\.ref\.onnx"):
        open_model(path)


def test_foreign_models(tmp_path):
    with pytest.raises(UserError, match="no entry 'codetr'"):
        open_model(save_foreign_model(tmp_path / "a.onnx", entry=""))
    found = r"images float32\(\?, 3, 8, 8\), dets float32\(\?, 3, 8, 8\)"
    with pytest.raises(UserError, match=f"not a Co-DETR model: .*{found}"):
        open_model(save_foreign_model(tmp_path / "b.onnx", entry=metadata()))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "no entry 'codetr'"),
        ("{", "not a Co-DETR model"),
        ("[]", "incomplete"),
        ('{"preset": "tiny"}', "incomplete: 'precision'"),
    ],
)
def test_bad_metadata(tmp_path, entry, message):
    with pytest.raises(UserError, match=message):
        open_model(save_tiny_model(tmp_path / "m.onnx", entry=entry))


IMAGES = TensorInfo("float32", (None, 3, 48, 64))
MASKS = TensorInfo("float32", (None, 48, 64))
OUTPUTS = {
    "boxes": TensorInfo("float32", (None, 300, 4)),
    "scores": TensorInfo("float32", (None, 300)),
    "labels": TensorInfo("int64", (None, 300)),
}


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"batch_inputs": IMAGES._replace(dtype="float16")}, OUTPUTS),
        ({"batch_inputs": IMAGES._replace(shape=(None, 1, 48, 64))}, OUTPUTS),
        ({"batch_inputs": IMAGES, "img_masks": MASKS._replace(dtype="bool")}, OUTPUTS),
        ({"batch_inputs": IMAGES, "img_masks": MASKS._replace(shape=(None, 64, 48))}, OUTPUTS),
        ({"batch_inputs": IMAGES, "masks": MASKS}, OUTPUTS),
        ({"batch_inputs": IMAGES}, OUTPUTS | {"labels": TensorInfo("int32", (None, 300))}),
        ({"batch_inputs": IMAGES}, OUTPUTS | {"extra": MASKS}),
    ],
)
def test_other_inputs_or_outputs_are_refused(inputs, outputs):
    with pytest.raises(ValueError, match=r"its inputs and outputs are batch_inputs float.*labels"):
        ModelSpec.from_tensors(inputs, outputs, ModelMetadata.from_json(metadata()))


def test_dynamic_height_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"batch_inputs float32\(1, 3, \?, 64\)"):
        open_model(save_tiny_model(tmp_path / "m.onnx", batch=1, height="h"))


def test_ranges_are_read_from_the_file(tmp_path):
    spec = open_model(save_model_of_any_size(tmp_path / "m.onnx")).spec
    assert (spec.height, spec.width, spec.batch, spec.has_mask) == (128, 160, None, True)
    assert spec.metadata.sizes == ((64, 64), (128, 160))


@pytest.mark.parametrize(
    ("height", "width"),
    [
        ([64, 128], 160),
        ([64, 128], [64, 150]),
        ([128, 64], [64, 160]),
        ([0, 128], [64, 160]),
        ([64], [64, 160]),
        (["64", "128"], [64, 160]),
        ([2**70, 2**71], [64, 160]),
    ],
)
def test_ranges_that_make_no_sense_are_refused(tmp_path, height, width):
    with pytest.raises(UserError, match=r"not a Co-DETR model: its (height is|input is .* large)"):
        open_model(save_model_of_any_size(tmp_path / "m.onnx", height=height, width=width))


def test_ranges_of_a_fixed_input_are_refused(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx", entry=metadata(height=[32, 64], width=[32, 64]))
    with pytest.raises(UserError, match=r"its inputs and outputs are .*\(\?, 3, 48, 64\)"):
        open_model(path)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_cut_model(tmp_path, kept):
    path = save_tiny_model(tmp_path / "m.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(UserError, match="not a complete ONNX model") as error:
        open_model(path)
    assert "\n" not in str(error.value)


def test_text_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="not a complete ONNX model"):
        open_model(path)


def test_wrong_paths(tmp_path):
    (tmp_path / "m.engine").write_bytes(b"ftrt")
    (tmp_path / "m.pth").write_bytes(b"PK")
    with pytest.raises(UserError, match="no model file"):
        open_model(tmp_path / "none.onnx")
    with pytest.raises(UserError, match="no model file"):
        open_model(tmp_path)
    with pytest.raises(UserError, match=r"m\.engine\.json, the manifest of .*m\.engine"):
        open_model(tmp_path / "m.engine")
    with pytest.raises(UserError, match=r"suffix is neither \.onnx nor \.engine"):
        open_model(tmp_path / "m.pth")
