"""What the docs name is there: files, headings, commands with their options, and messages."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "codetr/**/*.md", "tests/**/*.md")
    for page in ROOT.glob(pattern)
)
PACKAGES = ("codetr", "onnx_export", "plugin", "trt_build", "runtime")


def names(pages):
    return [str(page.relative_to(ROOT)) for page in pages]


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """What headings are linked by: as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_by_the_readme():
    linked = {
        ROOT / link for link in re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text())
    }
    assert {ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")} <= linked


def commands():
    """Page and words of every ``python -m …`` in a block of code."""
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.search(r"python -m (?!pytest)(.+)", line):
                    words = shlex.split(re.split(r"[;|]", found[1])[0], comments=True)
                    yield page.name, tuple(words)


def subcommand(words):
    """Of ``trt_build`` and ``runtime``, whose commands have options of their own."""
    known = ("inspect", "verify", "detect", "bench", "eval", "triton-repo")
    return words[1:2] if words[1:2] and words[1] in known else ()


@cache
def help_text(module, *command):
    done = subprocess.run(
        [sys.executable, "-m", module, *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("page", "words"), sorted(set(commands())), ids=str)
def test_every_command_has_the_options_it_is_given(page, words):
    text = help_text(words[0], *subcommand(words))
    for option in (word for word in words[1:] if word.startswith("-")):
        assert re.search(rf"(^|[\s\[,]){re.escape(option)}\b", text), f"{page}: {option}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_module_that_is_run_is_there(page):
    for module in re.findall(r"python\s+-m\s+([\w.]+)", page.read_text()):
        path = ROOT.joinpath(*module.split("."))
        there = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        assert there or module == "pytest", module


@cache
def constants():
    """All strings of the packages, those of an f-string piece by piece."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    values = (node.value for node in nodes if isinstance(node, ast.Constant))
    return [value for value in values if isinstance(value, str)]


def messages():
    """Messages of programs that the troubleshooting quotes: code alone in the first column."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize("message", messages())
def test_every_message_is_one_of_the_programs(message):
    for piece in filter(None, message.split("…")):
        assert any(piece in constant for constant in constants()), piece


def test_the_picture_is_an_image():
    ElementTree.parse(ROOT / "docs" / "architecture.svg")
