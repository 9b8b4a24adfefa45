"""Compares the model with golden cases of the original: ``python -m tests.golden DIR``.

Letters: Q queries, K classes, N detections.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from codetr.errors import UserError
from codetr.model import CoDino, Stages, to_pixels
from runtime.postprocess import nms
from tests.golden_case import (
    Array,
    Case,
    case_names,
    read_case,
    read_units,
    unit_names,
)
from tests.synthetic_images import to_input

TOLERANCES = {
    "input": 1e-6,
    "img_mask": 0,
    "backbone": 1e-4,
    "neck": 1e-4,
    "mask": 0,
    "valid_ratios": 0,
    "memory": 1e-4,
    "enc_max_logit": 1e-3,
    "topk_indices": 5e-5,  # logits; above the noise, below the gaps of the small models
    "topk_logit": 1e-3,
    "initial_reference": 1e-4,
    "decoder_references": 1e-4,
    "decoder_hidden": 1e-4,
    "decoder_logits": 1e-3,
    "decoder_boxes": 1e-4,
    "prenms_query": 1e-4,  # score
    "prenms_labels": 1e-4,  # score
    "prenms_scores": 1e-4,
    "prenms_boxes": 1e-4,  # of the longer side of the input
    "final_labels": 0,
    "final_scores": 1e-4,
    "final_boxes": 1e-4,  # of the longer side of the input
    "keep": 0,
    "dets": 1e-6,
}
"""Largest absolute error, by the name of an array without its index."""
PIXELS = ("prenms_boxes", "final_boxes")
ENGINE_PRECISIONS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True, slots=True)
class ArrayError:
    """How far one array is from its golden."""

    name: str
    error: float
    """Infinite where the two cannot be compared."""
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance


Check = Callable[[Path, str], list[ArrayError]]


def check_case(folder: Path, name: str) -> list[ArrayError]:
    """Run the model of one case; the result has every array that the case stores.

    Raises:
        UserError: the case cannot be read, or its weights cannot be made here.
    """
    case = read_case(folder, name)
    errors = _case_errors(case.build_model(), case)
    tolerances = {key: TOLERANCES.get(re.sub(r"_\d+$", "", key), 0) for key in errors}
    tolerances |= {key: TOLERANCES[key] * max(case.arrays["input"].shape) for key in PIXELS}
    return [ArrayError(key, error, tolerances[key]) for key, error in errors.items()]


def check_unit(folder: Path, name: str) -> list[ArrayError]:
    """Run soft-NMS on every set of boxes of one file.

    Raises:
        UserError: the file cannot be read.
    """
    errors = []
    for prefix, unit in read_units(folder, name).items():
        kept, scores = nms(unit["boxes"], unit["scores"], unit["labels"], mode="soft")
        computed = {"keep": kept, "dets": np.column_stack((unit["boxes"][kept], scores))}
        for part, array in computed.items():
            error = _distance(array, unit[part])
            errors.append(ArrayError(f"{prefix}_{part}", error, TOLERANCES[part]))
    return errors


def _case_errors(model: CoDino, case: Case) -> dict[str, float]:
    """Error of every stored array; infinite for one that is not known here."""
    golden = case.arrays
    masks = None if case.use_lsj else torch.from_numpy(golden["img_mask"]).float()
    with torch.inference_mode():
        stages = model.stages(torch.from_numpy(golden["input"]), masks)
        computed = _input_arrays(case) | _feature_arrays(stages, case.stride)
        computed |= _query_arrays(model, stages, case)
        logits = torch.from_numpy(computed["decoder_logits"][-1:])  # (1, Q, K)
        relative = torch.from_numpy(computed["decoder_boxes"][-1:])  # (1, Q, 4)
        boxes = to_pixels(relative, stages.geometry.picture_sizes)[0].numpy()
        scores, picks = (x[0].numpy() for x in model.select(logits))  # (N,), (N,)
    errors = {k: _distance(array, golden[k]) for k, array in computed.items() if k in golden}
    errors["topk_indices"] = _exchanged(computed["topk_indices"], golden)
    errors |= _pick_errors(scores, logits[0].sigmoid().numpy(), boxes, golden)
    queries, labels = np.divmod(picks, case.config.num_classes)
    errors |= final_errors(boxes[queries], scores, labels, case)
    unknown = golden.keys() - errors.keys() - {"image_rgb_u8", "img_mask"}
    return errors | dict.fromkeys(sorted(unknown), np.inf)


def _input_arrays(case: Case) -> dict[str, Array]:
    """What preprocessing makes of the picture."""
    golden = case.arrays
    pixels, mask = to_input(golden["image_rgb_u8"], *golden["input"].shape[2:])
    return {"input": pixels} if case.use_lsj else {"input": pixels, "img_mask": mask}


def _feature_arrays(stages: Stages, stride: int) -> dict[str, Array]:
    """Everything before the queries, as the cases store it."""
    geometry = stages.geometry
    arrays = {
        f"{part}_{i}": x[0, :, :, ::stride].permute(2, 0, 1).numpy()  # (C/stride, H, W)
        for part, maps in (("backbone", stages.backbone), ("neck", stages.neck))
        for i, x in enumerate(maps)
    }
    for level, size in enumerate(geometry.sizes):
        valid_height, valid_width = geometry.valid_sizes[0, level].tolist()
        arrays[f"mask_{level}"] = np.ones(size, np.uint8)
        arrays[f"mask_{level}"][:valid_height, :valid_width] = 0
    return arrays | {
        "valid_ratios": geometry.valid_ratios()[0].numpy(),
        "memory": stages.memory[0, :, ::stride].numpy(),
        "enc_max_logit": stages.proposals.scores[0].numpy(),
    }


def _query_arrays(model: CoDino, stages: Stages, case: Case) -> dict[str, Array]:
    """Everything with a row for each query, the rows in the golden's order."""
    scores, indices = stages.proposals.scores[0], stages.proposals.indices[0]
    order = _query_order(indices.numpy(), case.arrays["topk_indices"])
    hidden = [model.decoder.norm(x)[0, order, :: case.stride] for x in stages.hidden]
    logits, boxes = zip(
        *(model.predict(stages, layer) for layer in range(len(hidden))), strict=True
    )
    references = torch.cat(stages.references)[:, order]
    return {
        "topk_indices": indices.numpy(),
        "topk_logit": scores[indices[order]].numpy(),
        "initial_reference": references[0].numpy(),
        "decoder_references": references.numpy(),
        "decoder_hidden": torch.stack(hidden).numpy(),
        "decoder_logits": torch.cat(logits)[:, order].numpy(),
        "decoder_boxes": torch.cat(boxes)[:, order].numpy(),
    }


