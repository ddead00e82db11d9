"""The resources of a node: GPUs, memory, addresses."""

import msgspec


class GpuUser(msgspec.Struct, frozen=True, kw_only=True):
    """A process that computes on a GPU."""

    pid: int
    owner: str = ""
    program: str = ""
    """Both are empty for a process that this node's agent cannot see."""
    memory_bytes: int | None = None
    """On the GPU; None if the driver does not report it."""


class Gpu(msgspec.Struct, frozen=True):
    """One GPU an agent may use, or one instance of a partitioned GPU. `index` counts within the agent's view."""

    index: int
    uuid: str
    name: str = ""
    memory_bytes: int = 0
    simulated: bool = False
    used_bytes: int = 0
    """Used memory when the agent started."""
    users: tuple[GpuUser, ...] = ()
    """Processes at that time."""
    numa: int = -1
    """The NUMA node that it is attached to; -1 if unknown."""
    domain: int = -1
    """The number of its NVLink domain: GPUs of the node with the same one reach each other over NVLink. -1 if unknown."""
    cards: tuple[str, ...] = ()
    """The network cards that are nearest to it, by their names in /sys/class/infiniband."""


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """The resources of a node, as its agent sees them."""

    host: str
    cpus: int
    """CPUs this agent may run on (its affinity), which can be fewer than the machine has."""
    cpus_online: int
    cpus_given: int | None = None
    """CPUs of the node that Slurm has given to the job; None outside of one."""
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    counts_gpus: bool = False
    """False if the number of GPUs is unknown: no driver, and none given by Slurm."""
    gpu_problems: tuple[str, ...] = ()
    """Sentences about GPUs that should exist and do not."""
    python: str = ""
    open_files: tuple[int, int] = (-1, -1)
    """(soft, hard) limit that tasks get; -1 is none."""

    @property
    def smallest_gpu_bytes(self) -> int:
        """Return the memory of its smallest GPU; 0 where no driver says it."""
        return min((gpu.memory_bytes for gpu in self.gpus if gpu.memory_bytes), default=0)
