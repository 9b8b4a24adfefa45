"""Parts of Swin that are written in another way than the original's."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from codetr.swin import PatchConv


@torch.inference_mode()
def test_products_of_patches_are_a_convolution():
    torch.manual_seed(0)
    conv, images = PatchConv(24).double(), torch.randn(2, 3, 12, 20).double()
    wanted = F.conv2d(images, conv.weight, conv.bias, stride=4).permute(0, 2, 3, 1)
    torch.testing.assert_close(conv(images), wanted, rtol=1e-12, atol=1e-12)
