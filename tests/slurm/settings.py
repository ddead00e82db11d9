"""The settings of a cluster."""

import msgspec

HEAD = "head"
"""The machine with slurmctld, where sbatch, srun and salloc of tests run: the site's login node."""
LARGEST = 64


class Settings(msgspec.Struct, frozen=True):
    """The defaults are what the tests share; Slurm believes CPUs and memory whatever the machine has."""

    nodes: int = 4
    gpus: int = 4
    cpus: int = 16
    memory_mb: int = 64_000
    time_limit: str = "00:10:00"
    """Of a job that asks for none."""
    slurmd_timeout_s: int = 4
    """A silent node is DOWN after about four times that; at least 30 s with other versions than 22.05."""
    kill_wait_s: int = 2
    """Between SIGTERM and SIGKILL at a job's end."""
    grace_s: int = 3
    """The time of a preempted job in partition `cancelled` after SIGTERM."""
    process_tracking: str = "linuxproc"
    """Or `pgid`, or `cgroup` (version 1, with the freezer), of which there can be one cluster at a time."""
    options: dict[str, str] = {}
    """Further lines of slurm.conf, or other values; an empty one drops the line."""

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= LARGEST:
            raise ValueError(f"a cluster has 1 to {LARGEST} nodes, not {self.nodes}")

    @property
    def node_names(self) -> list[str]:
        """In Slurm's order."""
        return [f"node{index}" for index in range(self.nodes)]

    @property
    def machine_names(self) -> list[str]:
        """The head first."""
        return [HEAD, *self.node_names]


def address(machine: str) -> str:
    """On the cluster's network, which nothing outside of it is on: every cluster has the same addresses."""
    return f"10.77.0.{_number(machine)}"


def black_hole_address(machine: str) -> str:
    """A second address that the machine can be given; what others send to it vanishes."""
    return f"10.78.0.{_number(machine)}"


def _number(machine: str) -> int:
    return 1 if machine == HEAD else 10 + int(machine.removeprefix("node"))
