import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture
def pins(clone: Path) -> dict[str, Requirement]:
    files = ("constraints.txt", "constraints-test.txt")
    lines = [line for file in files for line in (clone / file).read_text(encoding="utf-8").splitlines()]
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_every_dependency_is_pinned_to_a_version_it_allows(clone: Path, pins: dict[str, Requirement]):
    project = tomllib.loads((clone / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    for requirement in map(Requirement, wanted):
        pin = pins[canonicalize_name(requirement.name)]
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert requirement.specifier.contains(exact.version), requirement


def test_pins_are_public_versions(pins: dict[str, Requirement]):
    """No local build tags: `torch==2.13.0`, not `2.13.0+cpu`, is what a package index offers."""
    assert all("+" not in str(requirement.specifier) for requirement in pins.values())
