"""The types of a plan, shared by planner, scheduler and reports.

All are immutable `msgspec` structs because `plan.json` is exactly this, and a viewer or a restarted controller reads it
back. Task names here are concrete ones (`decode_3`); `base` is the name written in the file.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from protocol.diagnosis.signatures import Signature
from protocol.errors import Finding
from protocol.messages import rank_spec
from protocol.messages.checks import Probe
from protocol.messages.handover import CheckpointRules, OutputRule
from protocol.messages.rank_spec import Container, HangPolicy, LaunchKind, PortBlock, Stopping, Success
from protocol.messages.uploads import FileUpload, StorageTarget
from protocol.text.process_labels import Labels, has_label_option
from sflow_ctl.plan.fetches import Fetch, Package
from sflow_ctl.plan.log_paths import own_variables
from sflow_ctl.plan.monitors import PlannedMonitor, TaskWindows
from sflow_ctl.plan.parts.again import Quorum, Restart, Retries
from sflow_ctl.plan.parts.cells import (
    BlockCall,
    Cell,
    Frame,
    PlannedBlock,
    PlannedForeach,
    PlannedItem,
    PlannedSweep,
)
from sflow_ctl.plan.parts.engine_host import EngineHost
from sflow_ctl.plan.parts.launcher import AssignedArgument, Launcher
from sflow_ctl.plan.parts.needs import HostNeeds
from sflow_ctl.plan.parts.notices import PlannedNotice
from sflow_ctl.plan.results import (
    DeferredPort,
    PlannedFile,
    PlannedInput,
    PlannedOutput,
    PlannedResult,
    PlannedWhen,
)
from sflow_ctl.plan.words import Near, OnFailure, OnNodeLost, Pack, Policies, ReleaseAfter, Shown, Until

PLAN_VERSION = 1
FinallyWhen = Literal["after_stop", "services_up"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    pass


class PlannedNode(_Part, frozen=True, kw_only=True):
    """One node of the run, by its index over all backends."""

    index: int
    backend: str
    backend_type: Literal["local", "slurm"] = "local"
    backend_index: int
    """Its position within the backend's allocation."""
    name: str
    address: str
    gpus: int | None
    """GPUs that tasks may be given here; None when they are neither declared nor counted."""
    het_group: int | None = None
    """The component of a heterogeneous Slurm job that it belongs to; None in a plain one."""
    job_id: str | None = None
    """The Slurm job that it belongs to; None away from Slurm, and while there is no job."""
    is_spare: bool = False
    """Held back until another node of its backend is lost."""
    engine_host: EngineHost | None = None
    """Where its containers run, if that is another machine than its agent's."""
    wait_for_gpus: int | None = None
    """For how many seconds a run waits for other processes to leave its GPUs, 0 for ever; None does not wait."""
    is_reachable: bool = True
    """Other tasks reach its tasks at its address. Containers on this machine have networks of their own."""


class Dependency(_Part, frozen=True, kw_only=True):
    """`task` must have come as far as `until`; with `is_group`, every replica of the base task `task`.

    A group is one entry however many replicas it has: a thousand tasks after a thousand others need no
    million edges.
    """

    task: str
    until: Until = "available"
    is_group: bool = False
    pair: str = (
        ""  # of a copy for an item: the base of `task`, which is the copy for the item at the same position
    )


class Placement(_Part, frozen=True, kw_only=True):
    """Where a task runs.

    Fixed: `nodes` are run-wide node indices and `gpus` the indices used on each of them. Flexible: `nodes` are the
    candidates, the scheduler picks `node_count` of them with `gpus_per_node` free GPUs each when the task is ready.
    """

    nodes: tuple[int, ...]
    gpus: tuple[int, ...] = ()
    is_flexible: bool = False
    node_count: int = 1
    gpus_per_node: int = 0
    pack: Pack = "none"
    """Of a flexible one: take GPUs that have this in common, if any are free."""
    near: Near = "none"
    """Of a flexible one: take GPUs that have a network card near, if any are free."""
    gpu_bytes: int = 0
    """Memory that each of its GPUs must have; 0 where the file does not say."""
    is_shared: bool = False
    """Uses GPUs without taking them: other tasks may use them at the same time, on purpose."""


