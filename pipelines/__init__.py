"""One file is one Ray job: wiring only. `dag.py` ties them together."""

import cluster  # noqa: F401 - its environment, before anything loads torch
