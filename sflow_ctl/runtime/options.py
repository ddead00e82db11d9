"""What the command line says about a run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line says about a run. Directories are absolute, durations seconds."""

    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    artifacts: tuple[str, ...]
    missable: tuple[str, ...]
    workspace_dir: Path
    output_dir: Path
    nodes: int | None
    gpus_per_node: int | None
    max_running: int | None = None
    log_spool: Path | None = None
    run_id: str | None = None
    lost_after_s: float = 30.0
    orphan_grace_s: float | None = None
    """None: 10 with local agents, 60 in a Slurm job."""
    interface: str | None = None
    simulate_gpus: bool = False
    """Local agents only count their GPUs, although this machine has some."""
    require_idle_gpus: bool = False
    min_nodes: int | None = None
    join_within_s: float = 60.0
    headroom_s: float = 60.0
    no_kill: bool = False
    job_id: str | None = None
    """A running Slurm job to use."""
    extra_args: tuple[str, ...] = ()
    """For salloc, after the backend's own."""
    quiet: bool = False
    keep_alive: bool = False
    """Services alone keep the run going, whatever the file says."""
    tasks: tuple[str, ...] = ()
    """Only these, and what they need unless `skip_dependencies`; all when empty."""
    skip_dependencies: bool = False
    log_level: str = "info"
    is_strict: bool = False
    argv: tuple[str, ...] = ()
