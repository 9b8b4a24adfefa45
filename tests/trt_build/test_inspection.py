"""What ``inspect`` says of an engine, and of what is none."""

import json

import pytest

from runtime.errors import UserError
from runtime.manifest import manifest_path
from tests.trt_build.tiny_models import save_conv
from trt_build import BuildOptions, build_engine, choose_backend, inspect_engine


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "m.engine"
    build_engine(
        save_conv(tmp_path / "m.onnx"),
        path,
        backend=choose_backend("tensorrt-rtx"),
        options=BuildOptions(),
    )
    return path


def test_it_says_where_the_layers_come_from(engine):
    description = inspect_engine(engine)
    manifest = json.loads(manifest_path(engine).read_text())
    note = description.pop("layers_note")
    if note is None:  # the engine could be loaded
        assert description["layers"]["source"] == "engine inspector"
    else:
        assert "only where a GPU is" in note
        assert description == manifest


def test_another_version_of_the_backend_reads_the_manifest_only(engine):
    path = manifest_path(engine)
    path.write_text(path.read_text().replace('"backend_version": "', '"backend_version": "0.'))
    assert "built by TensorRT-RTX 0.1." in inspect_engine(engine)["layers_note"]


def test_a_tampered_engine_is_refused(engine):
    data = bytearray(engine.read_bytes())
    data[-1] ^= 1
    engine.write_bytes(data)
    with pytest.raises(UserError, match=r"is not the engine that m.engine.json describes"):
        inspect_engine(engine)


def test_an_engine_without_a_manifest_is_refused(engine):
    manifest_path(engine).unlink()
    with pytest.raises(UserError, match=r"cannot read .*m.engine.json, the manifest of"):
        inspect_engine(engine)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"manifest_version": 1, "engine": 3}', "\xff"])
def test_a_damaged_manifest_is_refused(engine, text):
    manifest_path(engine).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="is not a manifest of ours"):
        inspect_engine(engine)


def test_a_manifest_of_another_version_is_refused(engine):
    path = manifest_path(engine)
    path.write_text(path.read_text().replace('"manifest_version": 1', '"manifest_version": 2'))
    with pytest.raises(UserError, match="has version 2, this program reads 1"):
        inspect_engine(engine)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n", "is a PNG picture"),
        (b"\xff\xd8\xff\xe0", "is a JPEG picture"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"", "is empty"),
        (b"hello", "is not an engine"),
    ],
)
def test_other_files_are_named(tmp_path, data, message):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match=message):
        inspect_engine(tmp_path / "file")


def test_onnx_files_folders_and_nothing_are_named(tmp_path):
    with pytest.raises(UserError, match="is an ONNX model"):
        inspect_engine(save_conv(tmp_path / "m.onnx"))
    with pytest.raises(UserError, match="is a folder"):
        inspect_engine(tmp_path)
    with pytest.raises(UserError, match="is not there"):
        inspect_engine(tmp_path / "none")
