"""Files that would read, write or run what they should not."""

import ast
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime.backend import open_model
from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.journal import Journal
from runtime.sources import Video
from runtime.targets import choose_targets
from tests.runtime.detect_folder import coco, detect, records, save_photos
from tests.runtime.tiny_model import metadata, save_tiny_model
from trt_build.onnx_file import read_onnx

ROOT = Path(__file__).parents[2]
PACKAGES = ("codetr", "onnx_export", "plugin", "trt_build", "runtime", "benchmarks")


@pytest.fixture
def model(tmp_path):
    return save_tiny_model(tmp_path / "model.ref.onnx")


# Weights in other files


def save_with_weights_in(folder, location, *, constant=False):
    """Write a model that adds weights from another file to its input."""
    weights = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        weights.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=weights))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [] if constant else [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, {"codetr": metadata()})
    path = folder / "model.ref.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    """A folder with weights in it, and a secret beside it that two links lead to."""
    for path in (tmp_path / "secret", tmp_path / "model" / "weights"):
        path.parent.mkdir(exist_ok=True)
        np.arange(4, dtype=np.float32).tofile(path)
    (tmp_path / "model" / "link").symlink_to("../secret")
    (tmp_path / "model" / "up").symlink_to("..")
    return tmp_path / "model"


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("location", ["../secret", "ABSOLUTE", "link", "up/secret"])
def test_onnx_runtime_reads_no_file_outside_of_the_models_folder(folder, location, constant):
    location = location.replace("ABSOLUTE", str(folder.parent / "secret"))
    with pytest.raises(UserError, match=r"External data path|[Aa]bsolute path"):
        open_model(save_with_weights_in(folder, location, constant=constant))


def test_onnx_runtime_reads_files_inside_of_it(folder):
    """Or the test above proves nothing."""
    with pytest.raises(UserError, match="its inputs and outputs are x float32"):
        open_model(save_with_weights_in(folder, "weights"))


def test_onnx_runtime_that_would_read_any_file_is_refused(model, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", "1.23.2")
    with pytest.raises(UserError, match=r"ONNX Runtime 1.23.2 lets a model read any file"):
        open_model(model)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("location", ["weights", "../secret", "link"])
def test_builds_and_verification_take_one_file_only(folder, location, constant):
    with pytest.raises(UserError, match="keeps its weights in other files"):
        read_onnx(save_with_weights_in(folder, location, constant=constant))


def test_weights_in_other_files_are_found_in_branches_too(folder):
    path = save_with_weights_in(folder, "../secret", constant=True)
    model = onnx.load(path, load_external_data=False)
    branch = helper.make_graph(
        model.graph.node[:1], "b", [], [helper.make_tensor_value_info("w", 1, [4])]
    )
    choice = helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
    del model.graph.node[0]
    model.graph.node.insert(0, choice)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="keeps its weights in other files"):
        read_onnx(path)


# Where results go


HOSTILE = ["..", "../../etc/passwd", "/etc/passwd", "a/../../b", "...", "-rf", "a\nb", "%2e%2e%2f"]


@pytest.mark.parametrize("name", HOSTILE)
def test_results_stay_in_the_output_folder(tmp_path, name):
    sources = [Path(name), Path(name + ".jpg"), Video(f"rtsp://host/{name}"), Video(f"{name}.mp4")]
    done = {"former": name, "other": f"../{name}"}
    targets = choose_targets(sources, tmp_path, done).values()
    assert len(set(targets)) == len(sources)
    for target in targets:
        assert target.parent == tmp_path
        assert os.path.normpath(target) == str(target)
        assert target.suffix in (".png", ".mp4")


def test_links_in_the_output_folder_are_replaced_not_followed(tmp_path, model):
    photos, out = save_photos(tmp_path / "photos", 1), tmp_path / "out"
    out.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("000.png", "detections.jsonl", "detections.json", "run.json"):
        (out / name).symlink_to(precious)
    assert detect(model, photos, "-o", out) == 0
    assert precious.read_text() == "precious"
    assert not any(path.is_symlink() for path in out.iterdir())


def test_names_that_are_no_text(tmp_path, model):
    """A picture whose name is not UTF-8 is detected in, told of, and found when resuming."""
    photos = save_photos(tmp_path / "photos", 1)
    odd = os.fsencode(photos) + b"/\xff.png"
    Path(os.fsdecode(photos / "000.png")).rename(os.fsdecode(odd))
    broken = Path(os.fsdecode(os.fsencode(photos) + b"/\xfe.png"))
    broken.write_bytes(b"")
    out = tmp_path / "out"
    assert detect(model, photos, "-o", out) == 2
    assert {record["image"] for record in records(out)} == {os.fsdecode(odd), str(broken)}
    assert coco(out)["images"][0]["file_name"] == os.fsdecode(odd)
    with Journal(out / "detections.jsonl", resume=True) as journal:
        assert os.fsdecode(odd) in journal.outputs


def test_temporary_files_are_not_to_be_guessed(tmp_path):
    names = set()
    for _ in range(20):
        with atomic_output(tmp_path / "a.json") as temporary:
            names.add(temporary.name)
    assert len(names) == 20
    assert all(len(name) == len(".codetr-0123456789abcdef.json") for name in names)


def test_a_temporary_file_that_is_there_already_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / ".codetr-known.json").symlink_to(precious)
    with pytest.raises(UserError, match="File exists"), atomic_output(tmp_path / "a.json") as file:
        file.write_text("overwritten")
    assert precious.read_text() == "precious"


# Code


def calls(tree):
    """Name, keywords and first line of everything that is called: ``torch.load``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            yield ast.unparse(node.func), words, node.lineno


NEVER = {"eval", "exec", "os.system", "os.popen", "tempfile.mktemp", "np.load", "numpy.load"}
NEVER |= {
    f"{module}.{name}"
    for module in ("pickle", "marshal", "shelve")
    for name in ("load", "loads", "open")
}


def wrong_with(source):
    """Calls that would run what a file or a name says."""
    for name, words, line in calls(ast.parse(source)):
        if name in NEVER or words.get("shell", "False") != "False":
            yield f"line {line}: {name}"
        if name == "torch.load" and words.get("weights_only") != "True":
            yield f"line {line}: {name} without weights_only=True"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_pickle_no_shell_no_names_to_guess(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    assert [f"{f}: {wrong}" for f in files for wrong in wrong_with(f.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "pickle.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "subprocess.run(c, shell=True)",
        "os.system(c)",
        "np.load(f)",
        "tempfile.mktemp()",
    ],
)
def test_each_of_them_would_be_found(source):
    assert list(wrong_with(source))
