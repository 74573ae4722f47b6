#!/usr/bin/env python3
"""Whether the tree keeps its order: jobs alone in pipelines/, tests under the path of what they test.

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
MOST_UNTESTED = 76
"""Files of more than `LONG` lines that only the tests of others reach. This number only goes down."""
LONG = 60


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


def untested() -> list[str]:
    """Long files without a test file under the same path."""
    modules = sorted(path for root in ROOTS for path in (CLONE / root).rglob("*.py") if path.name != "__init__.py")
    return [
        str(path.relative_to(CLONE))
        for path in modules
        if not any(test.is_file() for test in _tests_of(path.relative_to(CLONE)))
        and len(path.read_text(encoding="utf-8").splitlines()) > LONG
    ]


def _tests_of(module: Path) -> tuple[Path, Path]:
    """Where the test of a module may stand: under its own path, or under that of its package."""
    folder = CLONE / "tests" / module.parent
    return folder / f"test_{module.name}", folder.parent / f"test_{module.parent.name}.py"


def main() -> int:
    """Print what is out of place."""
    found = [*no_jobs(), *strays()]
    lacking = untested()
    if len(lacking) > MOST_UNTESTED:
        found += [f"{name} has more than {LONG} lines and no test file under its path" for name in lacking]
    print(
        "\n".join(found) if found else f"house: in order; {len(lacking)} long files have no test file of their own yet"
    )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
