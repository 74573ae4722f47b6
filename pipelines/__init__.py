"""One file is one Ray job: wiring only. `dag.py` ties them together."""
