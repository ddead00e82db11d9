"""What the command line says about a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line says about a run. Directories are absolute, durations seconds."""

    files: tuple[Path, ...]
    are_files_given: bool = True
    """False for the default, `sflow.yaml` in this directory."""
    overrides: tuple[str, ...]
    artifacts: tuple[str, ...]
    missable: tuple[str, ...]
    workspace_dir: Path
    said: Mapping[str, Any] = field(default_factory=dict)
    """Settings (`spec/schema.py`) by name: they win over those of files."""
    nodes: int | None
    gpus_per_node: int | None
    max_running: int | None = None
    run_id: str | None = None
    resume: Path | None = None
    """The directory of a run that is to go on."""
    simulate_gpus: bool = False
    """Local agents only count their GPUs, although this machine has some."""
    require_idle_gpus: bool = False
    min_nodes: int | None = None
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
