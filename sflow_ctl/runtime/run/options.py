"""The command line's choices for a run, grouped by what they are about.

Made by `cli`, read by everything in `runtime` that plans, starts or resumes a run. Directories are absolute,
durations are seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, field

from sflow_ctl.plan.words import Compat

if TYPE_CHECKING:
    from sflow_ctl.report.selecting.rerun import RerunChoice  # few runs are reruns


class Lineage(Struct, frozen=True, kw_only=True):
    """Where a run comes from, in `run.json`."""

    how: Literal["replay", "rerun"]
    """`replay`: the plan of another run, nothing of its results; `rerun`: a copy of another run in which tasks run again."""
    run_id: str
    """The id of that run."""
    directory: str
    """Its directory then, absolute."""
    tasks: tuple[str, ...] = ()
    """The tasks that were chosen; empty for all."""


class WorkflowOptions(Struct, frozen=True, kw_only=True):
    """The workflow's files and the changes to them."""

    files: tuple[Path, ...]
    are_files_given: bool = True
    """False for the default, `sflow.yaml` in the current directory."""
    overrides: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    missable: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """Labels of the run, each `NAME=VALUE`."""
    workspace_dir: Path
    compat: Compat = "ours"
    refuses_ignored: bool = False
    """Refuse keys that would be ignored."""
    ignored_backends: tuple[str, ...] = ()
    """Backends whose tasks a plan leaves out."""
    skip_artifact_check: bool = False
    """Start although paths of artifacts are missing, here or on nodes."""
    shows_unsupported: bool = False
    """Show tasks on backends that are not run here."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings by name (`format/schema.py`); they override those of files."""


class FleetOptions(Struct, frozen=True, kw_only=True):
    """Which nodes and GPUs a run uses, and how it treats missing ones."""

    nodes: int | None = None
    gpus_per_node: int | None = None
    simulate_gpus: bool = False
    """Local agents only count their GPUs, although this machine has some."""
    require_idle_gpus: bool = False
    wait_for_gpus: int | None = None
    """Wait so many seconds for other processes to leave this machine's GPUs, 0 for ever; None leaves it to backends."""
    min_nodes: int | None = None
    no_kill: bool = False
    job_id: str | None = None
    """A running Slurm job to use."""
    extra_args: tuple[str, ...] = ()
    """Arguments of salloc and of `docker run`, which win over those of the file."""
    extra_salloc_args: tuple[str, ...] = ()
    """Those of salloc only; they win over `extra_args`."""
    extra_docker_args: tuple[str, ...] = ()
    """Those of `docker run` only; they win over `extra_args`."""
    include_nodes: tuple[str, ...] = ()
    """Hosts that every backend is limited to, each entry one or several with commas or blanks."""
    exclude_nodes: tuple[str, ...] = ()
    """Hosts that no backend uses, in the same form."""


class TaskOptions(Struct, frozen=True, kw_only=True):
    """Which tasks run, how many at once, and whether services alone keep the run alive."""

    tasks: tuple[str, ...] = ()
    """Only these, and their dependencies unless `skip_dependencies`; all when empty."""
    skip_dependencies: bool = False
    keep_alive: bool = False
    max_running: int | None = None
    enable_workflow_monitor: bool = False
    """The workflow gets a default monitor, unless it has one."""
    enable_task_monitor: tuple[str, ...] = ()
    """These tasks get one."""
    reuse: tuple[str, ...] = ()
    """Runs whose results the new run takes over where tasks are the same work, each `RUN` or `RUN:TASKS`."""
    reuse_anyway: tuple[str, ...] = ()
    """Tasks that take over results although their work has changed."""


AUTO = "auto"


class RunOptions(Struct, frozen=True, kw_only=True):
    """All choices for one run."""

    workflow: WorkflowOptions
    fleet: FleetOptions
    tasks: TaskOptions
    run_id: str | None = None
    resume: Path | None = None
    """The directory of the run to resume."""
    rerun: "RerunChoice | None" = None
    """Of `rerun`: the tasks of the run to resume that run again."""
    derived_from: Lineage | None = None
    """The run whose plan or results the new run has."""
    force: bool = False
    """Resume even if the run may still be running."""
    quiet: bool = False
    only: tuple[str, ...] = ()
    """Print the output of these tasks alone, by name or pattern; all when empty."""
    log_level: str = "info"
    argv: tuple[str, ...] = ()

    @classmethod
    def of(cls, **given: Any) -> "RunOptions":
        """Put each option into the group that has a field of its name. Raises: TypeError for an unknown name.

        The run id `auto` stands for the name that is made when none is given.
        """
        if given.get("run_id") == AUTO:
            given["run_id"] = None
        parts = {
            name: kind(**{field: given.pop(field) for field in kind.__struct_fields__ if field in given})
            for name, kind in _GROUPS.items()
        }
        return cls(**parts, **given)


_GROUPS: dict[str, Any] = {"workflow": WorkflowOptions, "fleet": FleetOptions, "tasks": TaskOptions}
