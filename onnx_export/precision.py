"""Which parts of the network compute in which type. Decided here and nowhere else.

TensorRT builds strongly typed: it keeps the types of the graph. Products and convolutions run in
the asked type; the islands below stay in float32. Half of them are modules, converted here; the
others are the ``.float()`` calls inside the network that the last column names. In the other
direction, ``HALF_APPROXIMATIONS`` are formulas that only half precisions may use.
"""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from codetr.layers import GroupNorm, LayerNorm
from codetr.model import CoDino

Precision = Literal["fp32", "fp16", "bf16", "fp8"]

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float16,
}
"""Of products and convolutions; of those that are not quantised, where some are."""

FLOAT32_ISLANDS = {
    "norms": "statistics of wide sums overflow and cancel; codetr.layers",
    "positions": "bfloat16 counts to 256 only; codetr.geometry",
    "reference points": "a rounded coordinate is a wrong pixel; codetr.geometry",
    "sampling": "locations, softmax and sums inside the attention node; codetr.deform_attn",
    "proposal scores": "the top-k ranks a great many of them; CoDino.propose",
    "box refinement": "sums of logits over all layers; codetr.transformer.refine",
    "class scores and boxes": "ties and pixel coordinates above 1024; CoDino.predict, to_pixels",
}
"""Name: why it is in float32, and where in the network that happens."""

HALF_APPROXIMATIONS = {
    "GELU": "by tanh instead of erf, at most 4.8e-4 away. On values of a normal distribution that "
    "is as far as rounding to float16 moves them (root mean square 1e-4; bfloat16 1e-3). cuBLASLt "
    "computes it within the product before it, TensorRT either one in a pass of its own.",
}
"""Name: how it is computed in half precisions, how far from the exact one, and what for."""

_FP8_PRODUCTS = re.compile(
    r"backbone\.stages\.\d+\.blocks\.\d+\.(attn\.(qkv|proj)|fc1|fc2)"
    r"|encoder\.layers\.\d+\.ffn\.fc[12]"
)
"""The products of Swin's blocks and of the encoder's FFN, by module path: six sevenths of Swin-L's
work. The digits detector loses less than 0.001 AP by it on 500 pictures, in ONNX Runtime. Those
between Swin's stages are a hundredth of the work and not worth it."""

_FLOAT32_MODULES = (LayerNorm, GroupNorm)


class TypedModel(nn.Module):
    """The detector with float32 inputs and outputs and ``precision`` inside."""

    def __init__(self, model: CoDino, precision: Precision) -> None:
        super().__init__()
        self.dtype = DTYPES[precision]
        _fuse_batch_norms(model)
        self.model = model.to(self.dtype)
        for module in self.model.modules():
            if isinstance(module, _FLOAT32_MODULES):
                module.float()
            elif isinstance(module, nn.GELU) and precision != "fp32":
                module.approximate = "tanh"

    def forward(
        self, batch_inputs: Tensor, img_masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`codetr.model.CoDino.forward`."""
        return self.model(batch_inputs.to(self.dtype), img_masks)


def fp8_products(model: CoDino) -> list[str]:
    """Module paths of the linear layers that ``fp8`` quantises; the others stay in float16."""
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and _FP8_PRODUCTS.fullmatch(path)
    ]


def _fuse_batch_norms(model: CoDino) -> None:
    """Fold ResNet's batch norms into its convolutions, in float32.

    Left to the exporter's optimizer, the folded weights stay float32 in a bfloat16 graph.
    """
    for parent in model.backbone.modules():
        for conv_name, norm_name in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), "01"):
            conv, norm = getattr(parent, conv_name, None), getattr(parent, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
