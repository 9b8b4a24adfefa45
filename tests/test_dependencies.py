"""docs/dependencies.md against pyproject.toml and what is installed."""

import importlib.metadata
import re
import tomllib

import pytest

from plugin.build import ROOT

SPELLINGS = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "FreeBSD": "BSD-2-Clause",
    "Proprietary": "NVIDIA's, proprietary",
    "LicenseRef-NVIDIA-Proprietary": "NVIDIA's, proprietary",
}
"""How packages call licences, and what the table calls them."""


def required():
    """The extras (or "always") of each package that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"always": project["dependencies"], **project["optional-dependencies"]}
    found = {}
    for extra, requirements in groups.items():
        for requirement in requirements:
            name = re.match(r"[A-Za-z0-9._-]+", requirement)[0]
            found.setdefault(name, []).append(extra)
    return found


def rows():
    """The table's lines: package, extras, licence."""
    lines = (ROOT / "docs" / "dependencies.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    return [
        (name.strip("`"), extras.replace("`", ""), why, licence)
        for name, extras, why, licence in cells[2:]
    ]


def declared(metadata):
    """The licence that a package states, as the table spells it."""
    expression, free = metadata.get("License-Expression"), metadata.get("License")
    classifiers = metadata.get_all("Classifier", [])
    of_class = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")]
    said = expression or (of_class[0] if of_class else free)
    return SPELLINGS.get(free, SPELLINGS.get(said, said))


def test_the_table_names_every_dependency_with_its_extras_and_a_reason():
    assert {name: extras.split(", ") for name, extras, _, _ in rows()} == required()
    assert all(why for _, _, why, _ in rows())


@pytest.mark.parametrize(("name", "licence"), [(name, row[-1]) for name, *row in rows()])
def test_licences_are_what_the_packages_say(name, licence):
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    wanted = licence.removesuffix(" AND others, see below")
    assert declared(metadata).startswith(wanted)


def test_every_version_is_bounded():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (requirement for group in groups for requirement in group):
        assert re.search(r">=[\d.]+,<[\d.]+$", requirement), requirement
