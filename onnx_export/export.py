"""Checkpoint to ONNX: load, trace, clean up, check, write."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx_graphsurgeon as gs

from codetr.checkpoint import Checkpoint, build_model, read_checkpoint
from codetr.deform_attn import MSDeformAttn
from codetr.errors import UserError
from codetr.layers import GroupNorm, LayerNorm
from codetr.model import CoDino
from codetr.original_names import expected_shapes
from codetr.presets import PIXEL_MEAN, PIXEL_STD, CoDinoConfig
from codetr.swin import WindowAttention
from onnx_export.calibration import (
    Calibration,
    check_calibration,
    measure_scales,
    read_calibration,
)
from onnx_export.checks import check_graph
from onnx_export.fp8 import quantise_by
from onnx_export.fp8_nodes import count_fp8, quantise_nodes_by
from onnx_export.fusions import plan_fusions
from onnx_export.kernels import Kernels, choose_kernels
from onnx_export.node import (
    NORM_OP_TYPE,
    OP_TYPE,
    WINDOW_OP_TYPE,
    has_window_kernel,
)
from onnx_export.passes import CLEAN_UP, Pass, run_passes
from onnx_export.pictures import chosen_pictures, read_inputs
from onnx_export.precision import Precision, fp8_products
from onnx_export.reference import write_out_custom_nodes, write_out_windows_without_kernel
from onnx_export.scratch import scratch_folder
from onnx_export.stages import find_stages
from onnx_export.topk import known_rows, split_topk
from onnx_export.trace import SIZE_STEP, TRACED_BATCH, TRACED_STEPS, trace

VERSION = "0.1.0"
MAX_SIDE = 8192
METADATA_KEY = "codetr"

Side = int | tuple[int, int]
"""Height or width of the padded input in pixels; or the smallest and the largest."""
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What to export."""

    preset: str
    """A key of ``codetr.presets.PRESETS``."""
    weights: Path
    """mmdet ``.pth`` or ``.safetensors``."""
    height: Side
    """A number or a range, as the width is."""
    width: Side
    """A number or a range, as the height is."""
    batch: int | Literal["dynamic"] = 1
    """Pictures at a time."""
    precision: Precision = "fp32"
    """Type of products and convolutions."""
    mask: bool = True
    """Keep the input ``img_masks``; without it every picture has to fill the input."""
    calibration: Path | None = None
    """For fp8: a folder of pictures, or the scales file of an earlier export."""
    kernels: Kernels = "all"
    """Which of the plugin's operators a half precision uses; fp32 has those of attention."""

    def __post_init__(self) -> None:
        for name, side in (("height", self.height), ("width", self.width)):
            for pixels in side if isinstance(side, tuple) else (side,):
                if not 1 <= pixels <= MAX_SIDE:
                    raise UserError(f"{name} is {pixels} pixels; choose 1 to {MAX_SIDE}")
        self._check_ranges()
        if self.batch != "dynamic" and self.batch < 1:
            raise UserError(f"batch is {self.batch}; choose a positive number or 'dynamic'")
        self._check_calibration()

    @property
    def smallest(self) -> tuple[int, int]:
        """Height and width of the smallest input; of the only one where they are fixed."""
        return _ends(self.height)[0], _ends(self.width)[0]

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of the largest input; of the only one where they are fixed."""
        return _ends(self.height)[1], _ends(self.width)[1]

    @property
    def any_size(self) -> bool:
        """Whether height and width are those of each batch, within their ranges."""
        return isinstance(self.height, tuple)

    def _check_ranges(self) -> None:
        if isinstance(self.height, tuple) != isinstance(self.width, tuple):
            raise UserError(
                f"height is {_written(self.height)} and width is {_written(self.width)}; "
                "give two numbers or two ranges, like 640:640"
            )
        for name, side in (("height", self.height), ("width", self.width)):
            low, high = _ends(side)
            if self.any_size and (low > high or low % SIZE_STEP or high % SIZE_STEP):
                raise UserError(
                    f"{name} is {low}:{high}; give the smallest and the largest, both multiples "
                    f"of {SIZE_STEP}"
                )
        if self.any_size and not self.mask:
            raise UserError(
                "inputs of any size are as large as the largest picture of a batch, so the others "
                "need their mask; leave --no-mask out, or give a height and a width"
            )

    def _check_calibration(self) -> None:
        if self.precision != "fp8":
            if self.calibration is not None:
                raise UserError(
                    f"{self.precision} takes no calibration; leave it out or choose fp8"
                )
        elif self.calibration is None:
            raise UserError(
                "fp8 needs a calibration: give --calibration a folder of pictures like those the "
                "model will see, or the .scales.json that an earlier export wrote"
            )
        elif not self.calibration.exists():
            raise UserError(
                f"no calibration at {self.calibration}; give a folder of pictures or a .scales.json"
            )


def _ends(side: Side) -> tuple[int, int]:
    return side if isinstance(side, tuple) else (side, side)


def _written(side: Side) -> str:
    return ":".join(map(str, side)) if isinstance(side, tuple) else str(side)


def export(config: ExportConfig, output: Path, report: Report) -> list[Path]:
    """Write ``output`` (custom nodes) and beside it ``….ref.onnx`` (plain ONNX).

    With fp8 there is ``….scales.json`` too. All appear whole at the end, or not at all.

    Args:
        config: what to export.
        output: path ending in ``.onnx``.
        report: called with one line for each step.

    Returns:
        The paths, in this order.

    Raises:
        UserError: output, weights, sizes or calibration cannot be used.
        GraphError: the exporter made a graph that breaks the contract.
    """
    if output.suffix != ".onnx":
        raise UserError(f"output is {output}; give a name that ends in .onnx")
    suffixes = [".onnx", ".ref.onnx", *([".scales.json"] if config.precision == "fp8" else [])]
    results = [output.with_suffix(suffix) for suffix in suffixes]
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder(output.parent))
        except OSError as error:
            raise UserError(
                f"cannot write {output}: {error.strerror}; choose a folder that can be written"
            ) from error
        _write(config, folder / output.name, report)
        for result in results:
            _rename(folder / result.name, result)
    return results


def _rename(temporary: Path, result: Path) -> None:
    try:
        temporary.replace(result)
    except OSError as error:
        raise UserError(f"cannot write {result}: {error.strerror}; remove it") from error


def _write(config: ExportConfig, output: Path, report: Report) -> None:
    report(f"reading {config.weights}")
    checkpoint = read_checkpoint(config.weights)
    model, classes = build_model(config.preset, checkpoint)
    report(_describe_dropped(checkpoint, model))
    _require_enough_tokens(config, model)
    metadata: dict[str, Any] = {
        "version": VERSION,
        "preset": config.preset,
        "precision": config.precision,
        "kernels": config.kernels,
        "height": config.height,
        "width": config.width,
        "batch": config.batch,
        "mask": config.mask,
        "classes": classes,
        "weights": checkpoint.name,
        "weights_sha256": checkpoint.sha256,
        "preprocess": {"mean": PIXEL_MEAN, "std": PIXEL_STD},
    }
    quantise: list[Pass] = []
    choose_kernels(model, config.kernels, config.precision)
    counts = {"LayerNormalization": _layer_norms(model, config.precision)}
    counts |= {"QuantizeLinear": 0, "DequantizeLinear": 0}
    if config.precision == "fp8":
        calibration = _calibration(config, model, checkpoint, report)
        scales = calibration.to_json()
        with _room_for(path := output.with_suffix(".scales.json")):
            path.write_text(scales)
        metadata["calibration_sha256"] = hashlib.sha256(scales.encode()).hexdigest()
        as_nodes = config.kernels == "all"
        quantise.append((quantise_nodes_by if as_nodes else quantise_by)(calibration.scales))
        products = len(calibration.scales)
        counts |= {"QuantizeLinear": products, "DequantizeLinear": 2 * products}
    del checkpoint
    layer_norms = counts["LayerNormalization"]
    fusions = plan_fusions(model, config.kernels, config.precision, layer_norms)
    custom_nodes = _custom_nodes(model, config.precision) | fusions.counts
    if quantise and fusions.counts:
        custom_nodes |= count_fp8(fp8_products(model), custom_nodes)
    group_norms = [m for m in model.modules() if isinstance(m, GroupNorm)]
    plain_norms = _written_out(len(group_norms) - custom_nodes[NORM_OP_TYPE])
    plain_norms["LayerNormalization"] = 0 if fusions.counts else layer_norms
    architecture = model.config
    size = f"{_written(config.height)}x{_written(config.width)}"
    report(f"tracing {config.preset} at {size}, {config.precision}")
    traced = trace(
        model,
        size="dynamic" if config.any_size else config.largest,
        batch=config.batch,
        precision=config.precision,
        mask=config.mask,
    )
    del model
    graph = gs.import_onnx(traced)
    baked = (
        TRACED_BATCH if config.batch == "dynamic" else None,
        TRACED_STEPS if config.any_size else (),
    )

    known = [known_rows(_tokens(config.largest, architecture))] if config.any_size else []
    before = (*known, split_topk, write_out_windows_without_kernel, *fusions.traced)
    run_passes(graph, (*before, *CLEAN_UP, *fusions.folded, *quantise), report)
    metadata |= {"role": "plugin", "stages": find_stages(graph, architecture)}
    finished = _finish(graph, traced, metadata)
    check_graph(finished, counts | plain_norms | custom_nodes, *baked)
    _save(finished, output)

    run_passes(graph, (write_out_custom_nodes, *CLEAN_UP), report)
    metadata |= {"role": "reference", "stages": find_stages(graph, architecture)}
    finished = _finish(graph, traced, metadata)
    counts = dict.fromkeys(custom_nodes, 0) | counts | _written_out(len(group_norms))
    check_graph(finished, counts, *baked)
    _save(finished, output.with_suffix(".ref.onnx"))


def _calibration(
    config: ExportConfig, model: CoDino, checkpoint: Checkpoint, report: Report
) -> Calibration:
    """Read the scales, or measure them."""
    source, products = config.calibration, fp8_products(model)
    assert source is not None  # the configuration has checked it
    if source.is_dir():
        files, size = chosen_pictures(source), config.largest
        calibration = Calibration(
            config.preset,
            checkpoint.sha256,
            *size,
            len(files),
            measure_scales(model, products, read_inputs(files, size), report),
        )
    else:
        calibration = read_calibration(source)
    check_calibration(
        calibration, preset=config.preset, weights_sha256=checkpoint.sha256, products=products
    )
    return calibration


def _save(model: onnx.ModelProto, path: Path) -> None:
    with _room_for(path):
        onnx.save(model, path)


@contextlib.contextmanager
def _room_for(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path.name}: {error.strerror}; make room there") from error


def _describe_dropped(checkpoint: Checkpoint, model: CoDino) -> str:
    """Name the parts of the checkpoint that only training uses."""
    dropped = sorted(checkpoint.state.keys() - expected_shapes(model).keys())
    parts = Counter(key.split(".")[0] for key in dropped)
    listed = ", ".join(f"{count} of {part}" for part, count in parts.items())
    return f"dropped {len(dropped)} tensors that only training uses: {listed or 'none'}"


def _layer_norms(model: CoDino, precision: Precision) -> int:
    """How many LayerNormalization nodes the graph has to have."""
    # The zero token's norm is a constant, but what is bfloat16 is not folded.
    of_zero_token = int(precision == "bf16")
    return sum(isinstance(m, LayerNorm) for m in model.modules()) + of_zero_token


def _written_out(group_norms: int) -> dict[str, int]:
    """Nodes of GroupNorms in plain ONNX: means and variances, of rows and of all."""
    return {"ReduceMean": 4 * group_norms, "Sqrt": group_norms}


def _custom_nodes(model: CoDino, precision: Precision) -> dict[str, int]:
    """How many custom nodes the graph has to have where the plugin computes it."""
    modules = list(model.modules())
    return {
        OP_TYPE: sum(isinstance(m, MSDeformAttn) for m in modules),
        WINDOW_OP_TYPE: sum(
            has_window_kernel(
                half=precision != "fp32",
                window_size=m.window_size,
                head_channels=m.proj.in_features // m.relative_position_bias_table.shape[1],
            )
            for m in modules
            if isinstance(m, WindowAttention)
        ),
        NORM_OP_TYPE: sum(isinstance(m, GroupNorm) and m.as_node for m in modules),
    }


def _finish(graph: gs.Graph, traced: onnx.ModelProto, metadata: dict[str, Any]) -> onnx.ModelProto:
    """The graph as a model with our metadata and no others'."""
    model = gs.export_onnx(graph)
    model.ir_version = traced.ir_version
    model.producer_name, model.producer_version = "codetr onnx_export", VERSION
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    return model


def _require_enough_tokens(config: ExportConfig, model: CoDino) -> None:
    """The top-k needs as many tokens as there are queries."""
    height, width = config.smallest
    tokens = _tokens(config.smallest, model.config)
    if tokens < model.config.num_queries:
        raise UserError(
            f"{height}x{width} gives {tokens} tokens for "
            f"{model.config.num_queries} queries; choose a larger height or width"
        )


def _tokens(size: tuple[int, int], config: CoDinoConfig) -> int:
    """Of all levels, for an input of this height and width."""
    strides = (4 * 2**level for level in range(config.num_levels))
    return sum(prod(-(-side // stride) for side in size) for stride in strides)
