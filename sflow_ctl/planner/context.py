"""Facts from outside the files that planning needs: directories, the Slurm job, the environment, settings."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct

from sflow_ctl.plan.words import Compat, Policies

if TYPE_CHECKING:
    from protocol.plugins import FoundPlugin
    from sflow_ctl.plan.fetches import Package

UNKNOWN_ADDRESS = "0.0.0.0"
"""The address of a node that is known by name only."""


class JobNode(Struct, frozen=True):
    """A node of the Slurm job that a run is in."""

    name: str
    address: str = UNKNOWN_ADDRESS
    het_group: int | None = None
    """The component of a heterogeneous job that it belongs to; None in a plain one."""
    job_id: str | None = None
    backend: str | None = None
    """The only backend that its job is for; None where all backends share the job."""
    gpu_bytes: int | None = None
    """Memory of its smallest GPU, 0 where no driver says it; None until its agent has reported."""


def _no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def _no_files(_pattern: str) -> tuple[str, ...]:
    return ()


def _no_gpus() -> int:
    return 0


@cache
def _find_plugin(group: str, name: str) -> "FoundPlugin":
    from protocol.plugins import find_plugin  # few runs have any

    return find_plugin(group, name)


class PackageError(Exception):
    """Says what is wrong with a package, as a sentence, and the remedy."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


def _no_package(path: str) -> "Package":
    raise PackageError(f"{path} cannot be read: No such file or directory", "name a folder or a .py file")


class PlanContext(Struct, frozen=True, kw_only=True):
    """Facts from outside the file that a plan needs. Paths are absolute."""

    workspace_dir: str
    output_dir: str
    run_directory: str
    run_id: str
    nodes_override: int | None
    gpus_per_node_override: int | None
    max_running: int | None
    """`--max-running`."""
    usual_max_running: int | None = None
    """The setting `max_running`."""
    is_strict: bool = False
    """The setting `strict`."""
    path_exists: Callable[[str], bool]
    read_text: Callable[[str], str] = _no_file
    """Returns the text of a file. Raises: OSError, UnicodeDecodeError."""
    glob: Callable[[str], Sequence[str]] = _no_files
    """Returns the paths that match an absolute pattern, sorted."""
    job_nodes: tuple[JobNode, ...] | None = None
    """The Slurm job's nodes, in its order; None outside a job."""
    here: tuple[str, str] = ("localhost", "127.0.0.1")
    """Name and address of this machine, as tasks on other nodes reach it: local backends run here."""
    job_id: str = "0"
    """The Slurm job that steps run in; "0" if there is none."""
    container_engine: str = "auto"
    """The engine of `container` operators that name none."""
    docker_args: tuple[str, ...] = ()
    """More options for `docker run`, which win over those of the file."""
    extra_args: tuple[str, ...] = ()
    """More options for what starts tasks of a backend: for `docker run` on docker backends. `docker_args` win over them."""
    find_plugin: "Callable[[str, str], FoundPlugin]" = _find_plugin
    """Returns an installed plug-in by its group and name. Raises: PluginError."""
    given: frozenset[str] = frozenset()
    """Fields of slurm backends that settings provide, and the file may leave out."""
    compat: Compat = "ours"
    """Whose rules apply: `--compat`."""
    may_lack_artifacts: bool = False
    """Warn of missing artifacts instead of refusing them: nothing is started, or the caller has asked for it."""
    skips_artifact_check: bool = False
    """No path of an artifact is looked for, on nodes neither."""
    include_nodes: tuple[str, ...] = ()
    """Hosts that every backend is limited to, beside its own."""
    exclude_nodes: tuple[str, ...] = ()
    """Hosts that no backend uses, beside its own."""
    ignored_backends: frozenset[str] = frozenset()
    """Backends whose tasks are left out."""
    shows_unsupported: bool = False
    """Show tasks on backends that are not run here, instead of refusing them."""
    monitors_workflow: bool = False
    """`--enable-workflow-monitor`: the workflow gets a default monitor, unless it has one."""
    monitored_tasks: tuple[str, ...] = ()
    """`--enable-task-monitor`: these tasks get one."""
    policies: Policies | None = None
    """What the setting `validation` says about findings."""
    gpu_memory_here: Callable[[], int] = _no_gpus
    """Returns the bytes of memory of this machine's smallest GPU, 0 without GPUs; asked for tasks with `count: auto`."""
    package_of: "Callable[[str], Package]" = _no_package
    """Describes a Python package, by its absolute path. Raises: PackageError."""
    python_path: str = ""
    """`PYTHONPATH` of the caller."""
    scratch: str = "/tmp"
    """The setting `scratch`."""
    allow_placeholder_nodes: bool = False
    """Plan Slurm backends without an allocation, to show a plan."""
