"""The plugin's host code under AddressSanitizer and UBSan, called by tests/plugin/hostile."""

import fcntl
import json
import re
import shlex
import shutil
import subprocess

import pytest

from plugin.build import ROOT, cuda_switches
from tests.plugin.conftest import missing_tools

CHECKS = ("creation", "formats", "shapes", "outputs", "launches", "workspaces", "copies")


@pytest.fixture(scope="module")
def checks():
    """CMake's folder of them, compiled; only what changed since the last time."""
    if missing := missing_tools():
        pytest.skip(f"the plugin cannot be compiled without {', '.join(missing)}")
    folder = ROOT / "build" / "plugin-checks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # pytest-xdist runs several sessions at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        switches = ["-DCODETR_BUILD_PLUGIN=OFF", "-DCODETR_BUILD_CHECKS=ON"]
        switches += ["-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *cuda_switches()]
        if shutil.which("ninja") is not None:
            switches += ["-G", "Ninja"]
        subprocess.run(["cmake", f"-S{ROOT}", f"-B{folder}", *switches], check=True)
        subprocess.run(["cmake", "--build", folder, "--parallel"], check=True)
    return folder


def test_every_call_is_answered(checks):
    command = ["ctest", "--test-dir", checks, "--verbose"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"100% tests passed(, 0 tests failed)? out of 8\n", done.stdout)
    calls = dict(re.findall(r"(\w+): (\d+) calls", done.stdout))
    assert tuple(calls) == CHECKS
    # Fewer with older headers of TensorRT, which know fewer types.
    assert sum(map(int, calls.values())) > 3_000_000


# What guards against a defect, what is there instead, the check that meets it, what is said then.
DEFECTS = {
    "creator.cpp reads an int64": (
        *(
            "std::memcpy(&value, field->data, sizeof(value));",
            "value = *(int64_t const*)field->data;",
        ),
        *("creation", "AddressSanitizer: heap-buffer-overflow"),
    ),
    "creator.cpp counts on an address": (
        *(
            "std::memcpy(&value, field->data, sizeof(value));",
            "value = *(int32_t const*)field->data;",
        ),
        *("creation", "runtime error: load of misaligned address"),
    ),
    "creator.cpp counts on fields": (
        *(" && fields->fields != nullptr;", ";"),
        *("creation", "runtime error: reference binding to null pointer"),
    ),
    "ms_deform_attn_operator.cpp overflows": (
        *("times(times(3, heads), points)", "int64_t{3} * heads * points"),
        *("shapes", "runtime error: signed integer overflow"),
    ),
    "tensors.cpp takes any size below -1": (
        *("shape.d[i] < -1 || ", ""),
        *("shapes", "takes<DynamicPluginTensorDesc>(plugin, of, shapes) == fits"),
    ),
    "plugin.cpp takes any format": (
        *("all[position].desc.format == trt::TensorFormat::kLINEAR", "true"),
        *("formats", "supports(plugin, position, all.data(), of.inputs(), of.outputs) == fits"),
    ),
    "plugin.cpp counts on descriptions": (
        *(
            "if (!counts_fit(operator_, count(in, inputs), count(out, outputs), label())) {\n"
            "        return 0;",
            "if (false) {\n        return 0;",
        ),
        *("workspaces", "runtime error: member access within null pointer"),
    ),
    "plugin.cpp asks for any rank's workspace": (
        *("!rank_fits(operator_, i, largest[i].nbDims, label())", "false"),
        *("workspaces", "out of bounds for type"),
    ),
    "plugin.cpp launches any rank": (
        *("!rank_fits(operator_, i, in[i].dims.nbDims, label())", "false"),
        *("launches", "runs(*plugin, of, in.data(), from.data(), to.data(), kPlace)"),
    ),
    "group_norm_operator.cpp takes any batch": (
        *("std::clamp(largest[kX].d[0], int64_t{0}, int64_t{kMaxNormBatch})", "largest[kX].d[0]"),
        *("workspaces", "bytes == (fits ? wanted : 0)"),
    ),
    "linear_operator.cpp takes any number of rows": (
        *("rows_of(x) < int64_t{1} << 31 && ", ""),
        *("shapes", "takes<DynamicPluginTensorDesc>(plugin, of, shapes) == fits"),
    ),
    "linear.cpp takes another product's algorithm": (
        *(" && rows == other.rows", ""),
        *("launches", "cuBLASLt has no product"),
    ),
    "linear.cpp forgets a scale": (
        *("set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER,", "static_cast<void>("),
        *("launches", "cuBLASLt has no product"),
    ),
    "linear.cpp keeps one algorithm for all outputs": (
        *("output_type == other.output_type && ", ""),
        *("launches", "cuBLASLt has no product"),
    ),
    "plugin.cpp gives the type of its input": (
        *("operator_.output_type(i, input_types[0])", "input_types[0]"),
        *("outputs", "out[0] == of.output_type(in[0])"),
    ),
    "linear.cpp adds no residual": (
        *("problem.residual != nullptr ? 1.0F : 0.0F", "0.0F"),
        *("launches", "cuBLASLt has no product"),
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(checks, tmp_path, defect):
    file = defect.split()[0]
    right, wrong, check, said = DEFECTS[defect]
    library = build_with(checks, tmp_path, file, right, wrong)
    program = checks / "tests" / "plugin" / "hostile" / "codetr_hostile"
    done = subprocess.run([program, library, check], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def build_with(checks, folder, file, right, wrong):
    """The library again, with that exchanged in one of its files."""
    source = ROOT / "plugin" / "csrc" / file
    text = source.read_text()
    assert text.count(right) == 1
    (folder / file).write_text(text.replace(right, wrong))
    commands = json.loads((checks / "compile_commands.json").read_text())
    (command,) = [entry["command"] for entry in commands if entry["file"] == str(source)]
    compiler, *options = shlex.split(command.replace(f"-c {source}", f"-c {folder / file}"))
    at = options.index("-o") + 1
    replaced = options[at]
    options[at] = folder / "changed.o"
    subprocess.run([compiler, *options], cwd=checks, check=True)
    objects = [
        path for path in checks.glob("**/codetr_checked.dir/**/*.o") if path != checks / replaced
    ]
    link = [compiler, "-shared", "-fsanitize=address,undefined", *objects, folder / "changed.o"]
    subprocess.run([*link, "-o", folder / "library.so"], check=True)
    return folder / "library.so"
