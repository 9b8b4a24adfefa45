"""Models in ONNX Runtime on the CPU: the reference, and detection without a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runtime.backend import ModelMetadata, ModelSpec, RawOutputs, TensorInfo
from runtime.compatibility import numbers_of
from runtime.errors import UserError, first_line
from runtime.gpu_picture import GpuPicture
from runtime.images import Image
from runtime.preprocess import prepare_batch

if TYPE_CHECKING:
    import onnxruntime

_OLDEST = (1, 24)
"""Keeps weights in other files within the model's folder, also where links lead elsewhere."""
_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


class OnnxRuntimeModel:
    """A ``runtime.backend.Model`` run by ONNX Runtime; may be used by several threads at once."""

    concurrency = 1  # one call takes all cores

    def __init__(self, path: Path) -> None:
        """Load ``path``.

        Raises:
            UserError: ONNX Runtime is missing, cannot load the file, or the file holds no
                Co-DETR reference graph.
        """
        self._session: onnxruntime.InferenceSession | None
        self._path = path
        self._session, self.backend = _session_of(path)
        self.inputs, self.outputs, self.spec = _contract_of(self._session, path)

    def infer(
        self, batch_inputs: NDArray[np.float32], img_masks: NDArray[np.float32]
    ) -> RawOutputs:
        """Run one batch; see ``runtime.backend.Model``.

        Raises:
            UserError: the graph cannot be run to its end.
        """
        if self._session is None:
            raise RuntimeError("the model is closed")
        feeds = {"batch_inputs": batch_inputs}
        if self.spec.has_mask:
            feeds["img_masks"] = img_masks
        try:
            return RawOutputs(*self._session.run(list(RawOutputs._fields), feeds))
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise UserError(f"cannot run {self._path}: {first_line(error)}") from error

    def infer_images(self, images: Sequence[Image | GpuPicture]) -> RawOutputs:
        """Run pictures; see ``runtime.backend.Model``."""
        batch = prepare_batch(images, self.spec)
        return self.infer(batch.batch_inputs, batch.img_masks)

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _session_of(path: Path) -> tuple[onnxruntime.InferenceSession, str]:
    """The loaded model, and what runs it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"cannot run {path}: ONNX Runtime is not installed; pip install onnxruntime"
        ) from error
    if numbers_of(onnxruntime.__version__) < _OLDEST:
        raise UserError(
            f"cannot run {path}: ONNX Runtime {onnxruntime.__version__} lets a model read any file "
            'of this machine as its weights; pip install "onnxruntime>=1.24"'
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    # Stated, because by default ONNX Runtime takes every core of the machine, also where this
    # process may use only some, and logs each thread it cannot pin (microsoft/onnxruntime#8313).
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    try:
        session = onnxruntime.InferenceSession(
            path,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # there is nothing to fall back to, and it would print to stdout
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class
        reason = first_line(error)
        if "codetr:" in reason:  # "codetr:CoDetrMSDeformAttn(-1) is not a registered function/op"
            raise UserError(
                f"cannot run {path}: it holds the plugin's nodes, which only TensorRT can run; "
                f"give the reference graph written beside it, {path.with_suffix('.ref.onnx')}"
            ) from error
        raise UserError(f"{path} is not a complete ONNX model: {reason}") from error
    return session, f"onnxruntime {onnxruntime.__version__}"


def _contract_of(
    session: onnxruntime.InferenceSession, path: Path
) -> tuple[dict[str, TensorInfo], dict[str, TensorInfo], ModelSpec]:
    """Inputs, outputs, and what they mean."""
    try:
        inputs, outputs = _infos(session.get_inputs()), _infos(session.get_outputs())
        entries = session.get_modelmeta().custom_metadata_map
        if "codetr" not in entries:
            raise ValueError(f"its metadata has no entry 'codetr' (found: {sorted(entries)})")
        metadata = ModelMetadata.from_json(entries["codetr"])
        return inputs, outputs, ModelSpec.from_tensors(inputs, outputs, metadata)
    except ValueError as error:  # names that are not UTF-8 among them
        raise UserError(
            f"{path} is not a Co-DETR model: {error}; make one with python -m onnx_export"
        ) from error


def _infos(arguments: Iterable[onnxruntime.NodeArg]) -> dict[str, TensorInfo]:
    return {
        argument.name: TensorInfo(
            _DTYPES.get(argument.type, argument.type),
            tuple(n if isinstance(n, int) else None for n in argument.shape),
        )
        for argument in arguments
    }
