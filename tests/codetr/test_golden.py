"""The model against the original's outputs, and the command that anyone can check it with."""

import json
import shutil

import numpy as np
import pytest

from tests.golden import _query_order, check_case, check_unit, main
from tests.golden_case import case_names, unit_names
from tests.synthetic_checkpoint import GOLDEN

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


def test_every_array_out_of_tolerance_is_named(folder, capsys):
    path = folder / f"{CASE}.npz"
    arrays = dict(np.load(path))
    changes = {"input": 2e-6, "enc_max_logit": 2e-3, "topk_logit": 2e-3, "decoder_logits": 2e-3}
    changes |= dict.fromkeys(("backbone_1", "neck_4", "memory", "decoder_hidden"), 2e-4)
    changes |= dict.fromkeys(("initial_reference", "decoder_references", "decoder_boxes"), 2e-4)
    changes |= dict.fromkeys(("prenms_scores", "final_scores"), 2e-4)
    changes |= dict.fromkeys(("prenms_boxes", "final_boxes"), 0.05)  # pixels
    changes |= {"img_mask": 1, "mask_3": 1, "valid_ratios": -1e-6, "final_labels": 1}
    for name, change in changes.items():  # twice the tolerance or the least there is, once
        arrays[name].flat[-1] += arrays[name].dtype.type(change)
    arrays["topk_indices"][[0, 1]] = arrays["topk_indices"][[1, 0]]
    arrays["prenms_query"][0] += 1
    arrays["surprise"] = np.zeros(3)
    np.savez(path, **arrays)
    wrong = {*changes, "topk_indices", "prenms_query", "prenms_labels", "surprise"}

    assert main([str(folder)]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.endswith("FAIL")} == wrong
    right = arrays.keys() - wrong - {"image_rgb_u8"}
    assert {line.split()[0] for line in lines if line.endswith("ok")} == right
    assert last.startswith("out of tolerance: ")
    assert all(f"{CASE}: {name}" in last for name in wrong)


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
        (
            "manifest_summary.json",
            b'{"swin_tiny": {"fingerprint_eval_keys": "0"}}',
            "have fingerprint b613f725, not 0",
        ),
    ],
)
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
