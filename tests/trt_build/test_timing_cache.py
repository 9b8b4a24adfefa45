"""The timing cache file, with TensorRT-RTX's calls: they do nothing there, but they are real."""

import pytest

from runtime.tensorrt_log import make_logger
from trt_build.backend import choose_backend
from trt_build.config import load_timing_cache, make_config, save_timing_cache
from trt_build.options import BuildOptions


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_it_is_made_written_and_read_back(tmp_path):
    trt = choose_backend("tensorrt-rtx").load()
    builder = trt.Builder(make_logger(trt))
    path = tmp_path / "caches" / "times"
    cache = load_timing_cache(make_config(trt, builder, BuildOptions()), path)
    assert not path.exists()
    save_timing_cache(cache, path)
    written = path.read_bytes()
    assert written
    assert [file.name for file in path.parent.iterdir()] == ["times"]

    config = make_config(trt, builder, BuildOptions())
    save_timing_cache(load_timing_cache(config, path), path)
    assert path.read_bytes() == written
