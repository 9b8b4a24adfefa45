"""Times engines on this GPU: ``python -m benchmarks.engines a.engine b.engine --json FILE``.

The kernels alone, as one CUDA graph, between two CUDA events. Engines take turns, run by run, so
that a change of clocks meets all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart

from benchmarks.machine import gpu_facts
from runtime.cuda import check
from runtime.engine import Engine
from runtime.files import atomic_output
from runtime.tensorrt_backend import TensorRTModel

WARM_UP = 20
PERCENTILES = (50, 90, 99)


def time_once(engine: Engine) -> float:
    """Milliseconds of one run on the GPU."""
    start, stop = (check(cudart.cudaEventCreate()) for _ in range(2))
    check(cudart.cudaEventRecord(start, engine.stream))
    engine.compute()
    check(cudart.cudaEventRecord(stop, engine.stream))
    engine.synchronize()
    milliseconds: float = check(cudart.cudaEventElapsedTime(start, stop))
    for event in (start, stop):
        check(cudart.cudaEventDestroy(event))
    return milliseconds


def load(path: Path) -> TensorRTModel:
    """An engine that has run once, on a picture of noise without padding."""
    model = TensorRTModel(path)
    spec = model.spec
    batch = spec.batch or 1
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((batch, 3, spec.height, spec.width), np.float32)
    model.infer(pixels, np.zeros((batch, spec.height, spec.width), np.float32))
    return model


def row(model: TensorRTModel, times: list[float]) -> dict[str, Any]:
    """The figures of one engine."""
    spec, manifest = model.spec, model.manifest
    return {
        "contender": f"engine-{spec.metadata.precision}",
        "model": spec.metadata.preset,
        "height": spec.height,
        "width": spec.width,
        "batch": spec.batch,
        "gpu_ms": {f"p{p}": round(float(np.percentile(times, p)), 4) for p in PERCENTILES},
        "runs": len(times),
        "engine_bytes": manifest["engine"]["bytes"],
        "activation_bytes": model.engine.activation_bytes,
        "build_s": manifest["build"]["seconds"],
    }


def main() -> None:
    """Time the engines, print a line for each, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("engines", type=Path, nargs="+")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()

    models = {path: load(path) for path in args.engines}
    times: dict[Path, list[float]] = {path: [] for path in models}
    for iteration in range(WARM_UP + args.iterations):
        for path, model in models.items():
            milliseconds = time_once(model.engine)
            if iteration >= WARM_UP:
                times[path].append(milliseconds)
    report = {
        "machine": gpu_facts(),
        "command": " ".join(["python -m benchmarks.engines", *sys.argv[1:]]),
        "tensorrt": models[args.engines[0]].manifest["recipe"]["backend_version"],
        "rows": [row(model, times[path]) for path, model in models.items()],
    }
    for entry in report["rows"]:
        print(entry)
    with atomic_output(args.json) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
