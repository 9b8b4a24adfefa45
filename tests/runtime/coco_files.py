"""A data set for the tiny model, whose detections in it are known by construction."""

import json

import numpy as np

from runtime.__main__ import main
from runtime.images import write_image
from tests.runtime.tiny_model import CLASSES, UNIT_BOXES, save_tiny_model

RGB = (200, 110, 60)  # scores of the tiny model: cat 0.79, dog 0.47, bird 0.32
IDS = {"dog": 90, "bird": 3, "cat": 17}  # with gaps, and in another order than the model's


class Files:
    """A model, pictures of plain colour, and annotations that are just what the model detects."""

    def __init__(self, folder, sizes, rgbs, **model):
        self.folder = folder
        self.model = save_tiny_model(folder / "model.ref.onnx", **model)
        self.annotations = folder / "instances.json"
        self.images = folder / "images"
        self.data = {
            "images": [],
            "categories": [{"id": i, "name": name} for name, i in IDS.items()],
            "annotations": [],
        }
        for number, ((height, width), rgb) in enumerate(zip(sizes, rgbs, strict=True)):
            image = {"id": 100 + 7 * number, "file_name": f"sub/{number}.png"}
            self.data["images"].append(image | {"width": width, "height": height})
            write_image(
                self.images / image["file_name"], np.full((height, width, 3), rgb, np.uint8)
            )
            for name, unit_box in zip(CLASSES, UNIT_BOXES.tolist(), strict=True):
                x1, y1, x2, y2 = np.multiply(unit_box, [width, height, width, height]).tolist()
                self.annotate(image["id"], name, [x1, y1, x2 - x1, y2 - y1])

    def annotate(self, image_id, name, bbox, **more):
        annotation = {"image_id": image_id, "category_id": IDS[name], "bbox": bbox, "iscrowd": 0}
        annotation |= {"id": len(self.data["annotations"]), "area": bbox[2] * bbox[3]}
        self.data["annotations"].append(annotation | more)

    def of(self, name):
        return [a for a in self.data["annotations"] if a["category_id"] == IDS[name]]

    def eval(self, *options, data=None):
        """The exit code, after writing the annotation file."""
        self.annotations.write_text(json.dumps(self.data if data is None else data))
        return self.run(*options)

    def run(self, *options):
        command = ["eval", self.model, "--annotations", self.annotations, "--images", self.images]
        return main([str(part) for part in (*command, *options)])

    def row(self, *options, code=0):
        """The row of the JSON."""
        assert self.eval(*options, "--json", self.folder / "ap.json") == code
        (row,) = json.loads((self.folder / "ap.json").read_text())["rows"]
        return row
