"""The README's plots, from figures as the benchmarks store them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.plots import plots
from benchmarks.stored import ORDER
from tests.stored_figures import save_throughputs

ROOT = Path(__file__).parents[1]
STORED = ROOT / "benchmarks" / "results" / "h200"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def drawn(tmp_path):
    """The plots of a folder of throughputs, parsed."""
    save_throughputs(tmp_path)
    return {name: ElementTree.fromstring(svg) for name, svg in plots(tmp_path).items()}


def words(svg):
    return [text.text for text in svg.iter(f"{SVG}text")]


def lines(svg):
    """The points of each line, in pixels."""
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in svg.iter(f"{SVG}polyline")
    ]


def test_stored_plots_are_those_of_the_stored_figures():
    drawn = plots(STORED)
    assert "latency.svg" in drawn
    for name, svg in drawn.items():
        assert (STORED / name).read_text() == svg, "run python -m benchmarks.plots"


def test_bars_are_as_long_as_times_of_their_size():
    svg = ElementTree.fromstring(plots(STORED)["latency.svg"])
    comparison = json.loads((STORED / "co_dino_swin_l-608x608.json").read_text())
    times = {row["contender"]: row["gpu_ms"] for row in comparison["rows"]}
    _sheet, *rects = svg.iter(f"{SVG}rect")
    bars = [float(rect.get("width")) for rect in rects]
    names = words(svg)
    assert names[1:3] == ["Swin-L 608x608", "pytorch-fp32"]
    fp32, fp16 = bars[0], bars[len(times) - 1]
    assert names[2 * len(times)] == "engine-fp16"
    assert fp16 / fp32 == pytest.approx(
        times["engine-fp16"]["p50"] / times["pytorch-fp32"]["p50"], abs=1e-3
    )


def test_every_contender_has_a_bar_of_its_own_colour(tmp_path):
    times = {"p50": 3.0, "p99": 4.0}
    size = {"model": "co_dino_r50", "height": 8, "width": 8}
    rows = [size | {"contender": name, "gpu_ms": times} for name in ORDER]
    (tmp_path / "co_dino_r50-8x8.json").write_text(json.dumps({"rows": rows}))
    svg = ElementTree.fromstring(plots(tmp_path)["latency.svg"])
    _sheet, *rects = svg.iter(f"{SVG}rect")
    assert len({rect.get("fill") for rect in rects}) == len(ORDER)


def test_throughput_has_a_line_for_each_number_of_contexts(drawn):
    svg = drawn["throughput.svg"]
    one, two = lines(svg)
    assert [x for x, _ in one] == [x for x, _ in two] and one[0][0] < one[1][0]
    # 160 and 200 pictures per second, 200 and 250: as high over the axis.
    assert one[1][1] == two[0][1]
    assert two[0][1] - two[1][1] == pytest.approx(50 / 40 * (one[0][1] - one[1][1]), abs=0.2)
    assert "Swin-L 608x608, engine-fp16, 2 contexts" in words(svg)
    assert [bool(line.get("stroke-dasharray")) for line in svg.iter(f"{SVG}polyline")] == [
        False,
        True,
    ]


def test_cost_of_pixels_is_of_one_context(drawn):
    svg = drawn["pixels.svg"]
    ((first, second),) = lines(svg)
    bottom = 348
    assert (bottom - second[1]) / (bottom - first[1]) == pytest.approx(40 / 8 / 6.25, abs=0.01)
    # 6.25 ms for 0.37 megapixels are 16.9 for one, and the axis ends at 20.
    assert (bottom - first[1]) / 300 == pytest.approx(6.25 / (608 * 608 / 1e6) / 20, abs=0.001)
    # 8 times the pixels, on an axis where doubling is always as long.
    ticks = {
        text.text: float(text.get("x"))
        for text in svg.iter(f"{SVG}text")
        if text.get("text-anchor") == "middle"
    }
    assert second[0] - first[0] == pytest.approx(ticks["4"] - ticks["0.5"], abs=0.2)


def test_no_figures_no_plots(tmp_path):
    assert plots(tmp_path) == {}


def test_command(tmp_path):
    save_throughputs(tmp_path)
    command = [sys.executable, "-m", "benchmarks.plots", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == [str(tmp_path / f"{n}.svg") for n in ("throughput", "pixels")]
    for name, svg in plots(tmp_path).items():
        assert (tmp_path / name).read_text() == svg
