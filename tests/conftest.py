"""For all tests: files that speak of GPUs mean the same on a machine that has some.

Those that are about real ones say so with `SFLOW_SIMULATE_GPUS=0`.
"""

import os

os.environ.setdefault("SFLOW_SIMULATE_GPUS", "1")
