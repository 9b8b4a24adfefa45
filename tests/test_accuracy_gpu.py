"""AP of the trained detector as TensorRT engines, against the PyTorch model. Needs a GPU.

One dynamic engine for each precision, with padding mask and without, serves both batches. Without
a mask the runtime stretches pictures until they fill the input, for PyTorch as for the engine.
``python -m benchmarks.accuracy --backends tensorrt`` stores such figures.
"""

from __future__ import annotations

import functools

import pytest

from benchmarks.accuracy import PRECISIONS, PRESET, SIZE, export_options, judge, make_pictures, run
from benchmarks.gpu import DIGITS
from benchmarks.pytorch_model import PyTorchModel
from runtime.detector import Detector
from tests.test_accuracy import LIMITS

pytestmark = pytest.mark.gpu

LARGEST_BATCH = 4


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def wanted(pictures):
    """``wanted(mask)``: AP of PyTorch in float32."""

    @functools.cache
    def average_precision(mask):
        model = PyTorchModel(PRESET, DIGITS, SIZE, mask=mask, device="cuda")
        with Detector(model, max_batch=LARGEST_BATCH) as detector:
            return judge(detector, pictures).figures["ap"]

    return average_precision


@pytest.fixture(scope="module")
def engine_of(tmp_path_factory, timing_cache):
    """``engine_of(precision, mask)``: exported and built when first asked for."""
    work = tmp_path_factory.mktemp("calibration")

    @functools.cache
    def build(precision, mask):
        engine = tmp_path_factory.mktemp("engine") / f"{precision}.engine"
        options = [*export_options(DIGITS, precision, work), *([] if mask else ["--no-mask"])]
        options += ["--batch", f"1,{LARGEST_BATCH},{LARGEST_BATCH}", "--backend", "tensorrt"]
        run("trt_build", *options, "-o", engine, "--timing-cache", timing_cache)
        return engine

    return build


@pytest.mark.parametrize("cuda_graph", [True, False], ids=["graph", "no-graph"])
@pytest.mark.parametrize("batch", [1, LARGEST_BATCH], ids=lambda batch: f"batch-{batch}")
@pytest.mark.parametrize("mask", [True, False], ids=["mask", "no-mask"])
@pytest.mark.parametrize("precision", PRECISIONS["tensorrt"])
def test_engine(precision, mask, batch, cuda_graph, engine_of, pictures, wanted):
    from runtime.tensorrt_backend import TensorRTModel

    model = TensorRTModel(engine_of(precision, mask), cuda_graph=cuda_graph)
    assert (model.spec.batch, model.spec.has_mask) == (None, mask)
    with Detector(model, max_batch=batch) as detector:
        evaluation = judge(detector, pictures)
        assert model.engine.cuda_graph == cuda_graph  # not given up
    assert len(evaluation.findings.image_ids) == 500
    assert evaluation.warnings == []
    found = evaluation.figures["ap"]
    print(f"{precision}: AP {found:.4f}, PyTorch {wanted(mask):.4f}")
    assert wanted(mask) > 0.5  # or equal figures would say nothing
    assert found == pytest.approx(wanted(mask), abs=LIMITS[precision])
