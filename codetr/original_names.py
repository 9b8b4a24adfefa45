"""The original's parameter names, and what has to be done to its tensors to fit this model.

The names are those of mmdetection ``projects/CO-DETR`` and of the released checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from codetr.model import CoDino
from codetr.presets import CoDinoConfig

Shape = tuple[int, ...]

# From a name of ours to the original's; every rule is applied, in this order.
_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^(backbone\.stages\..*\.attn)\.", r"\1.w_msa."),
        (r"^(backbone\.stages\..*)\.fc1\.", r"\1.ffn.layers.0.0."),
        (r"^(backbone\.stages\..*)\.fc2\.", r"\1.ffn.layers.1."),
        (r"^backbone\.norms\.(\d+)", r"backbone.norm\1"),
        (r"^(encoder|decoder|enc_output|enc_output_norm|query_embed|level_embeds)\b", r"@.\1"),
        (r"^@\.query_embed$", r"@.query_embed.weight"),
        (r"^@\.decoder\.(.*)\.self_attn\.in_proj\.", r"@.decoder.\1.attentions.0.attn.in_proj_"),
        (r"^@\.decoder\.(.*)\.self_attn\.", r"@.decoder.\1.attentions.0.attn."),
        (r"^@\.encoder\.(.*)\.self_attn\.", r"@.encoder.\1.attentions.0."),
        (r"\.cross_attn\.", r".attentions.1."),
        (r"^@\.(.*)\.ffn\.fc1\.", r"@.\1.ffns.0.layers.0.0."),
        (r"^@\.(.*)\.ffn\.fc2\.", r"@.\1.ffns.0.layers.1."),
        (r"^@\.(.*)\.norm1\.", r"@.\1.norms.0."),
        (r"^@\.(.*)\.norm2\.", r"@.\1.norms.1."),
        (r"^@\.(.*)\.norm3\.", r"@.\1.norms.2."),
        (r"^@\.", r"query_head.transformer."),
        (r"^(cls|reg)_branches\.", r"query_head.\1_branches."),
    )
)

_MERGING = re.compile(r"backbone\.stages\.\d+\.downsample\.")


def expected_shapes(model: CoDino) -> dict[str, Shape]:
    """Shape of every tensor the original keeps for what ``model`` computes."""
    shapes: dict[str, Shape] = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        keys = _original_names(name)
        if len(keys) == 2:  # offsets x, y and logits, two thirds and one third of the rows
            third = shape[0] // 3
            shapes[keys[0]] = (2 * third, *shape[1:])
            shapes[keys[1]] = (third, *shape[1:])
        else:
            shapes[keys[0]] = shape
        if name.endswith("relative_position_bias_table"):
            tokens = ((round(shape[0] ** 0.5) + 1) // 2) ** 2
            index = keys[0].replace("bias_table", "index")  # a buffer that is computed here
            shapes[index] = (tokens, tokens)
    return shapes


def from_original(model: CoDino, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's state dict from the original's; types stay as they are."""
    converted = {}
    for name in model.state_dict():
        tensors = [state[key] for key in _original_names(name)]
        tensor = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        if _MERGING.match(name):
            # nn.Unfold's (channel, row, column) to (row, column, channel).
            tensor = tensor.unflatten(-1, (-1, 4)).transpose(-2, -1).flatten(-2)
        converted[name] = tensor
    return converted


