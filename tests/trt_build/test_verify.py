"""``verify``, with ONNX Runtime on both sides, and what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from runtime.images import write_image
from tests.conftest import has_gpu
from tests.synthetic_checkpoint import GOLDEN
from tests.trt_build.tiny_models import save_conv
from trt_build.cli import main

SWIN = {"preset": "co_dino_swin_tiny", "height": 160, "width": 224}
STAGES = [
    *(f"backbone {i}" for i in range(4)),
    *(f"neck {i}" for i in range(5)),
    "memory",
    *(f"decoder {i}" for i in range(3)),
]


@pytest.fixture(scope="module")
def fp32(exported):
    return exported(**SWIN, precision="fp32", stable=True)


@pytest.fixture(scope="module")
def fp16(exported):
    return exported(**SWIN, precision="fp16", stable=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The pictures of the goldens, of two aspect ratios."""
    folder = tmp_path_factory.mktemp("photos")
    for case in ("swin_tiny_a", "swin_tiny_b_masked"):
        write_image(folder / f"{case}.png", np.load(GOLDEN / f"{case}.npz")["image_rgb_u8"])
    return folder


@pytest.fixture
def verify(tmp_path, capsys):
    """Run the command; returns exit code, the JSON it wrote, and the lines it printed."""

    def run(candidate, reference, *arguments):
        path = tmp_path / "result.json"
        command = ["verify", candidate, "--reference", reference, "--json", path, *arguments]
        code = main([str(part) for part in command])
        result = json.loads(path.read_text(), parse_constant=pytest.fail)
        return code, result, capsys.readouterr().out.splitlines()

    return run


def damaged(path, target, module, change):
    """A copy in which the weights of one module are changed."""
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.name == module)
    tensor = next(t for t in model.graph.initializer if t.name in node.input)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, target)
    return target


def test_a_model_equals_itself(fp32, verify):
    code, result, lines = verify(fp32.reference, fp32.reference)
    assert (code, result["passed"], result["failures"]) == (0, True, [])
    assert result["generated"] and "2 generated pictures; give real ones with --images" in lines[0]
    assert lines[-1] == "PASSED"
    assert [stage["name"] for stage in result["stages"]] == STAGES
    for stage in result["stages"]:
        assert stage["relative_error"] <= 1e-6
        assert 1 < stage["max_reference"] < 100  # it was really looked at
    for errors in (result["detections"], result["same_queries"]):
        assert errors == {"agreement": 1, "max_score_difference": 0, "not_finite": []}


def test_half_precision_passes(fp16, fp32, photos, verify):
    code, result, lines = verify(fp16.reference, fp32.reference, "--images", photos)
    assert (code, lines[-1]) == (0, "PASSED")
    assert result["pictures"] == [str(file) for file in sorted(photos.iterdir())]
    assert not result["generated"]
    assert (result["precision"], result["limit"]) == ("fp16", 2e-2)
    assert all(1e-4 < stage["relative_error"] < 5e-3 for stage in result["stages"])
    assert result["same_queries"]["agreement"] >= 0.99


def test_the_first_wrong_stage_is_named(fp32, tmp_path, verify):
    module = "neck.convs.2.conv/MatMul"
    wrong = damaged(fp32.reference, tmp_path / "wrong.ref.onnx", module, np.flip)
    code, result, lines = verify(wrong, fp32.reference)
    assert code == 1
    good = [stage["name"] for stage in result["stages"] if stage["relative_error"] <= 1e-3]
    assert good == [*STAGES[:6], "neck 3", "neck 4"]
    assert result["failures"][0].startswith("neck 2 has a relative error of 1.")
    assert "of the detections agree, less than 99.00%" in result["failures"][1]
    assert lines[-1] == f"FAILED: {'; '.join(result['failures'])}"
    assert sum(line.rstrip().endswith("WRONG") for line in lines) == len(STAGES) - len(good)


def test_detections_alone(fp32, tmp_path, verify):
    wrong = damaged(
        fp32.reference, tmp_path / "wrong.ref.onnx", "cls_branches.2/MatMul", np.negative
    )
    code, result, _ = verify(wrong, fp32.reference, "--no-stages")
    assert (code, result["stages"], result["same_queries"]) == (1, [], None)
    assert len(result["failures"]) == 1
    assert verify(wrong, fp32.reference, "--no-stages", "--min-agreement", "0")[0] == 0


def test_nan_is_told(fp32, tmp_path, verify):
    def change(weights):
        weights = weights.copy()
        weights.flat[0] = np.nan
        return weights

    wrong = damaged(
        fp32.reference, tmp_path / "wrong.ref.onnx", "neck.extra_convs.0.conv/Conv", change
    )
    code, result, _ = verify(wrong, fp32.reference)
    assert code == 1
    first, outputs, _ = result["failures"]
    assert first == "neck 4 has NaN or infinities (the first of 5 wrong stages)"
    assert outputs.startswith("NaN or infinities in boxes, scores")
    stage = next(stage for stage in result["stages"] if stage["name"] == "neck 4")
    assert stage["relative_error"] is None and not stage["finite"]


