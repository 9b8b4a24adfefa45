"""Where Polygraphy finds CUDA's runtime."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path


def show_cuda_runtime() -> None:
    """Add the folder of CUDA 13's wheel to those in which Polygraphy looks for ``libcudart.so``.

    Polygraphy 0.53.6 knows toolkits and CUDA 12's wheel. It reads ``LD_LIBRARY_PATH`` itself and
    opens what it finds by the full path, so it is not too late to change that.
    """
    spec = find_spec("nvidia")
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    for packages in (spec and spec.submodule_search_locations) or ():
        folders += [str(path.parent) for path in Path(packages).glob("cu*/lib/libcudart.so*")]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, dict.fromkeys(folders)))
