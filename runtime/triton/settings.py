"""What the detector of a model repository is made of; kept in its config.pbtxt as parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from runtime.backend import ModelMetadata, ModelSpec
from runtime.postprocess import NmsMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything but the network itself."""

    spec: ModelSpec
    """Of the network."""
    max_batch: int
    """Most pictures per inference."""
    nms: NmsMode
    score_threshold: float
    """Detections with a lower score are left out."""

    def parameters(self) -> dict[str, str]:
        """``parameters`` of the detector's config.pbtxt; ``model`` has the exporter's names."""
        spec, metadata = self.spec, self.spec.metadata
        model = {
            "preset": metadata.preset,
            "precision": metadata.precision,
            "height": spec.height,
            "width": spec.width,
            "batch": spec.batch,
            "mask": spec.has_mask,
            "classes": metadata.classes,
            "preprocess": {"mean": metadata.mean, "std": metadata.std},
        }
        return {
            "score_threshold": str(self.score_threshold),
            "nms": self.nms,
            "model": json.dumps(model),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read them from config.pbtxt in the form in which Triton hands it to Python models."""
        values = {key: value["string_value"] for key, value in config["parameters"].items()}
        model = json.loads(values["model"])
        return cls(
            spec=ModelSpec(
                height=model["height"],
                width=model["width"],
                batch=model["batch"],
                has_mask=model["mask"],
                metadata=ModelMetadata.from_json(values["model"]),
            ),
            max_batch=config["max_batch_size"],
            nms=values["nms"],
            score_threshold=float(values["score_threshold"]),
        )
