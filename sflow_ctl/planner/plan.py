"""What a plan is: the types between planner, scheduler and everything that shows a run.

All are immutable `msgspec` structs because `plan.json` is exactly this, and a viewer or a restarted
controller reads
it back. Task names here are concrete ones (`decode_3`); `base` is the name written in the file.
"""

import msgspec

from protocol.messages import Probe

PLAN_VERSION = 1


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    pass


class PlannedNode(_Part, frozen=True, kw_only=True):
    """One node of the run, by its index over all backends."""

    index: int
    backend: str
    backend_index: int
    """Its position within the backend's allocation."""
    name: str
    address: str
    gpus: int | None
    """GPUs that tasks may be given here; None when nobody declared or counted them."""


class Dependency(_Part, frozen=True, kw_only=True):
    """`task` must be completed, or, unless `needs_completion`, may just be ready."""

    task: str
    needs_completion: bool = False


class Placement(_Part, frozen=True, kw_only=True):
    """Where a task runs.

    Fixed: `nodes` are run-wide node indices and `gpus` the indices used on each of them. Flexible:
    `nodes` are the
    candidates, the scheduler picks `node_count` of them with `gpus_per_node` free GPUs each when the
    task is ready.
    """

    nodes: tuple[int, ...]
    gpus: tuple[int, ...] = ()
    is_flexible: bool = False
    node_count: int = 1
    gpus_per_node: int = 0


class Retries(_Part, frozen=True, kw_only=True):
    """After failure k (from 1) wait `interval_s * backoff ** (k - 1)`; at most `count` times."""

    count: int = 0
    interval_s: float = 0.0
    backoff: float = 1.0


class OutputPattern(_Part, frozen=True, kw_only=True):
    """A `parse` pattern applied to each line of a completed task's log."""

    pattern: str
    source: str = "stdout"


class PlannedTask(_Part, frozen=True, kw_only=True):
    """One node of the executed graph, completely decided except for the GPUs of a flexible placement."""

    name: str
    base: str
    replica_index: int = 0
    is_replicated: bool = False
    sweep: tuple[tuple[str, str], ...] = ()
    """Swept variables and this replica's values, as text."""
    backend: str
    operator: str
    operator_kind: str
    argv: tuple[str, ...]
    script: str
    env: dict[str, str]
    """All of the environment table except what is known per attempt, run directory, or flexible placement."""
    cwd: str | None = None
    depends_on: tuple[Dependency, ...] = ()
    placement: Placement
    retries: Retries = Retries()
    timeout_s: float | None = None
    deadline_s: float | None = None
    """Seconds from an attempt's start within which it must be ready."""
    probes: tuple[Probe, ...] = ()
    outputs: tuple[OutputPattern, ...] = ()

    @property
    def has_readiness(self) -> bool:
        """True for a service: it counts as available once ready, and is stopped when the run ends."""
        return any(probe.kind == "readiness" for probe in self.probes)


class Plan(_Part, frozen=True, kw_only=True):
    """Everything that is decided before the first process starts. Tasks are in file and replica order."""

    version: int = PLAN_VERSION
    workflow: str
    nodes: tuple[PlannedNode, ...]
    tasks: tuple[PlannedTask, ...]
    timeout_s: float | None = None
    max_running: int | None = None
    """Attempts that may run at once over all nodes; None is no limit."""
    variables: dict[str, object] = {}
    artifacts: dict[str, str] = {}
    """Name to path."""
    files: tuple[tuple[str, str], ...] = ()
    """Inline artifacts to write before the first task: (path, content); relative paths are in the run
    directory.
    """
    warnings: tuple[str, ...] = ()