def _query_order(tokens: Array, golden_tokens: Array) -> Array:
    """(Q,) our query for each golden one: that of the same token.

    Tokens whose logits differ by less than the noise may swap places, and of the invalid ones,
    which are all alike, any may be chosen: what is left over is paired in order.
    """
    rank = {token: i for i, token in enumerate(tokens.tolist())}
    left = (rank[token] for token in tokens.tolist() if token not in golden_tokens)
    return np.array([rank[t] if t in rank else next(left) for t in golden_tokens.tolist()])


def _exchanged(tokens: Array, golden: Mapping[str, Array]) -> float:
    """Largest difference in golden logit between the token of a rank and the golden one.

    Zero where the tokens are equal in order, or only equal logits changed places.
    """
    logits = golden["enc_max_logit"]
    return _distance(logits[tokens], logits[golden["topk_indices"]])


def _pick_errors(
    scores: Array, all_scores: Array, boxes: Array, golden: Mapping[str, Array]
) -> dict[str, float]:
    """Errors before NMS, matched by (query, label).

    Args:
        scores: (N,) of the picks, highest first.
        all_scores: (Q, K).
        boxes: (Q, 4) in pixels.
        golden: arrays of the case.
    """
    query, label = golden["prenms_query"], golden["prenms_labels"]
    matched = all_scores[query, label]
    # By how much the score of a golden pick is too low to be among ours.
    missed = max(0.0, float((scores[-1] - matched).max())) if len(scores) == len(query) else np.inf
    return {
        "prenms_query": missed,
        "prenms_labels": missed,
        "prenms_scores": _distance(matched, golden["prenms_scores"]),
        "prenms_boxes": _distance(boxes[query], golden["prenms_boxes"]),
    }


