"""The facts that the doctor judges; collected by `runtime/fleet/inspection.py`, or made by a test."""

import msgspec

from protocol.messages.inspection import MeshResult, NodeReport
from protocol.messages.node import Inventory


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Base: immutable, and JSON for `--json`."""


class Clock(_Facts, frozen=True, kw_only=True):
    """A node's wall clock against this host's, by the shortest of some round trips."""

    ahead_s: float
    """Negative when it is behind."""
    uncertainty_s: float
    """Half of the round trip: the truth is within this of `ahead_s`."""


class ExaminedNode(_Facts, frozen=True, kw_only=True):
    """A node whose agent has joined."""

    index: int
    """The number in the fleet, which also has nodes that have not joined."""
    name: str
    address: str
    """Its address on the way to this host, which tasks get."""
    install_path: str
    shares_run_directory: bool
    inventory: Inventory
    clock: Clock | None = None
    report: NodeReport | None = None
    """None when the agent has not answered."""
    mesh: tuple[MeshResult, ...] = ()
    lost: str = ""
    """Why the agent is gone; empty while it is connected."""


SLURM_SETTINGS = (
    "TaskPlugin",
    "ProctrackType",
    "KillWait",
    "SlurmdTimeout",
    "PropagateResourceLimits",
    "PreemptMode",
)
"""Settings of Slurm that the doctor shows."""


class SlurmFacts(_Facts, frozen=True, kw_only=True):
    """Slurm's facts about its job and itself."""

    job_id: str
    version: str = ""
    partition: str = ""
    left_s: float | None = None
    """Seconds until the job's end; None without a limit."""
    has_pyxis: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    """Settings of `scontrol show config`, by the names used there."""


class Examination(_Facts, frozen=True, kw_only=True):
    """All facts of one inspection."""

    host: str
    version: str
    """The version of sflow-ctl on this host."""
    python: str
    output_dir: str
    nodes: tuple[ExaminedNode, ...]
    missing: tuple[tuple[str, str], ...] = ()
    """(node, reason) for nodes whose agents have not joined."""
    called_after_s: float = 0.0
    """Seconds until the last of the agents had joined."""
    slurm: SlurmFacts | None = None
    """None outside of Slurm."""
    gpus_expected: int | None = None
    """The number on each node; None if unknown."""
