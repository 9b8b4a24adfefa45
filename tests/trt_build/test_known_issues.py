"""Versions of TensorRT that compute something wrongly are named when an engine is built."""

import pytest

from trt_build.known_issues import KNOWN_ISSUES, KnownIssue, known_issues


def test_a_warning_names_the_issue_and_what_to_do():
    [line] = known_issues("10.16.1.11", "12.0", "fp16")
    assert "\n" not in line
    assert "TensorRT 10.16.1.11" in line
    assert "issues/4837" in line
    assert "trt_build verify" in line


@pytest.mark.parametrize(
    ("version", "capability", "precision"),
    [("10.16.1.11", "9.0", "fp16"), ("10.16.1.11", "12.0", "fp32"), ("10.6.0", "11.0", "fp16")],
)
def test_others_are_not_warned(version, capability, precision):
    assert known_issues(version, capability, precision) == []


@pytest.mark.parametrize(
    ("version", "concerned"),
    [("10.8.9", False), ("10.9", True), ("10.10.1", True), ("10.13", False), ("11.0", False)],
)
def test_versions_from_the_first_to_the_one_that_mends_it(version, concerned):
    issue = KnownIssue("r", "w", frozenset({"9.0"}), frozenset({"fp16"}), "10.9", "10.13")
    assert issue.concerns(version, "9.0", "fp16") == concerned


def test_each_issue_can_be_looked_up():
    assert all(issue.reference.startswith("https://github.com/") for issue in KNOWN_ISSUES)