def final_errors(boxes: Array, scores: Array, labels: Array, case: Case) -> dict[str, float]:
    """Errors after NMS of (N, 4), (N,), (N,)."""
    kept, scores = nms(boxes, scores, labels, **case.nms)
    return match_errors("final", boxes[kept], scores, labels[kept], case.arrays)


def match_errors(
    kind: str, boxes: Array, scores: Array, labels: Array, golden: Mapping[str, Array]
) -> dict[str, float]:
    """Errors of (N, 4), (N,), (N,): every golden detection and our nearest of its label.

    Args:
        kind: of the golden arrays, ``prenms`` or ``final``.
        boxes: in pixels.
        scores: one for each box.
        labels: one for each box.
        golden: arrays of the case.
    """
    box_errors = np.abs(golden[f"{kind}_boxes"][:, None] - boxes).max(-1)  # (golden N, N)
    score_errors = np.abs(golden[f"{kind}_scores"][:, None] - scores)
    # Scores tell near-duplicates apart.
    cost = box_errors / max(golden["input"].shape) + score_errors
    cost[golden[f"{kind}_labels"][:, None] != labels] = np.inf
    rows, nearest = np.arange(len(cost)), cost.argmin(1)
    one_to_one = len(np.unique(nearest)) == len(rows) == len(boxes)
    return {
        f"{kind}_labels": 0 if one_to_one and np.isfinite(cost[rows, nearest]).all() else np.inf,
        f"{kind}_scores": float(score_errors[rows, nearest].max()),
        f"{kind}_boxes": float(box_errors[rows, nearest].max()),
    }


def _distance(array: Array, golden: Array) -> float:
    """Largest absolute difference; infinite between different shapes, NaN where there is one."""
    if array.shape != golden.shape:
        return np.inf
    return float(np.abs(array.astype(np.float64) - golden).max(initial=0))


def main(argv: list[str] | None = None) -> int:
    """Check a folder: 0 all within tolerance, 1 something is not, 2 a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden",
        description="Compare the model with every golden case of a folder.",
        epilog="example: python -m tests.golden tests/data/golden --engine fp16",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="holds NAME.config.json + NAME.npz, X_unit.npz")
    parser.add_argument(
        "--engine",
        choices=ENGINE_PRECISIONS,
        help="check TensorRT engines of the cases' models instead, built on this GPU: in fp32 with "
        "the goldens, in half precision with the PyTorch model",
    )
    parser.add_argument(
        "--timing-cache", type=Path, metavar="FILE", help="of the engines' builds: makes them fast"
    )
    args = parser.parse_args(argv)
    folder, checks = args.folder, _checks(args)
    failed: list[str] = []
    try:
        if not checks:
            raise UserError(f"no golden cases (*.config.json, *_unit.npz) in {folder}")
        for check, name in checks:
            errors = check(folder, name)
            print(f"{name}\n{_table(errors)}\n", flush=True)
            failed += [f"{name}: {error.name}" for error in errors if not error.ok]
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    print("out of tolerance: " + ", ".join(failed) if failed else "all within tolerance")
    return 1 if failed else 0


def _checks(args: argparse.Namespace) -> list[tuple[Check, str]]:
    """What to call, and with which names."""
    folder: Path = args.folder
    if args.engine is not None:
        from tests.golden_engine import check_engine

        check = partial(check_engine, precision=args.engine, timing_cache=args.timing_cache)
        return [(check, name) for name in case_names(folder)]
    checks: list[tuple[Check, str]] = [(check_case, name) for name in case_names(folder)]
    return checks + [(check_unit, name) for name in unit_names(folder)]


def _table(errors: Iterable[ArrayError]) -> str:
    header = f"  {'array':20} {'worst error':>11} {'tolerance':>9}"
    rows = (
        f"  {e.name:20} {e.error:11.1e} {e.tolerance:9.1e}  {'ok' if e.ok else 'FAIL'}"
        for e in errors
    )
    return "\n".join((header, *rows))


if __name__ == "__main__":
    sys.exit(main())