class DeferredExpression(_Part, frozen=True, kw_only=True):
    """An expression that is evaluated when its task starts: it uses ports, or outputs of earlier tasks.

    `placeholder` stands for it in argv, script, environment and probes.
    """

    placeholder: str
    names: dict[str, object]
    """The values that it uses beside `task` and the task's own ports."""
    uses_ports: tuple[str, ...] = ()
    """Other tasks whose ports it uses: concrete names, or a replicated base name for all of its replicas."""


class PlannedTask(_Part, frozen=True, kw_only=True):
    """One node of the executed graph, completely decided except for the GPUs of a flexible placement."""

    name: str
    base: str
    replica_index: int = 0
    is_replicated: bool = False
    key: str = ""
    """The user's own name for it; empty without one."""
    sweep: tuple[tuple[str, str], ...] = ()
    """Swept variables and this replica's values, as text; of a cell also fields of tasks, by path."""
    cell: Cell | None = None
    foreach: PlannedForeach | None = None
    """How it is run for the items of a list, of which `item` is that of this copy."""
    item: PlannedItem | None = None
    block: BlockCall | None = None
    """The block that runs in its place."""
    frame: Frame | None = None
    """The use of a block that it belongs to."""
    backend: str
    operator: str
    operator_kind: str
    argv: tuple[str, ...]
    launch_kind: LaunchKind = "process"
    chooses_step_nodes: bool = False
    """Its operator says on which nodes of the job its step runs: they need not be those of its placement."""
    assigned_arguments: tuple[AssignedArgument, ...] = ()
    """Arguments of `argv` that are filled in when a flexible placement becomes a fixed one."""
    script: str
    env: dict[str, str]
    """The environment without variables that are known per attempt or flexible placement, `own_variables`, and those of a cell
    and of an item."""
    cwd: str | None = None
    container: Container | None = None
    """The container in which `argv` runs; None is the node itself."""
    bootstrap: rank_spec.Bootstrap | None = None
    """The environment that is set up before `argv`."""
    depends_on: tuple[Dependency, ...] = ()
    placement: Placement
    elsewhere: Placement | None = None
    """Where it may run once a node of its fixed placement is lost; `node_count` 0 is all nodes that are left."""
    pinned: str = ""  # why it may not, as the end of a sentence
    lends_gpus: bool = False  # once it is ready, other tasks may use its GPUs beside it
    keeps_gpus: bool = False  # until the run ends
    claims_nodes_until: ReleaseAfter | None = None
    """Until when it keeps its nodes from tasks that heed claims."""
    heeds_claims: bool = False
    has_step_variables: bool = False
    """Its ranks get the variables of their position as srun sets them; a real step gets them from Slurm."""
    ranks_per_node: tuple[int, ...] = (1,)
    """The number of processes on each of its nodes, in order; nodes after these have none."""
    launcher: Launcher | None = None
    kill_on_bad_exit: bool = False
    """The failure of one rank ends the others."""
    wait_s: float | None = None
    """How long the other ranks may run once one has ended; None for no limit."""
    retries: Retries = Retries()
    restart: Restart | None = None
    kind: Literal["task", "service"] | None = None
    """None means a service if the task can become ready, else a task."""
    is_main: bool = False
    """The run ends when all tasks that are main have ended."""
    on_failure: OnFailure = "cancel"
    on_node_lost: OnNodeLost | None = None
    """None leaves it to `retries` and `restart`."""
    stopping: Stopping = Stopping()
    hang: HangPolicy | None = None
    progress: str = ""  # regular expression for lines of its log that say how far it is
    success_exit_codes: tuple[int, ...] = (0,)
    is_log_direct: bool = False
    """Its processes write to their log files directly."""
    console: Shown = "all"
    """What of its output the console shows."""
    needs: HostNeeds | None = None
    """What it needs of its nodes beside GPUs."""
    finally_when: FinallyWhen | None = None
    """Not a part of the graph: the task runs when the run ends, however it ends."""
    min_ready: int | None = None
    """How many of all replicas of `base` must be ready for their dependants to start."""
    quorum: Quorum | None = None
    """How many of all copies of `base` must complete; None for all."""
    timeout_s: float | None = None
    deadlines_s: tuple[float | None, ...] = ()
    """Seconds from an attempt's start within which each of its readiness probes must have been true; None for no limit."""
    probes: tuple[Probe, ...] = ()
    checkpoint: CheckpointRules | None = None
    """How the checkpoint is found that its attempts continue from."""
    outputs: tuple[PlannedOutput, ...] = ()
    found: tuple[OutputRule, ...] = ()
    """Outputs that its agent finds when it has completed."""
    inputs: tuple[PlannedInput, ...] = ()
    """What it is given when it starts."""
    when: PlannedWhen | None = None
    """It is skipped unless this holds once its dependencies do; None runs it in any case."""
    result: PlannedResult | None = None
    """Values for `result.json`; they join the outputs."""
    success: Success | None = None
    """Conditions besides an exit status of 0."""
    reads: tuple[str, ...] = ()
    """Absolute paths of files whose content is a part of its work: those of its inputs, and the file of its function."""
    deferred: tuple[DeferredExpression, ...] = ()
    """Evaluated when the task starts."""
    deferred_tcp_ports: tuple[DeferredPort, ...] = ()
    """Ports of `TcpCheck`s, which are 0 until the task starts."""
    files: tuple[PlannedFile, ...] = ()
    where: str = ""  # "file:line:column  path" of a task with deferred expressions or files, for messages
    ports: tuple[PortBlock, ...] = ()
    """Leased on each of its nodes."""
    has_master_port: bool = False
    """Whether its first node leases one more port, for the rendezvous of its processes."""
    required_paths: tuple[tuple[str, str], ...] = ()
    """(artifact, path) pairs that only the nodes can check."""
    uploads: tuple[FileUpload, ...] = ()
    """Uploaded once it has ended with success, before it counts as completed."""
    labels: tuple[tuple[str, str], ...] = ()
    """Words about it, by name."""
    removed_in: int = 0
    """The revision of the plan that has removed it, with what it needed; 0 for a task that is wanted."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of `env`, those of its cell, its own, and those of its item."""
        directory = self.env.get("SFLOW_WORKFLOW_OUTPUT_DIR")
        if directory is None:
            return dict(self.env)
        own = own_variables(self.name, self.replica_index, directory)
        if self.item is not None or self.frame is not None:
            from sflow_ctl.plan.parts.items import item_variables  # few tasks have one

            own |= item_variables(self.item, self.replica_index, self.frame, self.foreach)
        return {**self.env, **(self.cell.environment(self.sweep) if self.cell is not None else {}), **own}

    @property
    def uses_ports(self) -> tuple[str, ...]:
        """Return the other tasks whose ports must be known when it starts."""
        if not self.deferred and not self.files:
            return ()  # nearly all tasks
        used = [name for deferred in self.deferred for name in deferred.uses_ports]
        return tuple(dict.fromkeys([*used, *(name for file in self.files for name in file.uses_ports)]))

    @property
    def is_grown(self) -> bool:
        """Return whether it stood for copies that are there now: they are the task's members, and it is none."""
        return bool(self.foreach and self.foreach.late and self.foreach.late.size)

    @property
    def has_values(self) -> bool:
        """Return whether values are read from its log or files when it has completed."""
        if self.block or (self.foreach and self.foreach.late):
            return False  # others have in its place
        return bool(self.outputs) or self.result is not None or bool(self.found)

    @property
    def world_size(self) -> int:
        """Return the number of ranks of one attempt."""
        return sum(self.ranks_per_node)

    @property
    def node_count(self) -> int:
        """Nodes that it has or uses: those with GPUs of its own, or with processes."""
        placement = self.placement
        given = placement.node_count if placement.is_flexible else len(placement.nodes)
        has_gpus = bool(placement.gpus or placement.gpus_per_node)
        return given if has_gpus or self.launch_kind == "step" else min(given, len(self.ranks_per_node))

    @property
    def log_labels(self) -> Labels:
        """Return who puts process numbers before the lines of its log: of the merged one, if it has several ranks."""
        if self.launch_kind == "step":
            return "srun" if has_label_option(self.argv) else "none"
        return "merged" if self.world_size > 1 else "none"

    @property
    def has_readiness(self) -> bool:
        """Return whether a probe decides that it is ready."""
        return bool(self.probes) and any(probe.kind == "readiness" for probe in self.probes)

    @property
    def deadline_s(self) -> float | None:
        """Return the seconds within which an attempt must be ready: the longest of its probes; None without limit."""
        limits = [limit for limit in self.deadlines_s if limit is not None]
        return max(limits) if limits and len(limits) == len(self.deadlines_s) else None

    @property
    def is_service(self) -> bool:
        """Return whether it serves other tasks: it is stopped when all other tasks are done."""
        return self.kind == "service" if self.kind is not None else bool(self.probes) and self.has_readiness


