"""What a killed process leaves is removed by the next one, and nothing else is."""

import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from onnx_export.scratch import scratch_folder
from runtime import files
from runtime.errors import UserError
from runtime.files import NotWritableError, _remove_leftovers, atomic_folder, atomic_output

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "atomic_output": "from runtime.files import atomic_output as begin",
    "atomic_folder": "from runtime.files import atomic_folder as begin",
    "scratch_folder": "from onnx_export.scratch import scratch_folder as begin",
}


@pytest.fixture(autouse=True)
def nothing_removed_yet():
    _remove_leftovers.cache_clear()


def begin(name, path):
    """A process that is at work in the folder of ``path``."""
    code = f"""if True:
        import sys
        from pathlib import Path
        {FOLDERS[name]}
        with begin(Path(sys.argv[1])) as temporary:
            half = temporary / "file" if temporary.is_dir() else temporary
            half.write_bytes(b"half")
            print(temporary, flush=True)
            sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, Path(process.stdout.readline().strip())


def use(name, folder):
    if name == "scratch_folder":
        with scratch_folder(folder):
            pass
    elif name == "atomic_folder":
        with atomic_folder(folder / "whole"):
            pass
    else:
        with atomic_output(folder / "whole"):
            pass


@pytest.mark.parametrize("name", FOLDERS)
def test_killed_and_living_processes(tmp_path, name):
    path = tmp_path if name == "scratch_folder" else tmp_path / "m.engine"
    if name == "atomic_output":
        path.write_bytes(b"older")
    (killed, leftover), (living, in_use) = begin(name, path), begin(name, path)
    others = [tmp_path / ".codetr-notes", tmp_path / ".0123456789abcdef.png"]
    for other in others:
        other.touch()
    with killed, living:
        try:
            killed.kill()
            killed.wait()
            assert leftover.exists()
            assert name != "atomic_output" or path.read_bytes() == b"older"
            use(name, tmp_path)
            assert not leftover.exists()
            assert in_use.exists()
            assert all(other.exists() for other in others)
            living.communicate()
            assert living.returncode == 0
            assert not in_use.exists()
        finally:
            living.kill()


def test_links_are_left_alone(tmp_path):
    precious = tmp_path / "precious"
    precious.touch()
    link = tmp_path / ".codetr-0123456789abcdef"
    link.symlink_to(precious)
    use("atomic_output", tmp_path)
    assert precious.exists()
    assert link.is_symlink()


@pytest.mark.parametrize("step", ["os.open", "fcntl.flock"])
def test_a_temporary_file_taken_for_left_over_is_made_again(tmp_path, monkeypatch, step):
    # Another process may remove it until it is locked.
    name = step.rpartition(".")[2]
    original = getattr(files.os if name == "open" else files.fcntl, name)
    removed = []

    def removed_before(*args):
        if not removed:
            removed.extend(tmp_path.glob(".codetr-*"))
            for file in removed:
                file.unlink()
        return original(*args)

    monkeypatch.setattr(step, removed_before)
    with atomic_output(tmp_path / "a") as temporary:
        assert temporary.exists()
        temporary.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert len(removed) == 1


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(
    "step", ["os.open", "fcntl.flock", "pathlib.Path.mkdir", "pathlib.Path.touch"]
)
def test_stopped_while_the_temporary_file_is_made(tmp_path, monkeypatch, name, step):
    owner, attribute = resolve_name(step.rpartition(".")[0]), step.rpartition(".")[2]
    original, came = getattr(owner, attribute), []

    def then_stopped(*args, **options):
        result = original(*args, **options)
        if any(tmp_path.glob(".*")) and not came:
            came.append(True)
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, attribute, then_stopped)
    try:
        use(name, tmp_path)
    except KeyboardInterrupt:
        assert list(tmp_path.iterdir()) == []
    else:  # this one takes no such step
        assert (name == "atomic_output") == (step == "pathlib.Path.mkdir")
        assert (name != "atomic_output") == (step == "pathlib.Path.touch")


def test_a_folder_of_that_name(tmp_path):
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(NotWritableError, match="a: Is a directory; remove it"),
        atomic_output(tmp_path / "a"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(UserError, match="is there already"), atomic_folder(tmp_path):
        pass
