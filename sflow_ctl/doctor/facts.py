"""Everything that is known when a doctor judges. Facts only; made by `runtime/examination.py`, or by a test."""

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
    """A node whose agent has called."""

    index: int
    """In the fleet, which also has those that have not."""
    name: str
    address: str
    """On its way to this host; what tasks are told."""
    install_path: str
    shares_run_directory: bool
    inventory: Inventory
    clock: Clock | None = None
    report: NodeReport | None = None
    """None when the agent has not answered."""
    mesh: tuple[MeshResult, ...] = ()
    lost: str = ""
    """Why the agent is gone; empty while it is there."""


class SlurmFacts(_Facts, frozen=True, kw_only=True):
    """What Slurm says about its job and itself."""

    job_id: str
    version: str = ""
    partition: str = ""
    left_s: float | None = None
    """Until the job's end; None without a limit."""
    has_pyxis: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    """Of `scontrol show config`: names as there."""


class Examination(_Facts, frozen=True, kw_only=True):
    """All of it."""

    host: str
    version: str
    """Of sflow-ctl on this host."""
    python: str
    output_dir: str
    nodes: tuple[ExaminedNode, ...]
    missing: tuple[tuple[str, str], ...] = ()
    """(node, why) of those whose agents have not called."""
    called_after_s: float = 0.0
    """Until the last of the agents had called."""
    slurm: SlurmFacts | None = None
    """None on a machine of one's own."""
    gpus_expected: int | None = None
    """On each node; None where nobody has said."""
