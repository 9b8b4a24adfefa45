"""Everything that only a GPU can show, in one go: tests, sanitizer, engines, figures.

Needs a GPU, TensorRT, PyTorch and a C++ compiler. Weights are synthetic: times do not depend on
them, and how well engines agree with the reference graph is said for these weights only. Engines
are built with the timing cache in --work: one that is kept makes the next builds short.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple, TextIO

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "codetr" / "trained" / "co_dino_digits" / "weights.safetensors"

KERNEL_TESTS = {
    "sample_": "test_kernel_gpu.py",
    "attend_windows": "test_window_kernel_gpu.py",
    "describe_chunks": "test_norm_kernel_gpu.py",
    "normalise": "test_norm_kernel_gpu.py",
    "normalise_rows": "test_layer_norm_kernel_gpu.py",
}
"""What our kernels' names hold, and the tests that launch them."""


class Case(NamedTuple):
    """One ONNX to export, and the engines to build from it."""

    preset: str
    height: int
    width: int
    precision: str
    plain: bool = False
    """Build the reference graph too, to see what the plugin buys, and run it in ONNX Runtime."""
    batch: str = "1"
    """Pictures at a time; "1,4,8": from 1 to 8, mostly 4."""
    kernels: str = "all"
    """Which of the plugin's operators it has."""

    @property
    def name(self) -> str:
        """Of its files."""
        kernels = "" if self.kernels == "all" else f"-{self.kernels}"
        batch = "" if self.batch == "1" else f"-batch{self.batch.replace(',', '-')}"
        return f"{self.preset}-{self.height}x{self.width}-{self.precision}{kernels}{batch}"

    @property
    def is_dynamic(self) -> bool:
        """Whether its engine takes several batches."""
        return "," in self.batch

    @property
    def size(self) -> tuple[str, int, int]:
        """What is compared side by side: all cases of one preset and size."""
        return self.preset, self.height, self.width


CASES = (
    Case("co_dino_swin_l", 608, 608, "fp16", plain=True),
    Case("co_dino_swin_l", 608, 608, "fp16", kernels="attention"),
    Case("co_dino_swin_l", 608, 608, "bf16"),
    Case("co_dino_swin_l", 608, 608, "fp32"),
    Case("co_dino_swin_l", 608, 608, "fp8"),
    Case("co_dino_swin_l", 768, 1152, "fp16"),
    Case("co_dino_swin_l", 768, 1152, "fp16", kernels="attention"),
    Case("co_dino_swin_l", 768, 1152, "fp8"),
    Case("co_dino_swin_l", 1280, 1920, "fp16"),
    Case("co_dino_swin_l", 1280, 1920, "fp16", kernels="attention"),
    Case("co_dino_swin_l", 1280, 1920, "fp8"),
    Case("co_dino_r50", 768, 1152, "fp16"),
)
"""Compared with each other and with PyTorch, those of each size in one run."""
BATCHED = (
    Case("co_dino_swin_l", 608, 608, "fp16", batch="1,4,8"),
    Case("co_dino_swin_l", 768, 1152, "fp16", batch="1,4,8"),
    Case("co_dino_swin_l", 1280, 1920, "fp16", batch="1,4,8"),
    Case("co_dino_swin_l", 608, 608, "fp16", batch="8"),
)
"""For the throughput, beside the fp16 engines of ``CASES``."""
LIMIT = 400
"""Seconds that a command may take, unless more are stated."""
LONG = 580
"""For what runs one engine for long; it ends by itself before, and leaves what it has."""


