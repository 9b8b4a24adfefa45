"""Everything that only a GPU can show, in one go: tests, sanitizer, engines, figures.

Needs a GPU, TensorRT, PyTorch and a C++ compiler. Weights are synthetic: times do not depend on
them, and how well engines agree with the reference graph is said for these weights only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "codetr" / "trained" / "co_dino_digits" / "weights.safetensors"


class Case(NamedTuple):
    """One ONNX to export, and the engines to build from it."""

    preset: str
    height: int
    width: int
    precision: str
    plain: bool = False
    """Build the reference graph too, to see what the plugin buys."""

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.preset}-{self.height}x{self.width}-{self.precision}"

    @property
    def size(self) -> tuple[str, int, int]:
        """What is compared side by side: all cases of one preset and size."""
        return self.preset, self.height, self.width


CASES = (
    Case("co_dino_swin_l", 608, 608, "fp16", plain=True),
    Case("co_dino_swin_l", 608, 608, "bf16"),
    Case("co_dino_swin_l", 608, 608, "fp32"),
    Case("co_dino_swin_l", 768, 1152, "fp16"),
    Case("co_dino_swin_l", 1280, 1920, "fp16"),
    Case("co_dino_r50", 768, 1152, "fp16"),
)


class Campaign:
    """Runs the steps; each leaves what it found in a file of its own."""

    def __init__(self, work: Path, results: Path) -> None:
        """Make the two folders: ``work`` for engines, ``results`` for what is kept."""
        self.work, self.results = work, results
        self.failed: list[str] = []
        for folder in (work, results):
            folder.mkdir(parents=True, exist_ok=True)

    def plugin(self) -> None:
        """Compile the plugin and what tests call it through."""
        self.run("plugin", "plugin", "build", "--tests", "--architectures", "native")

    def tests(self) -> None:
        """All tests that need a GPU; a skipped one is a failed one."""
        # A file's engines are built once, by the worker that has the file.
        parallel = ("-n", "4", "--dist", "loadfile")
        self.run("tests", "pytest", "-m", "gpu and not alone", *parallel, "--tb=short", "tests")
        self.run("tests alone", "pytest", "-m", "alone", "--tb=short", "tests")

    def sanitizer(self) -> None:
        """The kernels under each tool of compute-sanitizer."""
        for tool in ("memcheck", "initcheck", "racecheck", "synccheck"):
            command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1"]
            # PyTorch's kernels are not ours to check, and would take hours.
            command += ["--kernel-name", "kernel_substring=sample_"]
            tests = "not large"
            if tool == "initcheck":
                # It does not see what those kernels write: inputs come from the host here, and
                # outputs may be copied.
                tests += " and agrees"
                command += ["--check-api-memory-access", "no"]
            command += [sys.executable, "-m", "pytest", "-q", "tests/plugin/test_kernel_gpu.py"]
            self.execute(tool, [*command, "-k", tests])

    def kernel(self) -> None:
        """The sampling kernel beside PyTorch's."""
        self.run("kernel", "benchmarks.ms_deform_attn", "-o", self.results / "ms-deform-attn.json")

    def export(self) -> None:
        """All ONNX files at once, and one in float32 for each size to compare with."""
        for preset in {case.preset for case in CASES}:
            self.run(
                f"weights {preset}", "tests.synthetic_checkpoint", preset, self.weights(preset)
            )
        cases = {*CASES, *(case._replace(precision="fp32", plain=False) for case in CASES)}
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(self._export, sorted(cases)))

    def build(self) -> None:
        """All engines, one after the other: their kernels are timed meanwhile."""
        for case in CASES:
            for onnx in self._onnx_files(case):
                options = ("--backend", "tensorrt", "--timing-cache", self.work / "timing.cache")
                engine = onnx.with_suffix(".engine")
                self.run(f"build {onnx.stem}", "trt_build", onnx, "-o", engine, *options)

    def compare(self) -> None:
        """The engines of each size beside each other and PyTorch."""
        for preset, height, width in dict.fromkeys(case.size for case in CASES):
            cases = [case for case in CASES if case.size == (preset, height, width)]
            engines = [p.with_suffix(".engine") for case in cases for p in self._onnx_files(case)]
            engines = [engine for engine in engines if engine.exists()]  # a build may have failed
            name = f"{preset}-{height}x{width}"
            options = ("--weights", self.weights(preset), "--json", self.results / f"{name}.json")
            self.run(f"compare {name}", "benchmarks.engines", *engines, *options)

    def profile(self) -> None:
        """Where each engine's time goes, layer by layer, and what it takes from end to end."""
        for case in CASES:
            figures = ("--json", self.results / f"bench-{case.name}.json")
            plot = ("--profile", self.results / f"profile-{case.name}.svg")
            engine = self.path(case, ".engine")
            self.run(f"profile {case.name}", "runtime", "bench", engine, *figures, *plot)

    def verify(self) -> None:
        """Each engine against the float32 reference graph of its size."""
        for case in CASES:
            reference = self.path(case._replace(precision="fp32"), ".ref.onnx")
            for onnx in self._onnx_files(case):
                options: tuple[str | Path, ...] = (
                    "--reference",
                    reference,
                    "--timing-cache",
                    self.work / "timing.cache",
                )
                options += ("--json", self.results / f"verify-{onnx.stem}.json")
                engine = onnx.with_suffix(".engine")
                self.run(f"verify {onnx.stem}", "trt_build", "verify", engine, *options)

    def golden(self) -> None:
        """The original's outputs through engines."""
        for precision in ("fp32", "fp16", "bf16"):
            golden = ("tests.golden", "tests/data/golden", "--engine", precision)
            self.run(f"golden {precision}", *golden)

    def accuracy(self) -> None:
        """AP of the trained detector in all precisions."""
        backends = ("--backends", "pytorch", "onnxruntime", "tensorrt")
        folders = ("--work", self.work / "accuracy", "--results", self.results / "digits")
        self.run("accuracy", "benchmarks.accuracy", "--weights", DIGITS, *folders, *backends)

    def weights(self, preset: str) -> Path:
        """Synthetic weights of a preset."""
        return self.work / f"{preset}.safetensors"

    def path(self, case: Case, suffix: str) -> Path:
        """A file of a case."""
        return self.work / f"{case.name}{suffix}"

    def run(self, title: str, module: str, *arguments: str | Path) -> None:
        """Run a module of Python."""
        self.execute(title, [sys.executable, "-m", module, *arguments])

    def execute(self, title: str, command: Sequence[str | Path]) -> None:
        """Run a command; its output goes to a file, its last line and time are shown."""
        started = time.monotonic()
        log = self.results / f"{title.replace(' ', '-')}.log"
        with log.open("w") as file:
            done = subprocess.run(
                list(map(str, command)),
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            self.failed.append(title)
        lines = log.read_text(errors="replace").strip().splitlines() or [""]
        seconds = time.monotonic() - started
        print(f"[{seconds:5.0f} s] {title}: exit {done.returncode}: {lines[-1]}", flush=True)

    def _export(self, case: Case) -> None:
        size = ("--height", str(case.height), "--width", str(case.width))
        model = ("--preset", case.preset, "--precision", case.precision)
        files = ("--weights", self.weights(case.preset), "-o", self.path(case, ".onnx"))
        self.run(f"export {case.name}", "onnx_export", *model, *size, *files)

    def _onnx_files(self, case: Case) -> Iterator[Path]:
        yield self.path(case, ".onnx")
        if case.plain:
            yield self.path(case, ".ref.onnx")


STEPS = (
    *("plugin", "kernel", "export", "build", "compare", "profile", "verify", "golden"),
    *("accuracy", "tests", "sanitizer"),
)


def main() -> int:
    """Run the steps that were asked for; 0 if nothing failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        epilog="example: REQUIRE_GPU=1 python -m benchmarks.gpu --work /tmp/engines "
        "--results benchmarks/results/h200",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("steps", nargs="*", choices=[*STEPS, []], metavar="STEP", help=f"of {', '.join(STEPS)}")
    add("--work", type=Path, required=True, help="folder for ONNX files and engines (20 GB)")
    add("--results", type=Path, required=True, help="folder for JSON files and logs")
    args = parser.parse_args()
    campaign = Campaign(args.work.resolve(), args.results.resolve())
    for step in args.steps or STEPS:
        getattr(campaign, step)()
    print("failed: " + ", ".join(campaign.failed) if campaign.failed else "nothing failed")
    return 1 if campaign.failed else 0


if __name__ == "__main__":
    sys.exit(main())
