"""How near the model comes to the limits of float16, block by block, in float32 on the CPU.

For every block of the backbone and every layer of encoder and decoder, the largest |x| of

* the residual stream: what the block's norms see, and what the block puts out;
* the hidden channels of its MLP, before the activation;
* its attention logits, softmax and deformable, positive ones only: others vanish in the softmax,
  and the mask of shifted windows, -100, would hide all else;

and which share of the values that are not zero is subnormal in float16, that is, loses bits.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks.pytorch_model import PyTorchModel
from benchmarks.residual_plot import plot
from codetr.deform_attn import MSDeformAttn
from codetr.errors import UserError as ModelError
from codetr.layers import LayerNorm
from codetr.presets import PRESETS
from codetr.resnet import Bottleneck
from codetr.swin import SwinBlock
from codetr.transformer import DecoderLayer, EncoderLayer
from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.images import Image, read_image
from runtime.machine import describe_cpu
from runtime.preprocess import prepare_batch
from runtime.sources import picture_files

BLOCKS = (SwinBlock, Bottleneck, EncoderLayer, DecoderLayer)
HALF = torch.finfo(torch.float16)
PICTURES, SEED = 8, 1
"""Held-out pictures of digits, where no others are given."""


class Range:
    """What float16 would have to hold of all values seen so far."""

    def __init__(self) -> None:
        self._largest = 0.0
        self._subnormal = self._values = 0

    def add(self, x: Tensor) -> None:
        """Look at a tensor of any shape."""
        size = x.abs()
        self._largest = max(self._largest, size.amax().item())
        self._values += int(size.count_nonzero())
        self._subnormal += int(((size > 0) & (size < HALF.smallest_normal)).sum())

    def figures(self) -> dict[str, float]:
        """``max`` of |x|, and ``subnormal``: a share of the values that are not zero."""
        share = self._subnormal / max(1, self._values)
        return {"max": round(self._largest, 4), "subnormal": round(share, 6)}


class Recorder(TorchFunctionMode):
    """Watches the blocks of a model; it has to be entered, to see every softmax too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.blocks: dict[str, defaultdict[str, Range]] = {}
        """By the block's name, in the order of the model, then by what was measured."""
        self._running = ""
        for name, module in model.named_modules():
            if isinstance(module, BLOCKS):
                self.blocks[name] = defaultdict(Range)
                self._watch(name, module)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Look at what goes into a softmax."""
        if func is Tensor.softmax:
            self._add("attention_logits", args[0].clamp(min=0))
        return func(*args, **(kwargs or {}))

    def _watch(self, name: str, block: nn.Module) -> None:
        block.register_forward_pre_hook(lambda *_: setattr(self, "_running", name))
        block.register_forward_hook(lambda _block, _inputs, y: self._add("stream", y))
        for path, module in block.named_modules():
            if isinstance(module, LayerNorm):
                module.register_forward_pre_hook(lambda _norm, x: self._add("stream", x[0]))
            elif isinstance(module, MSDeformAttn):
                module.sampling.register_forward_hook(lambda _layer, _x, y: self._add_sampling(y))
            elif path.endswith("fc1"):
                module.register_forward_hook(lambda _layer, _x, y: self._add("mlp_hidden", y))

    def _add_sampling(self, sampling: Tensor) -> None:
        logits = sampling[..., sampling.shape[-1] // 3 * 2 :]  # after x and y of the offsets
        self._add("attention_logits", logits.clamp(min=0))

    def _add(self, what: str, x: Tensor) -> None:
        self.blocks[self._running][what].add(x)


def study(model: PyTorchModel, images: Sequence[Image]) -> list[dict[str, Any]]:
    """Run the model on pictures, one by one.

    Args:
        model: on the CPU.
        images: uint8 RGB (h, w, 3), of any sizes.

    Returns:
        A record for each block: its ``block`` name, and what ``Range.figures`` says of its
        ``stream``, ``mlp_hidden`` and ``attention_logits``, as far as it has them.
    """
    with Recorder(model.module) as recorder:
        for image in images:
            batch = prepare_batch([image], model.spec)
            model.infer(batch.batch_inputs, batch.img_masks)
    return [
        {"block": name, **{what: seen.figures() for what, seen in ranges.items()}}
        for name, ranges in recorder.blocks.items()
    ]


def digits() -> list[Image]:
    """Pictures to look at, where no others are given."""
    from codetr.training.dataset import pictures

    return [picture.image for picture in pictures("test", PICTURES, SEED)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 on a user's mistake."""
    command_line = parser()
    args = command_line.parse_args(argv)
    try:
        images = [read_image(p) for p in picture_files(args.images)] if args.images else digits()
        model = PyTorchModel(args.preset, args.weights, (args.height, args.width))
        with atomic_output(args.output) as temporary:
            report = {
                "machine": describe_cpu() | {"torch": torch.__version__},
                "command": f"python -m benchmarks.residual_stream {shlex.join(sys.argv[1:])}",
                "model": args.preset,
                "weights_sha256": model.weights_sha256,
                "height": args.height,
                "width": args.width,
                "pictures": len(images),
                "fp16": {"max": HALF.max, "smallest_normal": HALF.smallest_normal},
                "blocks": study(model, images),
            }
            temporary.write_text(json.dumps(report, indent=1) + "\n")
        if args.plot:
            with atomic_output(args.plot) as temporary:
                temporary.write_text(plot(report))
    except (UserError, ModelError) as error:
        print(f"{command_line.prog}: error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.residual_stream",
        description=__doc__,
        epilog="example: python -m benchmarks.residual_stream --preset co_dino_swin_l "
        "--weights co_dino_swin_l.pth --images photos/ -o study.json --plot study.svg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--preset", required=True, choices=PRESETS, help="which model")
    add("--weights", required=True, type=Path, help="mmdet .pth or .safetensors")
    add("--images", nargs="+", type=Path, help=f"pictures, folders ({PICTURES} pictures of digits)")
    add("--height", type=int, default=384, help="pixels of the padded input (%(default)s)")
    add("--width", type=int, default=384, help="pixels of the padded input (%(default)s)")
    add("-o", "--output", required=True, type=Path, help="JSON file to write")
    add("--plot", type=Path, metavar="FILE.svg", help="picture to write")
    return result


if __name__ == "__main__":
    sys.exit(main())
