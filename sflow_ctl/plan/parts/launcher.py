"""The program by which a task's script starts its processes, and arguments that are known late. Parts of `PlannedTask`."""

from typing import Literal

import msgspec


class Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """The program that a task's script calls to start its processes on each node."""

    kind: Literal["torchrun", "mpirun"]
    processes: int
    """The number of processes on each node."""


AssignedValue = Literal["node_names", "het_group"]


class AssignedArgument(msgspec.Struct, frozen=True, kw_only=True):
    """An argument of a job step's command line that is known once the task has been given its nodes."""

    position: int
    """The index in `argv`."""
    value: AssignedValue
    at_most: int | None = None
    """How many of the nodes are named; None for all."""
