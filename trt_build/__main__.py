"""``python -m trt_build``."""

from runtime.stopping import run_stoppable
from trt_build.cli import main

run_stoppable("trt_build", main)
