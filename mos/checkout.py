"""Where this checkout stands."""

from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
"""The checkout (or the unpacked working directory of a Ray job) that holds mos, operators, cluster and pipelines."""
