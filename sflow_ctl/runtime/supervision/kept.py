"""The processes that a controller hands to the next one. Launchers make and adopt them; `succession.py` carries them."""

from typing import NamedTuple


class KeptAgent(NamedTuple):
    """An agent of this machine."""

    node: int
    pid: int
    """The guardian's."""


class KeptStep(NamedTuple):
    """A job step with the agents of a Slurm job."""

    pid: int
    """Of srun."""
    nodes: dict[int, str]
    """The names of its nodes, by number in the run."""
    started: int = 0
    """When srun was started, in kernel ticks after boot: with `pid` it identifies the process."""
    is_orphan: bool = False
    """No process of the run waits for its srun: supervisor and controller have both died."""
