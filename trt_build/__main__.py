"""``python -m trt_build``."""

import sys

from trt_build.cli import main

sys.exit(main())
