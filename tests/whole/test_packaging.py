import os
import re
import subprocess
import sys
import sysconfig
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


@pytest.fixture(scope="module")
def installed(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment where the project is installed as `make setup` installs it."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "pins.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = folder / "bin" / "python"
    (recipe,) = re.findall(
        r"pip install [^\n]*\\\n\t *(--[^\n]*--editable) \.", (clone / "Makefile").read_text("utf-8")
    )
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-index", *recipe.split(), str(clone)]
    done = subprocess.run(command, cwd=folder, env=bare(), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return python


def bare() -> dict[str, str]:
    """The environment without a path to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.mark.slow
def test_the_lines_of_the_readme_draw_from_any_folder(clone: Path, installed: Path, tmp_path: Path):
    (lines,) = re.findall(r"```python\n(.*?)```", (clone / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.py").write_text(lines, encoding="utf-8")
    command = [str(installed), "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, env=bare(), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "star.png").stat().st_size > 500


@pytest.mark.slow
def test_an_installation_gives_way_to_a_checkout_on_the_path(clone: Path, installed: Path, tmp_path: Path):
    """A Ray job imports the checkout that travelled with it, whatever its node has installed."""
    (tmp_path / "mos").mkdir()
    (tmp_path / "mos" / "__init__.py").touch()
    command = [str(installed), "-c", "import mos, cluster; print(mos.__file__, cluster.__file__)"]
    environment = {**bare(), "PYTHONPATH": str(tmp_path)}
    shown = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.split() == [str(tmp_path / "mos/__init__.py"), str(clone / "cluster/__init__.py")]
