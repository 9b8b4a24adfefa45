"""The models this project knows, as frozen dataclasses. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SwinConfig:
    """Swin Transformer as MMDetection builds it (``mmdet/models/backbones/swin.py``)."""

    embed_dims: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each stage's output, finest first."""
        return tuple(self.embed_dims * 2**stage for stage in range(len(self.depths)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetConfig:
    """Bottleneck ResNet, PyTorch style (``mmdet/models/backbones/resnet.py``)."""

    depths: tuple[int, ...] = (3, 4, 6, 3)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each stage's output, finest first."""
        return tuple(256 * 2**stage for stage in range(len(self.depths)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CoDinoConfig:
    """Everything that fixes the shape of a Co-DINO detector."""

    backbone: SwinConfig | ResNetConfig
    num_queries: int = 900
    num_classes: int = 80
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_ffn: int = 2048
    """Hidden channels of the encoder's feed-forward networks."""
    decoder_ffn: int = 2048
    """Hidden channels of the decoder's feed-forward networks."""
    embed_dims: int = 256
    num_heads: int = 8
    num_levels: int = 5
    """One level for each backbone stage and the rest by stride-2 convolutions of the last."""
    num_points: int = 4
    """Sampling points of each head on each level."""
    max_per_image: int = 300
    """Detections the model returns, before NMS."""


PRESETS: dict[str, CoDinoConfig] = {
    # Objects365 + COCO, 16 epochs: 64.1 box AP.
    "co_dino_swin_l": CoDinoConfig(
        backbone=SwinConfig(
            embed_dims=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), window_size=12
        )
    ),
    "co_dino_r50": CoDinoConfig(backbone=ResNetConfig()),
    # Small ones, for tests.
    "co_dino_swin_tiny": CoDinoConfig(
        backbone=SwinConfig(
            embed_dims=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=7
        ),
        num_queries=100,
        encoder_layers=2,
        decoder_layers=3,
        encoder_ffn=256,
        decoder_ffn=256,
    ),
    "co_dino_r50_small": CoDinoConfig(
        backbone=ResNetConfig(), num_queries=100, encoder_layers=2, decoder_layers=2
    ),
    # Handwritten digits, trained by codetr.training; 3 million parameters.
    "co_dino_digits": CoDinoConfig(
        backbone=SwinConfig(
            embed_dims=32, depths=(2, 4, 2, 1), num_heads=(1, 2, 4, 8), window_size=8
        ),
        num_queries=150,
        num_classes=10,
        encoder_layers=2,
        decoder_layers=3,
        encoder_ffn=256,
        decoder_ffn=128,
        embed_dims=128,
        num_heads=4,
        max_per_image=100,
    ),
}

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""Mean of the RGB channels, 0..255, that every checkpoint was trained with."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""Standard deviation of the RGB channels, 0..255."""

COCO_CLASSES = tuple(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,"
    "knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,"
    "chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,"
    "hair drier,toothbrush".split(",")
)
"""The 80 class names of COCO, in label order."""
