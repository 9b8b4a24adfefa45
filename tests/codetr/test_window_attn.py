"""Window attention as a custom operator of PyTorch."""

from __future__ import annotations

import pytest
import torch

from codetr.window_attn import window_attention_node


@pytest.mark.parametrize("shift", [0, 2])
def test_it_gives_what_tracing_expects(shift):
    """Sizes, types and strides, also where the map is padded: torch.compile relies on them."""
    channels, heads, window = 8, 2, 4
    qkv = torch.randn(1, 6, 7, 3 * channels)
    padding, bias = torch.randn(3 * channels), torch.randn(heads, window**2, window**2)
    arguments = (qkv, padding, bias, window, shift)
    torch.library.opcheck(window_attention_node, arguments, test_utils="test_faketensor")
