"""The model against the original's outputs, and the command that anyone can check it with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.golden import _query_order, check_case, check_unit, main
from tests.golden_case import case_names, unit_names

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASE = "swin_tiny_b_masked"


@pytest.mark.parametrize("name", case_names(GOLDEN))
def test_model_matches_the_original(name):
    errors = check_case(GOLDEN, name)
    stored = set(np.load(GOLDEN / f"{name}.npz").files)
    assert {error.name for error in errors} == stored - {"image_rgb_u8"}
    assert [error for error in errors if not error.ok] == []


@pytest.mark.parametrize("name", unit_names(GOLDEN))
def test_soft_nms_matches_the_original(name):
    errors = check_unit(GOLDEN, name)
    assert len(errors) == 4
    assert all(error.error == 0 for error in errors)


@pytest.fixture
def folder(tmp_path):
    """A copy of one case."""
    for name in (f"{CASE}.config.json", f"{CASE}.npz", "manifest_swin_tiny.json"):
        shutil.copyfile(GOLDEN / name, tmp_path / name)
    return tmp_path


def change(path, **arrays):
    np.savez(path, **dict(np.load(path)) | arrays)


def test_every_changed_array_is_named(folder, capsys):
    """Each array is off by twice its tolerance or by one element; what is left as it was is ok."""
    path = folder / f"{CASE}.npz"
    arrays = dict(np.load(path))
    for name, change_by in {
        "input": 2e-6, "backbone_1": 2e-4, "neck_4": 2e-4, "memory": 2e-4, "enc_max_logit": 2e-3,
        "topk_logit": 2e-3, "initial_reference": 2e-4, "decoder_references": 2e-4,
        "decoder_hidden": 2e-4, "decoder_logits": 2e-3, "decoder_boxes": 2e-4,
        "prenms_boxes": 0.05, "prenms_scores": 2e-4, "final_boxes": 0.05, "final_scores": 2e-4,
    }.items():  # fmt: skip
        arrays[name].flat[-1] += change_by
    arrays["mask_3"][0, 0] = 1
    arrays["valid_ratios"][0, 0] -= 1e-6
    arrays["final_labels"][5] += 1
    arrays["topk_indices"][[0, 1]] = arrays["topk_indices"][[1, 0]]
    best = {*zip(arrays["prenms_query"], arrays["prenms_labels"], strict=True)}
    arrays["prenms_labels"][7] = next(
        k for k in range(80) if (arrays["prenms_query"][7], k) not in best
    )
    np.savez(path, **arrays, surprise=np.zeros(3))
    expected = set(arrays) - {"image_rgb_u8", "img_mask", *(f"mask_{i}" for i in (0, 1, 2, 4))}
    expected -= {"backbone_0", "backbone_2", "backbone_3", "neck_0", "neck_1", "neck_2", "neck_3"}
    expected |= {"surprise"}

    assert main([str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.endswith("FAIL")} == expected
    assert {line.split()[0] for line in lines if line.endswith("ok")} == {
        "img_mask",
        *arrays,
    } - expected - {"image_rgb_u8"}
    assert lines[-1].startswith("out of tolerance: ") and f"{CASE}: memory" in lines[-1]


def test_queries_are_matched_by_token():
    tokens, golden = np.array([7, 5, 9, 1]), np.array([5, 7, 8, 1])
    assert _query_order(tokens, golden).tolist() == [1, 0, 2, 3]


def test_padding_counts_as_picture_with_lsj(folder):
    """LSJ models take no mask: the same case then has full valid ratios."""
    config = json.loads((folder / f"{CASE}.config.json").read_text())
    config["resolved"]["use_lsj"] = True
    (folder / f"{CASE}.config.json").write_text(json.dumps(config))
    change(folder / f"{CASE}.npz", valid_ratios=np.ones((5, 2), np.float32))
    errors = {error.name: error for error in check_case(folder, CASE)}
    assert errors["valid_ratios"].ok and errors["backbone_3"].ok
    assert not errors["mask_0"].ok and not errors["memory"].ok
    assert "img_mask" not in errors


def test_soft_nms_alone(tmp_path, capsys):
    path = tmp_path / "softnms_unit.npz"
    shutil.copyfile(GOLDEN / path.name, path)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("all within tolerance\n")
    keep = np.load(path)["u1_keep"]
    change(path, u1_keep=np.roll(keep, 1))
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("out of tolerance: softnms_unit: u1_keep\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (f"{CASE}.npz", b"", "cannot read golden case"),
        (f"{CASE}.npz", b"PK\3\4 and no more", "cannot read golden case"),
        (f"{CASE}.npz", None, "No such file"),
        (f"{CASE}.config.json", b"{", "Expecting property name"),
        (f"{CASE}.config.json", b"{}", "lacks 'resolved'"),
        ("manifest_swin_tiny.json", None, "No such file"),
        ("manifest_swin_tiny.json", b'{"a.weight": [3]}', "does not fit"),
        ("manifest_summary.json", b'{"swin_tiny": {"fingerprint_eval_keys": "0"}}', "fingerprint b613f725"),
    ],
)  # fmt: skip
def test_unreadable_cases_are_refused_in_one_line(folder, capsys, name, content, message):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert_refused(folder, capsys, message)


def test_a_case_that_lacks_an_array_is_refused(folder, capsys):
    path = folder / f"{CASE}.npz"
    arrays = dict(np.load(path))
    del arrays["topk_indices"]
    np.savez(path, **arrays)
    assert_refused(folder, capsys, "lacks 'topk_indices'")


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_without_cases_is_refused(tmp_path, capsys, name):
    assert_refused(tmp_path / name, capsys, "no golden cases")


def assert_refused(folder, capsys, message):
    assert main([str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
