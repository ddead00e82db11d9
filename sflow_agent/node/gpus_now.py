"""A program that prints the GPUs of this machine that a run may use, and who uses them now, as JSON.

Started by the controller while it waits for GPUs, before there is an agent (`sflow_ctl/runtime/idle_gpus.py`).
"""

import os
import sys

import msgspec

from sflow_agent.node.inventory import gpu_view


def main() -> int:
    """Print the GPUs; return the exit status."""
    sys.stdout.buffer.write(msgspec.json.encode(gpu_view(0, os.environ).gpus))
    return 0


if __name__ == "__main__":
    sys.exit(main())
