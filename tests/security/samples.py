"""A whole file of each kind, to be damaged."""

from __future__ import annotations

import json
from pathlib import Path

from tests.runtime.tiny_model import metadata, save_tiny_model
from tests.trt_build.tiny_models import save_conv

PICTURES = ("bmp", "jpg", "png", "tiff", "webp")
NAMES = (
    "ONNX, ONNX Runtime",
    "ONNX, TensorRT-RTX's parser",
    "ONNX, verify",
    "engine",
    "manifest",
    "checkpoint .pth",
    "checkpoint .safetensors",
    *(f"picture {suffix}" for suffix in PICTURES),
)


def make_sample(name: str, folder: Path) -> tuple[str, Path]:
    """Write a whole file into a folder of its own.

    Returns:
        Its reader, see ``tests.security.readers``, and the file.
    """
    folder.mkdir(parents=True)
    kind, _, rest = name.partition(" ")
    match kind:
        case "ONNX,":
            return _onnx(rest, folder)
        case "engine":
            return "inspect", _engine(folder)
        case "manifest":
            return "inspect", _engine(folder).with_name("m.engine.json")
        case "checkpoint":
            return "checkpoint", _checkpoint(folder / f"w{rest}")
    return "picture", _picture(folder / f"p.{rest}")


def _onnx(what_reads: str, folder: Path) -> tuple[str, Path]:
    if what_reads == "ONNX Runtime":
        return "detect", save_tiny_model(folder / "m.ref.onnx")
    if what_reads == "verify":
        more = {"height": 48, "width": 64, "batch": "dynamic", "mask": True}
        return "verify", save_tiny_model(folder / "m.ref.onnx", entry=metadata(**more))
    return "parse", save_conv(folder / "m.onnx", precision="fp32")


def _engine(folder: Path) -> Path:
    from trt_build import BuildOptions, build_engine, choose_backend

    onnx, engine = save_conv(folder / "m.onnx", precision="fp32"), folder / "m.engine"
    build_engine(onnx, engine, backend=choose_backend("tensorrt-rtx"), options=BuildOptions())
    return engine


def _checkpoint(path: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    state = {f"layer{i}.weight": torch.full((8, 8), float(i)) for i in range(8)}
    if path.suffix == ".safetensors":
        save_file(state, path, {"classes": json.dumps(["cat", "dog"])})
    else:
        torch.save({"state_dict": state, "meta": {"CLASSES": ("cat", "dog")}}, path)
    return path


def _picture(path: Path) -> Path:
    import cv2
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path
