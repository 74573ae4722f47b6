"""Every figure of the state tables, or the groups that are named.

    python -m tests.benchmarks.states
    python -m tests.benchmarks.states sizes encoding

Each group is measured by itself and recorded as it is done.
"""

import sys
from collections.abc import Callable

from tests.benchmarks.harness import Row, write_results
from tests.benchmarks.states import encoding, kills, planning, reading, routing, sizes, streaming

GROUPS: dict[str, list[Callable[[], list[Row]]]] = {
    "sizes": [sizes.size_rows],
    "routing": [lambda: routing.routing_rows(routing.default_root())],
    "encoding": [encoding.ratio_rows, encoding.again_rows],
    "reading": [reading.reading_rows],
    "planning": [lambda: planning.plan_rows(1, "plan.10m") + planning.plan_rows(3, "plan.10m.sources3")],
    "kills": [kills.kill_rows],
    "streaming": [streaming.streaming_rows],
}
"""Group -> what measures its rows."""


def main(names: list[str]) -> None:
    """Measure the groups named, or all of them."""
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        sys.exit(f"unknown groups {unknown}: choose from {', '.join(GROUPS)}")
    for name in names or GROUPS:
        for measure in GROUPS[name]:
            write_results("states", measure())


if __name__ == "__main__":
    main(sys.argv[1:])
