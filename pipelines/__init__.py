"""One file is one Ray job: wiring only. `dag.py` ties them together."""

import os

# Read by the OpenMP of torch when it is loaded. Threads that spin while they wait for each other are up to 30 times
# slower where another process uses a core: 5 instead of 140 samples/s of the demo's first stage on two busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
