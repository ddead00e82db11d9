"""What planning is told from outside the files."""

from collections.abc import Callable
from dataclasses import dataclass

UNKNOWN_ADDRESS = "0.0.0.0"
"""Of nodes that a plan knows by name only."""


@dataclass(frozen=True, slots=True)
class JobNode:
    """A node of the Slurm job that a run is in."""

    name: str
    address: str = UNKNOWN_ADDRESS
    het_group: int | None = None
    """The component of a heterogeneous job that it belongs to; None in a plain one."""


def _no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """What a plan needs from outside the file. Paths are absolute."""

    workspace_dir: str
    output_dir: str
    run_directory: str
    run_id: str
    nodes_override: int | None
    gpus_per_node_override: int | None
    max_running: int | None
    path_exists: Callable[[str], bool]
    read_text: Callable[[str], str] = _no_file
    """The text of a file. Raises: OSError, UnicodeDecodeError."""
    job_nodes: tuple[JobNode, ...] | None = None
    """The Slurm job's nodes, in its order; None outside a job."""
    here: tuple[str, str] = ("localhost", "127.0.0.1")
    """Name and address of this machine, as tasks of the other nodes know it: where local backends run."""
    job_id: str = "0"
    """The Slurm job that steps belong to; "0" while there is none."""
    container_engine: str = "auto"
    """Of `container` operators that name none."""
    given: frozenset[str] = frozenset()
    """Fields of slurm backends that need not be in the file: settings say them."""
    is_strict: bool = False
    """`--compat strict`: what the reference does, also where it is a trap. docs/format.md lists it."""
    allow_placeholder_nodes: bool = False
    """Plan Slurm backends without an allocation: for looking at a plan."""