class Campaign:
    """Runs the steps; each leaves what it found in a file of its own."""

    def __init__(self, work: Path, results: Path, patterns: Sequence[str]) -> None:
        """Make the two folders: ``work`` for engines, ``results`` for what is kept.

        Only cases whose name one of the patterns fits take part.
        """
        self.work, self.results = work, results
        self.calibration = work / "calibration"
        self.cases, self.batched = (
            [case for case in cases if any(fnmatch(case.name, p) for p in patterns)]
            for cases in (CASES, BATCHED)
        )
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
        marked = ("pytest", "--tb=short", "tests", "-m")
        self.run("tests", *marked, "gpu and not alone", *parallel, limit=3600)
        self.run("tests alone", *marked, "alone", limit=3600)

    def sanitizer(self) -> None:
        """The kernels under each tool of compute-sanitizer."""
        for tool in ("memcheck", "initcheck", "racecheck", "synccheck"):
            for kernel, file in KERNEL_TESTS.items():
                command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1"]
                # PyTorch's kernels are not ours to check, and would take hours.
                command += ["--kernel-name", f"kernel_substring={kernel}"]
                tests = "not large"
                if tool == "initcheck":
                    # It does not see what those kernels write: inputs come from the host here, and
                    # outputs may be copied.
                    tests += " and agrees"
                    command += ["--check-api-memory-access", "no"]
                command += [sys.executable, "-m", "pytest", "-q", f"tests/plugin/{file}"]
                self.execute(f"{tool} {kernel}", [*command, "-k", tests], limit=3600)

    def kernel(self) -> None:
        """The kernels beside PyTorch's."""
        for name in ("ms-deform-attn", "window-attn"):
            module = f"benchmarks.{name.replace('-', '_')}"
            self.run(f"kernel {name}", module, "-o", self.results / f"{name}.json")

    def export(self) -> None:
        """All ONNX files at once."""
        self._export_all({*self.cases, *self.batched})

    def build(self) -> None:
        """All engines, one after the other: their kernels are timed meanwhile."""
        for case in (*self.cases, *self.batched):
            batch = ("--batch", case.batch) if case.is_dynamic else ()
            for onnx in self._onnx_files(case):
                options = ("--backend", "tensorrt", "--timing-cache", self.work / "timing.cache")
                engine = onnx.with_suffix(".engine")
                self.run(f"build {onnx.stem}", "trt_build", onnx, "-o", engine, *options, *batch)

    def compare(self) -> None:
        """The engines of each size beside each other, PyTorch and ONNX Runtime."""
        for preset, height, width in dict.fromkeys(case.size for case in self.cases):
            cases = [case for case in self.cases if case.size == (preset, height, width)]
            engines = [p.with_suffix(".engine") for case in cases for p in self._onnx_files(case)]
            engines = [engine for engine in engines if engine.exists()]  # a build may have failed
            name = f"{preset}-{height}x{width}"
            result = self.results / f"{name}.json"
            others: list[str | Path] = ["--weights", self.weights(preset)]
            for case in cases:
                if case.plain:
                    others += ["--onnxruntime", self.path(case, ".ref.onnx")]
            options = ("--iterations", "100", "--json", result)
            self.run(f"compare {name}", "benchmarks.engines", *engines, *others, *options)

    def throughput(self) -> None:
        """Pictures per second by batch, with one context and with two."""
        fixed = (c for c in self.cases if (c.precision, c.kernels) == ("fp16", "all"))
        for case in (*fixed, *self.batched):
            result = self.results / f"throughput-{case.name}.json"
            engine = self.path(case, ".engine")
            self.run(f"throughput {case.name}", "benchmarks.throughput", engine, "--json", result)

    def report(self) -> None:
        """README's tables, in the log of the same name, and its plots."""
        self.run("tables", "benchmarks.tables", self.results)
        self.run("plots", "benchmarks.plots", self.results)

    def profile(self) -> None:
        """Where each engine's time goes, layer by layer, and what it takes from end to end."""
        for case in self.cases:
            figures = ("--json", self.results / f"bench-{case.name}.json")
            plot = ("--profile", self.results / f"profile-{case.name}.svg")
            engine = self.path(case, ".engine")
            self.run(f"profile {case.name}", "runtime", "bench", engine, *figures, *plot)

    def verify(self) -> None:
        """Each engine against the float32 reference graph of its size."""
        references = {
            case: Case(case.preset, case.height, case.width, "fp32") for case in self.cases
        }
        missing = {r for r in references.values() if not self.path(r, ".ref.onnx").exists()}
        self._export_all(missing)
        for case in self.cases:
            reference = self.path(references[case], ".ref.onnx")
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

    def endurance(self) -> None:
        """50,000 inferences of one engine in one context."""
        self._endure("endurance", "--threads", "0", "--openings", "0")

    def contexts(self) -> None:
        """The same engine opened many times, at once and one after the other."""
        self._endure("contexts", "--inferences", "0")

    def determinism(self) -> None:
        """At each size the first tensor that is not the same in every run."""
        for case in self._swin_l_in_fp16():
            result = ("--output", self.results / f"determinism-{case.name}.json")
            options = ("--seconds", "20", "--timing-cache", self.work / "timing.cache")
            module = ("benchmarks.determinism", self.path(case, ".onnx"))
            self.run(f"determinism {case.name}", *module, *result, *options, limit=LONG)

    def golden(self) -> None:
        """The original's outputs through engines."""
        for precision in ("fp32", "fp16", "bf16"):
            golden = ("tests.golden", "tests/data/golden", "--engine", precision)
            self.run(f"golden {precision}", *golden)

    def accuracy(self) -> None:
        """AP of the trained detector in all precisions."""
        backends = ("--backends", "pytorch", "onnxruntime", "tensorrt")
        folders = ("--work", self.work / "accuracy", "--results", self.results / "digits")
        command = ("benchmarks.accuracy", "--weights", DIGITS, *folders, *backends)
        self.run("accuracy", *command, limit=3600)

    def weights(self, preset: str) -> Path:
        """Synthetic weights of a preset."""
        return self.work / f"{preset}.safetensors"

    def path(self, case: Case, suffix: str) -> Path:
        """A file of a case."""
        return self.work / f"{case.name}{suffix}"

    def run(self, title: str, module: str, *arguments: str | Path, limit: int = LIMIT) -> None:
        """Run a module of Python."""
        self.execute(title, [sys.executable, "-m", module, *arguments], limit=limit)

    def execute(self, title: str, command: Sequence[str | Path], *, limit: int = LIMIT) -> None:
        """Run a command; its output goes to a file, its last line and time are shown.

        Args:
            title: of the file, and for people.
            command: what to run.
            limit: seconds after which it is killed, which counts as a failure.
        """
        started = time.monotonic()
        log = self.results / f"{title.replace(' ', '-')}.log"
        with log.open("w") as file:
            code = _run(list(map(str, command)), file, limit)
        if code != 0:
            self.failed.append(title)
        end = "killed" if code is None else f"exit {code}"
        lines = log.read_text(errors="replace").strip().splitlines() or [""]
        seconds = time.monotonic() - started
        print(f"[{seconds:4.0f} of {limit} s] {title}: {end}: {lines[-1]}", flush=True)

    def _export_all(self, cases: Collection[Case]) -> None:
        for preset in {case.preset for case in cases}:
            if not self.weights(preset).exists():
                command = ("tests.synthetic_checkpoint", preset, self.weights(preset))
                self.run(f"weights {preset}", *command)
        if any(case.precision == "fp8" for case in cases) and not self.calibration.exists():
            # Synthetic weights have no accuracy to lose: for their times any pictures will do.
            options = ("--split", "train", "--count", "4", "--seed", "1", "-o", self.calibration)
            self.run("calibration pictures", "codetr.training.dataset", *options)
        with ThreadPoolExecutor(max_workers=12) as pool:  # 4 to 7 GB each
            list(pool.map(self._export, sorted(cases)))

    def _export(self, case: Case) -> None:
        batch = "dynamic" if case.is_dynamic else case.batch
        size = ("--height", str(case.height), "--width", str(case.width), "--batch", batch)
        model = ("--preset", case.preset, "--precision", case.precision, "--kernels", case.kernels)
        files = ("--weights", self.weights(case.preset), "-o", self.path(case, ".onnx"))
        fp8 = ("--calibration", self.calibration) if case.precision == "fp8" else ()
        self.run(f"export {case.name}", "onnx_export", *model, *size, *files, *fp8)

    def _endure(self, title: str, *options: str) -> None:
        for case in self._swin_l_in_fp16()[:1]:
            result = ("--output", self.results / f"{title}-{case.name}.json")
            files = (self.path(case, ".engine"), *result)
            module, options = "benchmarks.endurance", (*options, "--seconds", "400")
            self.run(f"{title} {case.name}", module, *files, *options, limit=LONG)

    def _swin_l_in_fp16(self) -> list[Case]:
        return [c for c in self.cases if c.preset == "co_dino_swin_l" and c.precision == "fp16"]

    def _onnx_files(self, case: Case) -> Iterator[Path]:
        yield self.path(case, ".onnx")
        if case.plain:
            yield self.path(case, ".ref.onnx")


