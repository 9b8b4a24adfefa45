"""Where an engine's time goes, from what TensorRT's inspector and profiler said on an H200."""

import json
import re
from pathlib import Path

import pytest

from runtime.__main__ import main
from runtime.layers import Layer
from runtime.profile import KINDS, NO_PART, Peaks, Profile, describe
from runtime.profile_report import plot, print_profile
from tests.runtime.tiny_model import save_tiny_model

RECORDED = json.loads((Path(__file__).parent / "data" / "layers.json").read_text())
H200 = Peaks(tflops=1070.5, gb_per_s=4917)


@pytest.fixture(scope="module")
def profile():
    times = RECORDED["ms"]
    layers = [Layer.from_inspector(entry) for entry in RECORDED["layers"]]
    return Profile(
        [describe(layer, times[layer.name]) for layer in layers if layer.name in times], H200
    )


@pytest.fixture
def found(profile):
    """``found(text)``: the one layer whose name begins so."""

    def find(start):
        (layer,) = [layer for layer in profile.layers if layer.name.startswith(start)]
        return layer

    return find


@pytest.mark.parametrize(
    ("start", "part", "kind"),
    [
        ("backbone.patch_embed.projection", "backbone", "products"),
        ("__mye572075", "backbone", "products"),
        ("neck.convs.3.conv", "neck", "products"),
        ("__myl_FcAdd", "encoder", "products"),
        ("_gemm_mha_v2", "backbone", "attention"),
        ("encoder.layers.0.self_attn/CoDetrMSDeformAttn", "encoder", "plugin"),
        ("__myl_AddAddCasMeaSubMulMea", "backbone", "norm"),
        ("__myl_AddSqrDivMulMulAddCasRepRep", "backbone", "norm"),
        ("__myl_AddDivCasErf", "backbone", "GELU"),
        ("__myl_Top", "detector", "top-k"),
        ("__myl_Tra", "backbone", "copies"),
        ("Reformatting CopyNode", NO_PART, "copies"),
        ("__myl_MaxMin", "decoder", "elementwise"),
    ],
)
def test_part_and_kind(found, start, part, kind):
    layer = found(start)
    assert (layer.part, layer.kind) == (part, kind)
    assert kind in KINDS


@pytest.mark.parametrize(
    ("start", "flops"),
    [
        ("backbone.patch_embed.projection", 2 * 152 * 152 * 192 * 3 * 4 * 4),
        ("neck.convs.3.conv", 2 * 19 * 19 * 1536 * 256),
        ("__mye572075", 2 * 24336 * 192 * 3 * 192),  # query, key and value as a batch
        ("backbone_stages_3_blocks_0_fc1", 2 * 361 * 1536 * 6144),  # more weights than tokens
        ("encoder_layers_0_ffn_fc1", 2 * 30785 * 256 * 2048),
        ("__myl_FcAdd", 2 * 204600 * 256 * 256),  # with a residual as large as the input
        ("_gemm_mha_v2", 2 * 2 * 1014 * 144 * 144 * 32),
        ("__myl_Top", 0),
    ],
)
def test_flops(found, start, flops):
    assert found(start).flops == flops


def test_the_plugin_of_window_attention_counts_as_attention():
    shapes = {"Inputs": [[2, 30, 40, 576], [576], [6, 144, 144]], "Outputs": [[2, 30, 40, 192]]}
    tensors = {
        key: [{"Dimensions": shape, "Format/Datatype": "Half"} for shape in value]
        for key, value in shapes.items()
    }
    node = "backbone.stages.0.blocks.1.attn/CoDetrWindowAttention"
    named = {"Name": node, "LayerType": "PluginV3", "Metadata": f"[ONNX Layer: {node}]"}
    layer = describe(Layer.from_inspector(named | tensors), 0.1)
    assert (layer.part, layer.kind) == ("backbone", "attention")
    assert layer.flops == 2 * 2 * (2 * 30 * 40) * 6 * 144 * 32  # logits and weighted sums


def described_plugin(node, inputs, output):
    tensors = {"Inputs": inputs, "Outputs": [output]}
    entry = {
        key: [{"Dimensions": shape, "Format/Datatype": "Half"} for shape in shapes]
        for key, shapes in tensors.items()
    }
    named = {"Name": node, "LayerType": "PluginV3", "Metadata": f"[ONNX Layer: {node}]"}
    return describe(Layer.from_inspector(named | entry), 0.1)


