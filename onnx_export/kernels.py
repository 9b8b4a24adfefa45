"""Which of the plugin's operators an export uses; attention it always does."""

from __future__ import annotations

from typing import Literal

from codetr.layers import GroupNorm
from codetr.model import CoDino
from codetr.swin import WindowAttention
from onnx_export.precision import Precision

Kernels = Literal["attention", "all"]
"""``attention``: deformable and window attention. ``all``: also norms, linear layers of Swin and
the encoder's attention and, in window attention, the bias of ``qkv``."""


def choose_kernels(model: CoDino, kernels: Kernels, precision: Precision) -> None:
    """Let modules become nodes: window attention, and group norms that there is a kernel for."""
    for module in model.modules():
        if isinstance(module, WindowAttention):
            module.as_node = True  # what the plugin has no kernel for is written out later
        if isinstance(module, GroupNorm):
            module.as_node = (
                kernels == "all"
                and precision != "fp32"
                and has_norm_kernel(channels=module.num_channels, groups=module.num_groups)
            )


def has_norm_kernel(*, channels: int, groups: int) -> bool:
    """Whether the plugin has a kernel for such norms: ``plugin/csrc/group_norm.h``."""
    of_group = channels // groups
    return channels % 8 == 0 and channels <= 2048 and (of_group == 4 or of_group % 8 == 0)


def has_layer_norm_kernel(*, rank: int, channels: int) -> bool:
    """Whether the plugin has a kernel for norms of such tensors: ``plugin/csrc/layer_norm.h``."""
    return rank in (3, 4) and channels % 8 == 0 and channels <= 4096
