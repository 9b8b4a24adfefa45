"""``python -m benchmarks.gpu`` without running what it runs."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from benchmarks import determinism, endurance, engines, gpu, throughput
from benchmarks.gpu import BATCHED, CASES, Campaign, Case, main
from benchmarks.stored import MODELS, ORDER
from onnx_export.__main__ import parser as export_parser


@pytest.fixture
def campaign(tmp_path):
    """Notes its commands, and leaves the file that each would make."""

    class Noting(Campaign):
        def __init__(self, patterns=("*",)):
            self.commands, self.limits = [], []
            super().__init__(tmp_path / "work", tmp_path / "results", patterns)

        def execute(self, title, command, *, limit=gpu.LIMIT):  # noqa: ARG002
            assert command[:2] == [sys.executable, "-m"] and limit > 0
            self.limits.append(limit)
            module, *arguments = map(str, command[2:])
            self.commands.append((module, arguments))
            if "-o" in arguments:
                Path(arguments[arguments.index("-o") + 1]).touch()

        def of(self, module):
            return [arguments for name, arguments in self.commands if name == module]

    return Noting


def test_files_of_cases_differ():
    names = [case.name for case in (*CASES, *BATCHED)]
    assert len(set(names)) == len(names)
    assert {case.preset for case in CASES} == MODELS.keys()
    builds = {case.name.removeprefix("-".join(case.name.split("-")[:2])) for case in CASES}
    assert {f"engine{build}" for build in builds} <= set(ORDER)


def test_exports_have_their_batch(campaign):
    noting = campaign()
    noting.export()
    exports = [export_parser().parse_args(arguments) for arguments in noting.of("onnx_export")]
    assert len(exports) == len(CASES) + len(BATCHED)
    assert {e.output.stem for e in exports if e.kernels == "attention"} == {
        "co_dino_swin_l-608x608-fp16-attention",
        "co_dino_swin_l-768x1152-fp16-attention",
        "co_dino_swin_l-1280x1920-fp16-attention",
    }
    assert {e.output.stem: e.batch for e in exports if e.batch != 1} == {
        "co_dino_swin_l-608x608-fp16-batch1-4-8": "dynamic",
        "co_dino_swin_l-768x1152-fp16-batch1-4-8": "dynamic",
        "co_dino_swin_l-1280x1920-fp16-batch1-4-8": "dynamic",
        "co_dino_swin_l-608x608-fp16-batch8": 8,
    }


def test_builds_share_a_timing_cache(campaign, tmp_path):
    noting = campaign()
    noting.build()
    builds = noting.of("trt_build")
    assert len(builds) == len(CASES) + sum(case.plain for case in CASES) + len(BATCHED)
    for arguments in builds:
        assert arguments[arguments.index("--timing-cache") + 1] == str(
            tmp_path / "work" / "timing.cache"
        )
    dynamic = [arguments for arguments in builds if "--batch" in arguments]
    assert len(dynamic) == 3
    assert all(arguments[-1] == "1,4,8" for arguments in dynamic)


def test_all_of_a_size_run_side_by_side(campaign, tmp_path):
    noting = campaign()
    noting.build()
    noting.compare()
    runs = [engines.parser().parse_args(arguments) for arguments in noting.of("benchmarks.engines")]
    assert [run.json.stem for run in runs] == [
        "co_dino_swin_l-608x608",
        "co_dino_swin_l-768x1152",
        "co_dino_swin_l-1280x1920",
        "co_dino_r50-768x1152",
    ]
    small = runs[0]
    prefix = "co_dino_swin_l-608x608"
    names = [engine.name.removeprefix(prefix) for engine in small.engines]
    assert names[:2] == ["-fp16.engine", "-fp16.ref.engine"]  # the first is what others are like
    assert set(names[2:]) >= {"-bf16.engine", "-fp32.engine"}
    assert small.onnxruntime == tmp_path / "work" / f"{prefix}-fp16.ref.onnx"
    assert runs[1].onnxruntime is None
    assert small.pytorch == list(engines.PYTORCH)


def test_throughput_is_of_fixed_and_dynamic_engines(campaign):
    noting = campaign()
    noting.throughput()
    parse = throughput.parser().parse_args
    runs = [parse(arguments) for arguments in noting.of("benchmarks.throughput")]
    assert [run.engine.stem.count("batch") for run in runs] == [0] * 4 + [1] * len(BATCHED)
    assert all(run.json.name == f"throughput-{run.engine.stem}.json" for run in runs)


def test_references_are_exported_for_verify_alone(campaign, tmp_path):
    noting = campaign()
    noting.export()
    before = len(noting.of("onnx_export"))
    (tmp_path / "work" / "co_dino_swin_l-608x608-fp32.ref.onnx").touch()  # it is one of the cases
    noting.verify()
    names = {arguments[-1] for arguments in noting.of("onnx_export")[before:]}
    assert {Path(name).stem for name in names} == {
        "co_dino_swin_l-768x1152-fp32",
        "co_dino_swin_l-1280x1920-fp32",
        "co_dino_r50-768x1152-fp32",
    }


def test_long_runs_are_of_the_smallest_engine_and_end_before_they_are_killed(campaign, tmp_path):
    noting = campaign()
    noting.endurance()
    noting.contexts()
    parse = endurance.parser().parse_args
    long, contexts = (parse(arguments) for arguments in noting.of("benchmarks.endurance"))
    assert (long.inferences, long.threads, long.openings) == (50_000, 0, 0)
    assert (contexts.inferences, contexts.threads, contexts.openings) == (0, 8, 200)
    for run, kind in ((long, "endurance"), (contexts, "contexts")):
        assert run.model == tmp_path / "work" / "co_dino_swin_l-608x608-fp16.engine"
        assert run.output == tmp_path / "results" / f"{kind}-co_dino_swin_l-608x608-fp16.json"
        assert run.seconds + 120 <= min(noting.limits) <= 600


def test_bits_are_compared_at_every_size(campaign, tmp_path):
    noting = campaign()
    noting.determinism()
    parse = determinism.parser().parse_args
    runs = [parse(arguments) for arguments in noting.of("benchmarks.determinism")]
    sizes = ("608x608", "768x1152", "1280x1920")
    names = [f"co_dino_swin_l-{s}-fp16{kernels}" for s in sizes for kernels in ("", "-attention")]
    assert [run.model for run in runs] == [tmp_path / "work" / f"{name}.onnx" for name in names]
    for run, name in zip(runs, names, strict=True):
        assert run.output == tmp_path / "results" / f"determinism-{name}.json"
        assert run.timing_cache == tmp_path / "work" / "timing.cache"
        assert (run.runs, run.backend) == (200, "tensorrt")
    # Sixteen rows on a GPU, half of them with much to compare; and four builds.
    assert 16 * runs[0].seconds + 4 * 60 <= max(noting.limits) <= 600


def test_long_runs_follow_the_chosen_cases(campaign):
    noting = campaign(["*1280x1920-fp*"])
    noting.endurance()
    noting.determinism()
    assert [arguments[0].rpartition("/")[2] for _, arguments in noting.commands] == [
        "co_dino_swin_l-1280x1920-fp16.engine",
        "co_dino_swin_l-1280x1920-fp16.onnx",
        "co_dino_swin_l-1280x1920-fp16-attention.onnx",
    ]


def test_every_step_is_there():
    assert len(set(gpu.STEPS)) == len(gpu.STEPS)
    assert all(callable(getattr(Campaign, step)) for step in gpu.STEPS)
    after = gpu.STEPS.index("report")
    assert all(gpu.STEPS.index(s) > after for s in ("endurance", "contexts", "determinism"))


def test_cases_are_chosen_by_pattern(campaign):
    noting = campaign(["*608x608-fp16", "*-batch8"])
    assert [case.name for case in (*noting.cases, *noting.batched)] == [
        "co_dino_swin_l-608x608-fp16",
        "co_dino_swin_l-608x608-fp16-batch8",
    ]


def test_a_pattern_that_fits_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["report", "--work", str(tmp_path), "--results", str(tmp_path), "--cases", "swin"])
    error = capsys.readouterr().err
    assert "--cases swin fits none of co_dino_swin_l-608x608-fp16, " in error


def test_a_step_that_is_none(tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["exports", "--work", str(tmp_path), "--results", str(tmp_path)])


def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path, capsys):
    campaign = Campaign(tmp_path / "work", tmp_path / "results", ["*"])
    late = tmp_path / "late"
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(late)!r}).touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    campaign.execute("slow one", [sys.executable, "-c", code], limit=1)
    assert campaign.failed == ["slow one"]
    assert re.match(r"\[ +\d+ of 1 s\] slow one: killed: ", capsys.readouterr().out)
    time.sleep(2.5)
    assert not late.exists()


def test_a_command_shows_its_exit_code_and_last_line(tmp_path, capsys):
    campaign = Campaign(tmp_path / "work", tmp_path / "results", ["*"])
    campaign.execute("one", [sys.executable, "-c", "print('a\\nb'); raise SystemExit(3)"])
    assert campaign.failed == ["one"]
    assert re.match(r"\[ +\d+ of 400 s\] one: exit 3: b\n", capsys.readouterr().out)
    assert (tmp_path / "results" / "one.log").read_text() == "a\nb\n"


def test_case_of_another_batch_has_other_files():
    case = Case("co_dino_r50", 768, 1152, "fp16", batch="1,4,8")
    assert case.name == "co_dino_r50-768x1152-fp16-batch1-4-8"
    assert case.is_dynamic and not case._replace(batch="8").is_dynamic


def test_fp8_is_calibrated_with_pictures_that_are_made_once(campaign, tmp_path):
    noting = campaign(["*-fp8"])
    noting.export()
    assert len(noting.of("codetr.training.dataset")) == 1
    exports = noting.of("onnx_export")
    assert len(exports) == 3
    for arguments in exports:
        calibration = arguments[arguments.index("--calibration") + 1]
        assert calibration == str(tmp_path / "work" / "calibration")
    noting = campaign(["*-fp16"])
    noting.export()
    assert not noting.of("codetr.training.dataset")
    assert not any("--calibration" in arguments for arguments in noting.of("onnx_export"))
