"""Scripts find the Python they need, from a bare shell and from a Ray job; and say so where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.run import interpreter
from pipelines.run.interpreter import WORKER_COMMAND, ancestors, worker_python


def bare_path() -> str:
    """PATH without the folder of this Python."""
    own = Path(sys.executable).parent
    return os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != own)


def foreign_python() -> str:
    """A Python that lacks the project's packages."""
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        python = shutil.which(name, path=bare_path())
        if python is None:
            continue
        asked = (
            "import sys, importlib.util as u; sys.exit(u.find_spec('ray') is not None or sys.version_info < (3, 10))"
        )
        if subprocess.run([python, "-c", asked], check=False, timeout=60).returncode == 0:
            return python
    pytest.skip("no other Python on this machine")


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": bare_path()}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def checkout(folder: Path, clone: Path) -> Path:
    """What a script needs to answer `--help`."""
    for name in ("pipelines", "mos"):
        shutil.copytree(clone / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "checkpoints"))
    return folder


def test_every_job_is_a_program(clone: Path) -> None:
    scripts = [path for path in (clone / "pipelines").glob("*.py") if '__name__ == "__main__"' in path.read_text()]
    assert len(scripts) > 10
    for path in scripts:
        assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n"), path
        assert os.access(path, os.X_OK), f"{path} lacks its run bit: git update-index --chmod=+x"


def test_a_program_starts_the_python_of_the_checkout(clone: Path, tmp_path: Path) -> None:
    foreign_python()
    folder = checkout(tmp_path / "with spaces", clone)
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    shown = run([str(folder / "pipelines/stage1.py"), "--help"], tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "settings of [stage1]" in shown.stdout


def test_without_any_python_that_fits_the_remedy_is_named(clone: Path, tmp_path: Path) -> None:
    python, folder = foreign_python(), checkout(tmp_path / "clone", clone)
    shown = run([python, str(folder / "pipelines/sample.py"), "a ring"], tmp_path)
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: ")
    assert "has no ray: run `make setup`" in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_a_python_that_lacks_the_packages_itself_is_tried_once(clone: Path, tmp_path: Path) -> None:
    python, folder = foreign_python(), checkout(tmp_path / "clone", clone)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(python)
    shown = run([python, str(folder / "pipelines/sample.py"), "a ring"], tmp_path)
    assert (shown.returncode, shown.stderr.count("error: ")) == (2, 1)


def test_a_job_finds_the_python_of_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_python() is None or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    raylet = ["raylet", "--head", f"{WORKER_COMMAND}'/opt/my env/bin/python' default_worker.py --x=1", ""]
    monkeypatch.setattr(interpreter, "ancestors", lambda: iter([["sh", "-c", "stage1.py"], raylet]))
    assert worker_python() == Path("/opt/my env/bin/python")


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="no /proc on this system")
def test_ancestors_are_told_from_the_parent_on() -> None:
    code = "from pipelines.run.interpreter import ancestors; print(next(ancestors())[-2])"
    command = f"{sys.executable} -c '{code}'; true mark"
    shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip().endswith("true mark")
    assert list(ancestors())