class Plan(_Part, frozen=True, kw_only=True):
    """Everything that is decided before the first process starts. Tasks are in file and replica order."""

    version: int = PLAN_VERSION
    revision: int = 1
    """Counts the plans that a run has had: each `apply` and `scale` makes another one."""
    whole: int = 1  # the last revision that was another plan: those since have only added tasks
    source: str = ""  # the name of the file that a revision was made from; empty for the first plan
    workflow: str
    nodes: tuple[PlannedNode, ...]
    tasks: Sequence[PlannedTask]
    timeout_s: float | None = None
    stop_timeout_s: float | None = None
    """The limit for ending the run, from the moment when its end begins; None for as long as its tasks take."""
    stop_before_end_s: float | None = None
    """The time that tasks have to save before their Slurm job's time is over; None: as settings say."""
    sweeps: tuple[PlannedSweep, ...] = ()
    blocks: dict[str, PlannedBlock] = {}
    block_tasks: dict[str, tuple[PlannedTask, ...]] = {}
    """With a mark in their names in place of that of a use."""
    keep_alive: bool = False  # services alone keep the run alive
    services_may_leave: bool = False
    """A ready service that ends with success is done, even if others still need it: the rule of sflow 0.2."""
    late_is_final: bool = False
    """A task that misses a deadline for readiness is not started again, whatever its retries: the rule of sflow 0.3.1."""
    success: Success | None = None
    """Conditions on a run that completed. Paths are absolute, patterns are for all logs."""
    signatures: tuple[Signature, ...] = ()
    max_running: int | None = None
    """Attempts that may run at once over all nodes; None for no limit."""
    variables: dict[str, object] = {}
    secrets: tuple[str, ...] = ()
    """Names of variables, of the file or of the caller's environment, whose values are masked in everything shown or recorded."""
    job_id: str | None = None
    """The Slurm job it is planned for."""
    says_progress: bool = False  # a task has an expression for its progress
    artifacts: dict[str, str] = {}
    contents: dict[str, str] = {}
    """What was in the artifacts when the run began, as `runtime/artifacts/contents.py` describes it."""
    files: tuple[tuple[str, str], ...] = ()
    """Inline artifacts to write before the first task: (path, content); relative paths are in the run directory."""
    fetches: tuple[Fetch, ...] = ()
    directories: tuple[str, ...] = ()
    """Directories of artifacts, made if they are missing."""
    storage: tuple[StorageTarget, ...] = ()
    """The targets of uploads."""
    upload_all: FileUpload | None = None
    """Where the run directory goes as one archive at the very end."""
    task_views: dict[str, object] = {}
    """The `task` namespace for deferred expressions, if there are any: a task's facts, or its replicas' names."""
    simulated_gpus: int = 0
    """GPUs of this machine that its agents only pretend to have."""
    monitors: tuple[PlannedMonitor, ...] = ()
    """What is measured of the nodes. No part of any task's work."""
    notices: tuple[PlannedNotice, ...] = ()
    outputs: tuple[PlannedInput, ...] = ()
    """What the whole run hands over, resolved when its tasks have ended."""
    packages: tuple[Package, ...] = ()
    """Python packages that are kept in the run directory."""
    windows: tuple[TaskWindows, ...] = ()
    """Named windows of tasks' logs. No part of their work either."""
    policies: Policies | None = None
    """What `settings.validation` says about findings; None says nothing."""
    warnings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    """Facts that only a shown plan says."""

    @property
    def survives_lost_nodes(self) -> bool:
        """Return whether tasks may start elsewhere when a node is lost: Slurm must not end the agents' step then."""
        return any(node.is_spare for node in self.nodes) or any(
            task.on_node_lost == "elsewhere" or (task.on_node_lost is None and task.retries.infra_count)
            for tasks in (self.tasks, *self.block_tasks.values())
            for task in tasks
        )

    def members(self) -> dict[str, Sequence[PlannedTask]]:
        """Return base names with their concrete tasks, in plan order."""
        from sflow_ctl.plan.copies.task_list import members_of  # which needs the types above

        return members_of(self.tasks)
