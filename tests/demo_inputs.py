"""``python -m tests.demo_inputs FOLDER``: weights and a picture for ``make demo``."""

from __future__ import annotations

import sys
from pathlib import Path

from runtime.images import write_image
from tests.synthetic_checkpoint import state_of, write_checkpoint
from tests.synthetic_images import picture

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / "picture.png", picture(480, 640, seed=5))
    write_checkpoint(folder / "weights.safetensors", state_of("co_dino_swin_tiny"))
