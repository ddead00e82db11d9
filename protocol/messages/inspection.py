"""The facts of a node's inspection, without judgement.

Judged by `sflow_ctl.doctor`. Every part is optional: a hanging file system must not hide the other facts.
"""

import msgspec


class ReportPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the parts of a report."""


class MeshTarget(ReportPart, frozen=True, kw_only=True):
    """The address of another agent's listener."""

    node: int
    interface: str
    address: str
    port: int
    is_primary: bool = False
    """Whether tasks get this address: the node's on its way to the controller."""


class MeshResult(ReportPart, frozen=True, kw_only=True):
    """The result of the connection to one target. Without a problem it took `connect_s`."""

    node: int
    interface: str
    address: str
    is_primary: bool = False
    connect_s: float = 0.0
    problem: str = ""


class Limit(ReportPart, frozen=True, kw_only=True):
    """One of setrlimit(2), as tasks get it. None is unlimited."""

    name: str
    soft: int | None
    hard: int | None


class Quota(ReportPart, frozen=True, kw_only=True):
    """This user's limits on a file system. A limit of 0 means unlimited."""

    kib: int
    kib_limit: int
    files: int
    files_limit: int


class Directory(ReportPart, frozen=True, kw_only=True):
    """A directory that runs write to."""

    role: str
    """"output directory", "temporary files", "shared memory"."""
    path: str
    file_system: str = ""
    """Its kind: "nfs4", "lustre", "tmpfs"."""
    total_bytes: int = 0
    free_bytes: int = 0
    """Free bytes for this user."""
    total_files: int = 0
    """Inodes; 0 on file systems that do not count them."""
    free_files: int = 0
    write_s: float | None = None
    """Seconds until a MiB was on disk; None if it was not tried."""
    quota: Quota | None = None
    problem: str = ""
    """Why it is not writable."""


class Engine(ReportPart, frozen=True, kw_only=True):
    """A container engine that is on PATH."""

    name: str
    path: str
    version: str = ""
    problem: str = ""
    """Why it cannot be used, in its own words."""


class Leftover(ReportPart, frozen=True, kw_only=True):
    """Processes of this user that an earlier run, or another one, has started."""

    run: str
    """The run's marker; empty if all of its processes have wiped their environment."""
    pids: tuple[int, ...]
    has_agent: bool
    """Whether an agent of that run is still their parent."""
    containers: tuple[str, ...] = ()
    """"ENGINE NAME" of containers, which need no process of this user."""


class LeftSpool(ReportPart, frozen=True, kw_only=True):
    """A directory with logs of an earlier run of this user that its controller does not have."""

    path: str
    run: str
    """The marker of the run's agents."""
    size_bytes: int
    """What its files take on the disk."""


class GpuHealth(ReportPart, frozen=True, kw_only=True):
    """NVML's facts about a GPU's memory; `index` as in the inventory."""

    index: int
    uncorrected_errors: int = 0
    """Since the driver was loaded."""
    is_remap_pending: bool = False
    """Rows are remapped at the next reset."""
    has_remap_failed: bool = False
    """No spare rows are left."""


class NodeReport(ReportPart, frozen=True, kw_only=True):
    """One node. The parts in `unanswered` have not arrived in time and are empty here."""

    kernel: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    """(what, version): "sflow-ctl", "python", "pyzmq", "driver"..."""
    addresses: tuple[tuple[str, str], ...] = ()
    """(interface, address) pairs, IPv4 and IPv6."""
    mesh_port: int = 0
    """The port on which this agent listens on all of its addresses; 0 if it cannot."""
    cpu_quota: float | None = None
    """The time of how many CPUs cgroups allow."""
    memory_limit_bytes: int | None = None
    """The limit of cgroups."""
    memory_available_bytes: int = 0
    limits: tuple[Limit, ...] = ()
    slurm: tuple[tuple[str, str], ...] = ()
    """Variables with the resources that Slurm gave to this node."""
    directories: tuple[Directory, ...] = ()
    engines: tuple[Engine, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    spools: tuple[LeftSpool, ...] = ()
    gpu_health: tuple[GpuHealth, ...] = ()
    has_infiniband: bool = False
    unanswered: tuple[tuple[str, str], ...] = ()
    """(part, reason) for facts that could not be collected."""