def test_other_queries_fail_end_to_end_and_leave_the_stages_right(fp32, tmp_path, verify):
    """The head that ranks the proposals decides which become queries, and nothing else."""
    other = damaged(
        fp32.reference, tmp_path / "other.ref.onnx", "cls_branches.3/MatMul", np.negative
    )
    code, result, _ = verify(other, fp32.reference)
    assert code == 1
    assert result["detections"]["agreement"] < 0.9
    assert result["same_queries"] == {"agreement": 1, "max_score_difference": 0, "not_finite": []}
    assert all(stage["relative_error"] == 0 for stage in result["stages"])


def test_a_dynamic_batch(exported, verify):
    files = exported(**SWIN, batch="dynamic")
    assert verify(files.reference, files.reference)[0] == 0


def with_metadata(path, target, **changes):
    model = onnx.load(path)
    metadata = json.loads(model.metadata_props[0].value) | changes
    onnx.helper.set_model_props(model, {"codetr": json.dumps(metadata)})
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("weights_sha256", "0" * 64, "its weights_sha256 is 000000000000…, not "),
        ("preset", "co_dino_swin_l", "its preset is co_dino_swin_l, not co_dino_swin_tiny"),
        ("height", 320, "its height is 320, not 160"),
        ("batch", "dynamic", "its batch is dynamic, not 1"),
    ],
)
def test_another_models_reference_is_refused(fp32, tmp_path, refused, key, value, message):
    other = with_metadata(fp32.reference, tmp_path / "other.ref.onnx", **{key: value})
    assert message in refused("verify", fp32.reference, "--reference", other)


def test_graphs_with_the_plugin_are_refused(fp32, refused):
    for pair in ((fp32.reference, fp32.plugin), (fp32.plugin, fp32.reference)):
        message = refused("verify", pair[0], "--reference", pair[1])
        assert "holds plugin nodes (CoDetrMSDeformAttn)" in message
        assert "give model.ref.onnx" in message


def test_files_that_are_not_there_are_refused(fp32, tmp_path, refused):
    missing = tmp_path / "missing.ref.onnx"
    assert "is not there" in refused("verify", missing, "--reference", fp32.reference)
    assert "cannot read" in refused("verify", fp32.reference, "--reference", missing)
    arguments = ("verify", fp32.reference, "--reference", fp32.reference)
    assert "cannot read picture" in refused(*arguments, "--images", tmp_path / "a.png")
    assert "no pictures in folder" in refused(*arguments, "--images", tmp_path)
    assert "an ONNX itself" in refused(*arguments, "--onnx", fp32.plugin)
    assert "--min-agreement takes" in refused(*arguments, "--min-agreement", "99")
    assert "cannot write" in refused(*arguments, "--json", tmp_path)


def test_stages_that_nobody_named_are_refused(fp32, tmp_path, refused):
    old = with_metadata(fp32.reference, tmp_path / "old.ref.onnx", stages=None)
    assert "does not name its stages" in refused("verify", fp32.reference, "--reference", old)
    assert main(["verify", str(old), "--reference", str(old), "--no-stages"]) == 0


TINY = {
    "height": 16,
    "width": 16,
    "batch": 1,
    "mask": False,
    "weights_sha256": "1" * 64,
    "classes": ["thing"],
    "preprocess": {"mean": [0, 0, 0], "std": [1, 1, 1]},
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A small TensorRT-RTX engine, with what it was built from beside it."""
    folder = tmp_path_factory.mktemp("engine")
    model = save_conv(folder / "m.ref.onnx", precision="fp32")
    with_metadata(model, model, **TINY)
    path = folder / "m.engine"
    assert main([str(model), "-o", str(path), "--backend", "tensorrt-rtx"]) == 0
    return path


def test_engines_with_wrong_files_beside_them_are_refused(engine, onnx, tmp_path, refused):
    for file in engine.parent.iterdir():
        shutil.copy(file, tmp_path)
    copy, reference = tmp_path / engine.name, engine.with_name("m.ref.onnx")
    arguments = ("verify", copy, "--reference", reference)
    assert f"{onnx} is not what {copy} was built from" in refused(*arguments, "--onnx", onnx)
    (tmp_path / "m.ref.onnx").unlink()
    assert "give it with --onnx" in refused(*arguments)
    (tmp_path / "m.engine.json").unlink()
    assert "the manifest of" in refused(*arguments)


@pytest.mark.skipif(has_gpu(), reason="the engine may run here")
def test_an_engine_without_a_gpu_is_refused(engine, refused):
    message = refused("verify", engine, "--reference", engine.with_name("m.ref.onnx"))
    assert "was built by TensorRT-RTX and runs on an RTX card only (" in message
    assert "give the .ref.onnx it was built from instead" in message
