"""The program by which a task's script starts its processes. A part of `PlannedTask`."""

from typing import Literal

import msgspec


class Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """The program that a task's script calls to start its processes on each node."""

    kind: Literal["torchrun", "mpirun"]
    processes: int
    """The number of processes on each node."""