def test_the_plugin_of_norms_counts_as_norm():
    shape = [1, 20, 30, 256]
    layer = described_plugin("neck.convs.0.gn/CoDetrGroupNorm", [shape, [256], [256]], shape)
    assert (layer.part, layer.kind, layer.flops) == ("neck", "norm", 0)
    shape = [1, 30785, 256]
    layer = described_plugin("encoder.layers.0.norm1/CoDetrLayerNorm", [shape, [256], [256]], shape)
    assert (layer.part, layer.kind, layer.flops) == ("encoder", "norm", 0)


def test_the_plugin_of_linear_layers_counts_as_products():
    node = "backbone.stages.0.blocks.1.fc1/CoDetrLinear"
    shapes = [[2, 30, 40, 192], [768, 192], [768]]
    layer = described_plugin(node, shapes, [2, 30, 40, 768])
    assert (layer.part, layer.kind) == ("backbone", "products")
    assert layer.flops == 2 * 2 * 30 * 40 * 192 * 768


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ("backbone.stages.0.blocks.1.fc1/CoDetrLinearFp8ToFp8", "products"),
        ("backbone.stages.0.blocks.1.norm1/CoDetrLayerNormToFp8", "norm"),
        ("backbone.stages.0.blocks.1.attn/CoDetrWindowAttentionToFp8", "attention"),
    ],
)
def test_those_with_fp8_count_as_the_others(node, kind):
    shapes = [[2, 30, 40, 192], [192, 192], [192]]
    assert described_plugin(node, shapes, [2, 30, 40, 192]).kind == kind


def test_a_residual_adds_no_products():
    tokens = [1, 30785, 256]
    node = "encoder.layers.0.ffn.fc2/CoDetrLinearAdd"
    layer = described_plugin(node, [[1, 30785, 2048], [256, 2048], [256], tokens], tokens)
    assert (layer.part, layer.kind) == ("encoder", "products")
    assert layer.flops == 2 * 30785 * 2048 * 256


def test_bytes_are_those_of_every_tensor_once(found):
    tokens, halves, floats = 30785, 2, 4
    sampling = tokens * (256 + 480 + 256) * halves + tokens * 2 * floats
    assert found("encoder.layers.0").nbytes == sampling + (5 * 2 + 5 * 2) * 4


def test_type_names_of_tensorrt_11():
    entry = {
        **{"Name": "a", "LayerType": "gemm", "Inputs": []},
        "Outputs": [{"Dimensions": [2, 3], "Datatype": "BFloat16", "Format": "Row major"}],
    }
    assert Layer.from_inspector(entry).nbytes == 12


def test_tables(profile, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    print_profile(profile)
    out = capsys.readouterr().out
    total = sum(layer.ms for layer in profile.layers)
    assert re.search(rf"│ all +│ +{total:.2f} │ +100% │", out)
    attention = next(layer for layer in profile.layers if layer.kind == "attention")
    tflops = attention.flops / attention.ms / 1e9
    share = tflops / H200.tflops
    assert re.search(rf"│ attention +│ +1 │ 0.05 │ +{tflops:.0f} │ +{share:.0%} │", out)
    assert out.index("__myl_FcAdd") < out.index("__myl_Top") < out.index("encoder.layers.0")


def test_a_chip_without_known_peak_has_no_share(profile, capsys):
    print_profile(Profile(profile.layers, Peaks(None, 1008)))
    assert re.search(r"│ attention +│ +1 │ 0.05 │ +\d+ │ +│", capsys.readouterr().out)


def test_plot(profile):
    svg = plot(profile, "a title")
    widths = [float(w) for w in re.findall(r'width="([\d.]+)" height="22"', svg)]
    parts = {layer.part for layer in profile.layers}
    assert len(widths) == len(parts) * len(KINDS)
    by_kind = sum(layer.ms for layer in profile.layers if layer.kind == "plugin")
    assert f"<title>plugin {by_kind:.2f} ms</title>" in svg
    assert svg.count(" ms</text>") == len(parts) and "a title" in svg


def test_command_wants_an_engine(tmp_path, capsys):
    model = save_tiny_model(tmp_path / "model.ref.onnx")
    assert main(["bench", str(model), "--profile", str(tmp_path / "p.svg")]) == 2
    assert "--profile takes an engine that tells of its layers" in capsys.readouterr().err
    assert not (tmp_path / "p.svg").exists()


def test_plot_and_json_are_two_files(tmp_path, capsys):
    model, out = save_tiny_model(tmp_path / "model.ref.onnx"), str(tmp_path / "out")
    assert main(["bench", str(model), "--json", out, "--profile", out]) == 2
    assert "would overwrite" in capsys.readouterr().err
