"""Damaged files are read or refused; no process ends, and nothing else is raised."""

from collections import Counter

import pytest

from tests.security.attempts import outcomes_of
from tests.security.damage import attempts
from tests.security.fuzz import EXAMPLES
from tests.security.samples import NAMES, make_sample


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(tmp_path, name):
    reader, file = make_sample(name, tmp_path / "whole")
    assert outcomes_of(reader, file, [("none", 0)]) == {"none:0": "read"}
    found = outcomes_of(reader, file, attempts(EXAMPLES))
    wrong = {attempt: what for attempt, what in found.items() if what not in ("read", "refused")}
    assert wrong == {}
    counts = Counter(found.values())
    assert counts.total() == 3 * EXAMPLES
    assert counts["refused"] > 0
    if name == "engine":
        assert counts["read"] == 0  # the hash of every byte is known


def test_a_process_that_ends_is_a_crash(tmp_path, monkeypatch):
    """And what comes after is tried all the same."""
    monkeypatch.setattr("tests.security.attempts.ROOT", tmp_path)
    package = tmp_path / "tests" / "security"
    package.mkdir(parents=True)
    code = """
        import os, sys
        for attempt in sys.argv[3:]:
            print(attempt, "begins", flush=True)
            if attempt == "cut:1":
                os.abort()
            print(attempt, "read", flush=True)
    """
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "readers.py").write_text("\n".join(line[8:] for line in code.splitlines()))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert outcomes_of("detect", tmp_path / "none", attempts(3, ("cut",))) == {
        "cut:0": "read",
        "cut:1": "crash: exit code -6",
        "cut:2": "read",
    }
