"""Which Python runs a script: the one it was started with, or the one where the project's packages are installed.

A script's first line starts whatever `python3` stands on the PATH, which need not be that of the project's packages: in
a shell that did not activate `.venv`, or on a node whose Ray was started by an environment's full path. The script then
starts itself again with the right one. This module knows the standard library alone, and Python 3.10 can read it.
"""

import os
import platform
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

OLDEST = (3, 11)
NEEDED = "ray"
"""A package that every environment of the project has, and hardly any other."""
WORKER_COMMAND = "--python_worker_command="
"""How a Ray node is told to start its workers."""
RESTARTED = "MOS_RESTARTED"
"""Environment variable of a script that was started again: once is enough."""


def use_project_python(checkout: Path) -> None:
    """Start the script again with the Python of Ray's workers, or of the checkout's `.venv`, if this one lacks Ray.

    Returns where nothing is lacking. Where no Python can be found that has what is needed, the script ends in one
    sentence and status 2.
    """
    restarted = os.environ.pop(RESTARTED, None)
    if sys.version_info >= OLDEST and find_spec(NEEDED) is not None:
        return
    candidates = [worker_python(), checkout / ".venv" / "bin" / "python"]
    for python in candidates:
        if python is not None and python.is_file() and restarted is None:
            os.environ[RESTARTED] = "1"
            os.execv(python, [str(python), *sys.argv])
    print(
        f"error: {sys.executable} (Python {platform.python_version()}) has no {NEEDED}: run `make setup` in "
        f"{checkout}, or start the script with the Python where the packages of constraints.txt are installed",
        file=sys.stderr,
    )
    sys.exit(2)


def worker_python() -> Path | None:
    """The Python of the Ray node that this process descends from; None outside a Ray job."""
    for command in ancestors():
        for argument in command:
            if argument.startswith(WORKER_COMMAND):
                return Path(shlex.split(argument.removeprefix(WORKER_COMMAND))[0])
    return None


def ancestors() -> Iterator[list[str]]:
    """Command lines of this process's parent, its parent and so on, as far as Linux tells."""
    pid = os.getppid()
    while pid > 1:
        folder = Path("/proc", str(pid))
        try:
            yield folder.joinpath("cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
            status = folder.joinpath("stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        pid = int(status.rpartition(")")[2].split()[1])