def to_original(model: CoDino) -> dict[str, Tensor]:
    """The model's weights by the original's names: what :func:`from_original` takes."""
    converted: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        keys = _original_names(name)
        if len(keys) == 2:
            parts = tensor.split([2 * len(tensor) // 3, len(tensor) // 3])
            converted |= zip(keys, parts, strict=True)
        elif _MERGING.match(name):
            # (row, column, channel) to nn.Unfold's (channel, row, column).
            converted[keys[0]] = tensor.unflatten(-1, (4, -1)).transpose(-2, -1).flatten(-2)
        else:
            converted[keys[0]] = tensor
    for name, buffer in model.named_buffers():
        if name.endswith("relative_position_index"):
            # Computed by whoever loads it, so the smallest type that holds it will do.
            converted[_original_names(name)[0]] = buffer.short()
    return converted


def training_only_shapes(config: CoDinoConfig) -> list[dict[str, Shape]]:
    """The parts of a checkpoint that inference does not use: auxiliary heads and denoising."""
    channels, classes = config.embed_dims, config.num_classes
    transformer = "query_head.transformer"
    return [
        {
            **_with_bias("query_head.downsample.0", channels, channels, 3, 3),
            **_with_bias("query_head.downsample.1", channels),
        },
        {
            **_with_bias(f"{transformer}.aux_pos_trans.0", channels, 2 * channels),
            **_with_bias(f"{transformer}.aux_pos_trans.1", channels, 2 * channels),
            **_with_bias(f"{transformer}.aux_pos_trans_norm.0", channels),
            **_with_bias(f"{transformer}.aux_pos_trans_norm.1", channels),
        },
        {"query_head.dn_generator.label_embedding.weight": (classes, channels)},
        {"query_head.label_embedding.weight": (classes, channels)},  # its name in older files
        {
            **_with_bias("rpn_head.rpn_conv", channels, channels, 3, 3),
            **_with_bias("rpn_head.rpn_cls", 9, channels, 1, 1),
            **_with_bias("rpn_head.rpn_reg", 36, channels, 1, 1),
        },
        {
            **_with_bias("roi_head.0.bbox_head.fc_cls", classes + 1, 1024),
            **_with_bias("roi_head.0.bbox_head.fc_reg", 4 * classes, 1024),
            **_with_bias("roi_head.0.bbox_head.shared_fcs.0", 1024, 49 * channels),
            **_with_bias("roi_head.0.bbox_head.shared_fcs.1", 1024, 1024),
        },
        _atss_head("bbox_head.0", channels, classes),
    ]


def describe_architecture(shapes: Mapping[str, Shape]) -> str:
    """A few words on the detector that tensors with these names and shapes belong to."""
    if not any(key.startswith("query_head.") for key in shapes):
        roots = sorted({key.split(".")[0] for key in shapes})
        return f"no Co-DINO (top-level names: {', '.join(roots[:5])})"
    if "backbone.patch_embed.projection.weight" in shapes:
        channels = shapes["backbone.patch_embed.projection.weight"][0]
        backbone = f"Swin with {channels} channels, {_counts(shapes, 'backbone.stages.%d.blocks')}"
    else:
        backbone = f"ResNet with {_counts(shapes, 'backbone.layer%d')}"
    transformer = "query_head.transformer"
    encoder = _count(shapes, f"{transformer}.encoder.layers")
    decoder = _count(shapes, f"{transformer}.decoder.layers")
    queries = shapes.get(f"{transformer}.query_embed.weight", (0,))[0]
    return f"{backbone} blocks, {encoder}+{decoder} layers, {queries} queries"


def _original_names(name: str) -> tuple[str, ...]:
    """The original's name for a tensor of ours; two where ours joins two of its."""
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    if ".sampling." in name:
        return name.replace("sampling", "sampling_offsets"), name.replace(
            "sampling", "attention_weights"
        )
    return (name,)


def _with_bias(name: str, *shape: int) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _atss_head(name: str, channels: int, classes: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for tower in ("cls_convs", "reg_convs"):
        shapes[f"{name}.{tower}.0.conv.weight"] = (channels, channels, 3, 3)
        shapes |= _with_bias(f"{name}.{tower}.0.gn", channels)
    for head, width in (("cls", classes), ("reg", 4), ("centerness", 1)):
        shapes |= _with_bias(f"{name}.atss_{head}", width, channels, 3, 3)
    return shapes | {f"{name}.scales.{level}.scale": () for level in range(6)}


def _count(shapes: Mapping[str, Shape], prefix: str) -> int:
    """Number of different indices right after ``prefix``."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for key in shapes if (match := pattern.match(key))})


def _counts(shapes: Mapping[str, Shape], template: str) -> str:
    """Blocks of every stage, as in "2-2-18-2"."""
    counts = (_count(shapes, template % stage) for stage in range(5))
    return "-".join(str(count) for count in counts if count)
