"""Commands that are disturbed, each in a folder where older results lie already."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OLD = b"older result\n"
PICTURES = 40
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Job:
    """A command, and what it writes into ``folder``."""

    name: str
    folder: Path
    """Where it runs; all it writes goes there."""
    arguments: tuple[str, ...]
    readers: dict[str, Callable[[Path], object]]
    """Results, and what fails if one is not whole."""
    writing: str
    """Pattern of the temporary files."""

    def command(self) -> list[str]:
        """The command line; goes on with the run in ``folder`` where there is one."""
        command = [sys.executable, "-m", *self.arguments]
        run = self.folder / "run.json"
        if self.name == "detect" and run.is_file() and run.read_bytes() != OLD:
            command.append("--resume")
        return command

    def put_old_results(self) -> None:
        """Start again from older results alone."""
        for path in self.folder.iterdir():
            assert path.is_file(), f"{path} was left"
            path.unlink()
        for name in self.readers:
            (self.folder / name).write_bytes(OLD)

    def hidden(self) -> list[str]:
        """Temporary files that are there."""
        return [path.name for path in self.folder.iterdir() if path.name.startswith(".")]

    def broken(self) -> list[str]:
        """Results that are neither the old one nor whole."""
        return [name for name in self.readers if not self._is_whole(name)]

    def is_done(self) -> bool:
        """Whether all results are new and whole, and nothing else is there."""
        names = {path.name for path in self.folder.iterdir()}
        new = all((self.folder / name).read_bytes() != OLD for name in self.readers)
        return names == self.readers.keys() and new and not self.broken()

    def _is_whole(self, name: str) -> bool:
        path = self.folder / name
        if path.read_bytes() == OLD:
            return True
        try:
            self.readers[name](path)
        except Exception as error:
            print(f"{path}: {error!r}")
            return False
        return True


def make_job(name: str, folder: Path) -> Job:
    """One of ``NAMES``; its inputs lie in ``folder`` too."""
    (folder / "results").mkdir(parents=True)
    job = NAMES[name](folder / "inputs", folder / "results")
    job.put_old_results()
    return job


def _export(inputs: Path, results: Path) -> Job:
    from tests.synthetic_checkpoint import state_of, write_checkpoint

    inputs.mkdir()
    weights = write_checkpoint(inputs / "w.safetensors", state_of("co_dino_swin_tiny"))
    arguments = ["onnx_export", "--preset", "co_dino_swin_tiny", "--weights", str(weights)]
    arguments += ["--height", "160", "--width", "224", "-o", "m.onnx"]
    readers = dict.fromkeys(("m.onnx", "m.ref.onnx"), _read_onnx)
    return Job("export", results, tuple(arguments), readers, ".onnx-export-*/*.onnx")


def _build(inputs: Path, results: Path) -> Job:
    from tests.trt_build.tiny_models import save_conv

    inputs.mkdir()
    onnx = save_conv(inputs / "m.ref.onnx", layers=30)
    arguments = ("trt_build", str(onnx), "-o", "m.engine", "--backend", "tensorrt-rtx")
    readers = {"m.engine": _read_engine, "m.engine.json": _read_json}
    return Job("build", results, arguments, readers, ".codetr-*")


def _eval(inputs: Path, results: Path) -> Job:
    from tests.runtime.coco_files import Files

    inputs.mkdir()
    files = Files(inputs, [(300, 400)] * PICTURES, [(200, 110, 60)] * PICTURES)
    files.annotations.write_text(json.dumps(files.data))
    arguments = ["runtime", "eval", str(files.model), "--annotations", str(files.annotations)]
    arguments += ["--images", str(files.images), "--json", "ap.json"]
    arguments += ["--save-detections", "found.json"]
    readers = {"ap.json": _read_json, "found.json": _read_json}
    return Job("eval", results, tuple(arguments), readers, ".codetr-*")


def _detect(inputs: Path, results: Path) -> Job:
    from tests.runtime.detect_folder import save_photos
    from tests.runtime.tiny_model import save_tiny_model

    photos = save_photos(inputs / "photos", PICTURES, size=400)
    model = save_tiny_model(inputs / "model.ref.onnx")
    arguments = ("runtime", "detect", str(model), str(photos), "-o", ".")
    readers = {f"{index:03}.png": _read_png for index in range(PICTURES)}
    readers |= dict.fromkeys(("run.json", "detections.json"), _read_json)
    readers |= {"detections.jsonl": _read_journal}
    return Job("detect", results, arguments, readers, ".codetr-*")


NAMES: dict[str, Callable[[Path, Path], Job]] = {
    "export": _export,
    "build": _build,
    "eval": _eval,
    "detect": _detect,
}
"""What makes each job: where its inputs are to lie, and its results."""


def _read_json(path: Path) -> None:
    json.loads(path.read_bytes())


def _read_onnx(path: Path) -> None:
    import onnx

    # Metadata are the end of the file.
    assert any(entry.key == "codetr" for entry in onnx.load(path).metadata_props)


def _read_engine(path: Path) -> None:
    # The manifest is put there first, so it belongs to this engine.
    manifest = json.loads(path.with_name(f"{path.name}.json").read_bytes())
    assert manifest["engine"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def _read_png(path: Path) -> None:
    assert path.read_bytes().endswith(_PNG_END)


def _read_journal(path: Path) -> None:
    """Its last line may be cut short: the next run leaves it out."""
    for line in path.read_text().split("\n")[:-1]:
        json.loads(line)
