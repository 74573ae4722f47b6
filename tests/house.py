#!/usr/bin/env python3
"""Check the order of the tree: jobs alone in pipelines/, tests under the path of what they test.

    python tests/house.py

Ends with status 1 and a line for each file out of place. Who may import whom is import-linter's (`pyproject.toml`).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
ROOTS = ("mos", "operators", "cluster", "pipelines")
WHOLE = "whole"
"""Folder of tests of what several files do together; they need no counterpart."""
LONG = 60
"""Lines of a file from which on it has tests of its own."""


def no_jobs() -> Iterator[str]:
    """Files of pipelines/ that are no scripts."""
    for path in sorted((CLONE / "pipelines").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name != "__init__.py" and not (text.startswith("#!") and "COMMAND = Command(" in text):
            yield f"{path.relative_to(CLONE)} is no job: what jobs share stands in a folder of pipelines/"


def strays() -> Iterator[str]:
    """Test files without a module, or a package, of their name under the same path."""
    for path in sorted((CLONE / "tests").rglob("test_*.py")):
        place = path.relative_to(CLONE / "tests")
        if place.parts[0] in (WHOLE, "benchmarks"):
            continue
        tested = CLONE / place.parent / place.stem.removeprefix("test_")
        if not tested.with_suffix(".py").is_file() and not tested.is_dir():
            yield f"tests/{place} tests no {tested.relative_to(CLONE)}.py: rename it, or put it into tests/{WHOLE}"


def untested() -> Iterator[str]:
    """Long files without a test file under the same path."""
    for path in sorted(path for root in ROOTS for path in (CLONE / root).rglob("*.py") if path.name != "__init__.py"):
        name = path.relative_to(CLONE)
        if len(path.read_text(encoding="utf-8").splitlines()) > LONG and not any(map(Path.is_file, _tests_of(name))):
            yield f"{name} has more than {LONG} lines and no test file under its path"


def _tests_of(module: Path) -> tuple[Path, Path]:
    """Where the test of a module may stand: under its own path, or under that of its package."""
    folder = CLONE / "tests" / module.parent
    return folder / f"test_{module.name}", folder.parent / f"test_{module.parent.name}.py"


def main() -> int:
    """Print what is out of place."""
    found = [*no_jobs(), *strays(), *untested()]
    print("\n".join(found) or "house: in order")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
