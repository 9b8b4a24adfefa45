"""``python -m trt_build polygraphy``: NVIDIA's Polygraphy, which then knows our plugin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from runtime.errors import UserError
from trt_build.commands.parser import PROG

_HELP = f"""\
usage: {PROG} polygraphy TOOL ARGUMENTS…

Runs any tool of NVIDIA's Polygraphy (run, inspect, surgeon, debug, …) with its own arguments and
exit code, after our plugin was loaded into TensorRT. Tools that need neither TensorRT nor a GPU
work without them. The tools explain themselves: {PROG} polygraphy run --help

examples:
  {PROG} polygraphy run model.onnx --trt --strongly-typed
  {PROG} polygraphy inspect model model.onnx --show layers
  {PROG} polygraphy run model.ref.onnx --onnxrt --save-outputs reference.json

The same by polygraphy itself:
  polygraphy run model.onnx --trt --strongly-typed --profiling-verbosity detailed \\
      --plugins plugin/libcodetr_plugin.so
Polygraphy opens the library and no more; the plugin then registers itself in a TensorRT that is in
the process already and has the major version the plugin was compiled for. Options with a value of
TensorRT's own, such as --profiling-verbosity, make Polygraphy import TensorRT first; without any
it opens the library too early."""


def run(arguments: Sequence[str]) -> int:
    """Run a tool of Polygraphy; returns its exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    if find_spec("polygraphy") is None:
        raise UserError("polygraphy is not installed; install it: pip install polygraphy")
    _load_plugin()
    from polygraphy.tools import main

    from trt_build.cuda_runtime import show_cuda_runtime

    show_cuda_runtime()

    # Polygraphy repeats its command line in what it prints.
    sys.argv = ["polygraphy", *arguments]
    return int(main())


def _load_plugin() -> None:
    """Load our plugin into TensorRT, unless there is nothing that could run it."""
    from trt_build.backend import choose_backend
    from trt_build.machine import describe_gpu

    if describe_gpu()[0] is None:  # asked first: TensorRT 10.6 aborts the process without a GPU
        return
    try:
        backend = choose_backend("tensorrt")
    except UserError:
        return
    from plugin import load

    try:
        load(backend.load())
    except UserError as error:
        print(f"trt_build: warning: Polygraphy runs without our plugin: {error}", file=sys.stderr)