def _run(command: list[str], output: TextIO, limit: float) -> int | None:
    """The exit code; None if the time was up, and the command with all that it started killed."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:  # Ctrl-C too does not reach another session
                os.killpg(process.pid, signal.SIGKILL)


STEPS = (
    *("plugin", "kernel", "export", "build", "compare", "throughput", "report", "profile"),
    *("verify", "endurance", "contexts", "determinism", "golden", "accuracy", "tests", "sanitizer"),
)


_EPILOG = """\
examples:
  REQUIRE_GPU=1 python -m benchmarks.gpu --work /tmp/engines --results benchmarks/results/h200
  python -m benchmarks.gpu plugin export build compare throughput report \\
      --cases '*swin_l-608x608-fp*' --work /tmp/engines --results /tmp/results"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps that were asked for; 0 if nothing failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("steps", nargs="*", choices=[*STEPS, []], metavar="STEP", help=f"of {', '.join(STEPS)}")
    add("--work", type=Path, required=True, help="folder for ONNX files and engines (20 GB)")
    add("--results", type=Path, required=True, help="folder for JSON files and logs")
    add("--cases", nargs="+", default=["*"], metavar="PATTERN", help="only cases of these names")
    args = parser.parse_args(argv)
    campaign = Campaign(args.work.resolve(), args.results.resolve(), args.cases)
    if not campaign.cases and not campaign.batched:
        names = ", ".join(case.name for case in (*CASES, *BATCHED))
        parser.error(f"--cases {' '.join(args.cases)} fits none of {names}")
    for step in args.steps or STEPS:
        getattr(campaign, step)()
    print("failed: " + ", ".join(campaign.failed) if campaign.failed else "nothing failed")
    return 1 if campaign.failed else 0


if __name__ == "__main__":
    sys.exit(main())
