"""One attempt of a task: the state of its ranks, and its verdict. A new record for each attempt.

The scheduler's functions change these records; what follows from a verdict is decided in `stopping`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from msgspec import Struct, field

from protocol.messages.checks import Probe
from protocol.messages.facts import LaunchFailed, RankExited
from protocol.messages.handover import CheckpointChoice, ExpectedInput
from protocol.messages.rank_spec import TaskFile
from protocol.messages.telemetry import RankUse
from protocol.messages.uploads import UploadOutcome
from sflow_ctl.core.model.ranks import node_positions
from sflow_ctl.core.model.readiness import Readiness
from sflow_ctl.core.states import Reason, TaskState
from sflow_ctl.plan.deferred import RenderedTexts, filled_in
from sflow_ctl.plan.model import Placement, PlannedTask


class AttemptVerdict(Struct, omit_defaults=True):
    """The judgement of an attempt, which applies once its process tree is gone."""

    state: TaskState
    reason: Reason
    may_retry: bool = False
    is_final: bool = False
    """No other attempt follows, whatever retries and restarts the task has."""
    is_repeated: bool = False
    """Another attempt follows regardless of the task's retries: the attempt was not at fault."""
    is_of_rank: bool = False
    """One of several ranks failed, and the others are stopped because of it."""


class HeldExit(Struct):
    """A rank's exit that does not count yet."""

    message: RankExited
    awaits: Literal["log", "files", "outputs", "uploads", "server"]
    """`files` are outputs that the agent of its first node looks for."""
    since: float = 0.0
    """When it was reported."""


class Attempt(Struct, omit_defaults=True):
    """The state of one attempt. Number 0 means a task that has not started."""

    number: int = 0
    placement: Placement | None = None
    """What it occupies; kept until its process tree is gone, or while its place is reserved for the next attempt."""
    place: Placement | None = None
    """Where it runs or ran; never cleared."""
    node: int | None = None
    """The node where its first rank runs or ran."""
    gpus: tuple[int, ...] = ()
    node_of_rank: list[int] = field(default_factory=list)
    node_of_part: dict[int, int] = field(default_factory=dict)
    """Of a job step: what its `srun` may have started on further nodes. The numbers follow those of the ranks."""
    open_ranks: set[int] = field(default_factory=set)
    """Ranks whose exit has not counted yet."""
    unstarted: set[int] = field(default_factory=set)
    """Ranks whose process has not been reported as started."""
    uncleared: set[int] = field(default_factory=set)
    """Ranks whose process tree may still exist, and such parts of a job step."""
    fenced: set[int] = field(default_factory=set)
    """Those of them on lost nodes: they end by themselves, unseen."""
    has_parts_ended: bool = False
    """The agents of the parts' nodes have been ordered to end them."""
    held: dict[int, HeldExit] = field(default_factory=dict)
    """Exits of open ranks that wait for the log or the outputs."""
    started_at: float | None = None
    is_unsent: bool = False
    """The attempt has begun, and no agent has an order for it: it waits for ports, or for the search for its checkpoint."""
    seeking_on: int | None = None
    """The node whose agent looks for the checkpoint that it continues from: its own, or one where an earlier attempt saved."""
    seek_next: tuple[int, ...] = ()
    """The nodes that are asked next if there is none."""
    begins_anew: bool = False
    """That is not one of its task, but what the file names."""
    checking: set[int] = field(default_factory=set)
    """Nodes whose agents check what it is given."""
    expected: tuple[ExpectedInput, ...] = ()
    """What they check of its inputs."""
    carried: tuple[ExpectedInput, ...] = ()
    """The files of its checkpoint, if they were found on another node."""
    finding_on: int | None = None
    """The node whose agent looks for its outputs."""
    written_by: int | None = None
    """Of one without processes: the attempt whose outputs are looked for."""
    output_problem: Reason | None = None
    """Why it has failed after all: an output that it must have is missing, or is not what it should be."""
    items_done: int = 0
    """Of one for several items that has failed: how many of them have all outputs."""
    checkpoint: CheckpointChoice | None = None
    """What it continues from; None for one that does not look for anything."""
    was_ready: bool = False
    has_listened: bool = False
    """A process of it was seen to listen on a TCP port."""
    is_down: bool = False
    """It was ready, and has failed or is being stopped."""
    readiness: Readiness = field(default_factory=Readiness)
    early_readiness: str | None = None
    """The detail of a readiness probe that triggered before all ranks were reported as started."""
    verdict: AttemptVerdict | None = None
    is_stop_sent: bool = False
    is_killed: bool = False
    """An operator has asked to end it without its grace."""
    exit_code: int | None = None
    signal: int | None = None
    use: RankUse | None = None
    """What its ranks that have exited used, until the end is recorded."""
    launch_error: LaunchFailed | None = None
    failed_first: RankExited | None = None
    """Of the ranks that failed by themselves, the exit of the first."""
    failure_heard_at: float | None = None
    """When a failure was reported that did not count at once."""
    failed_rank: int | None = None
    """Of several ranks, the one whose exit or failed start decides."""
    failed_at_ns: int | None = None
    """When the first rank failed, by the controller's clock."""
    started_at_ns: dict[int, int] = field(default_factory=dict)
    """Per rank, when its process started, by the controller's clock."""
    pid: int | None = None
    """The pid of the first rank."""
    ports: Mapping[int, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    """Ports by node."""
    filled: PlannedTask | None = None
    """The plan with its deferred values filled in."""
    files: tuple[TaskFile, ...] = ()
    probes_on: dict[int, tuple[Probe, ...]] = field(default_factory=dict)
    """By node, where they differ from those of the plan."""
    port_conflicts: dict[int, str] = field(default_factory=dict)
    """By node: which of its ports another process has, and which process."""
    idle: dict[str, set[int]] = field(default_factory=dict)
    """Per kind of activity, the ranks that show none."""
    uploading: set[int] = field(default_factory=set)
    """Nodes whose agents upload files of the attempt."""
    upload_outcomes: list[UploadOutcome] = field(default_factory=list)
    """Those of the nodes that have answered."""
    upload_failure: str = ""
    """The first problem with an upload that must succeed."""

    @classmethod
    def on(
        cls,
        placement: Placement,
        number: int,
        ranks_per_node: Sequence[int],
        now: float,
        step_nodes: Sequence[int] = (),
    ) -> "Attempt":
        """Return the record of an attempt that begins now on `placement`; `step_nodes` are those that its job step may use."""
        node_of_rank = [placement.nodes[position] for position in node_positions(ranks_per_node)]
        ranks = set(range(len(node_of_rank)))
        further = [node for node in step_nodes if node not in node_of_rank]
        parts = dict(enumerate(further, len(node_of_rank)))
        return cls(
            number=number,
            placement=placement,
            place=placement,
            node=placement.nodes[0],
            gpus=placement.gpus,
            node_of_rank=node_of_rank,
            node_of_part=parts,
            open_ranks=ranks,
            unstarted=ranks.copy(),
            uncleared=ranks | parts.keys(),
            started_at=now,
            is_unsent=True,
        )

    @classmethod
    def of_uploads(cls, placement: Placement, number: int) -> "Attempt":
        """Return the record of an attempt on one node that only uploads what an earlier one has written."""
        node = placement.nodes[0]
        return cls(
            number=number,
            placement=placement,
            place=placement,
            node=node,
            node_of_rank=[node],
            open_ranks={0},
        )

    def fill_in(self, plan: PlannedTask, texts: RenderedTexts) -> None:
        """Put the deferred values in their places; the processes may be ordered then. Raises: ExpressionError."""
        self.filled, self.files, self.probes_on, self.expected = filled_in(plan, texts)
        self.is_unsent = False

    def withdraw(self) -> None:
        """End the attempt before any agent has an order for it."""
        self.is_unsent, self.seeking_on, self.seek_next = False, None, ()
        self.checking.clear()
        self.open_ranks.clear()
        self.unstarted.clear()
        self.uncleared.clear()

    def rank_never_ran(self, rank: int) -> None:
        """Take in that a rank's process was never made; a job step without its `srun` has no parts either."""
        self.open_ranks.discard(rank)
        self.uncleared.discard(rank)
        self.uncleared -= self.node_of_part.keys()

    def note_port_conflict(self, rank: int, text: str) -> None:
        """Record which process has a port of this attempt on the rank's node; an empty text means none."""
        if text:
            self.port_conflicts.setdefault(self.node_of_rank[rank], text)

    @property
    def is_seeking(self) -> bool:
        """Return whether the checkpoint that it continues from is being looked for."""
        return self.seeking_on is not None

    @property
    def given_files(self) -> tuple[ExpectedInput, ...]:
        """Return what its nodes must have as it was recorded."""
        return (*self.carried, *self.expected)

    @property
    def node_of_cause(self) -> int | None:
        """Return the node of the rank that failed, else of the first rank."""
        if self.failed_rank is None or self.failed_rank >= len(self.node_of_rank):
            return self.node
        return self.node_of_rank[self.failed_rank]

    @property
    def has_hung(self) -> bool:
        """Return whether the attempt is stopped because it hangs."""
        return self.verdict is not None and self.verdict.reason.word == "hang"

    @property
    def has_exited(self) -> bool:
        """Return whether every rank has exited and at least one exit does not count yet."""
        return bool(self.held) and self.open_ranks <= self.held.keys()

    def ranks_on(self, node: int) -> set[int]:
        """Return the ranks on this node, and the part of a job step."""
        ranks = {rank for rank, where in enumerate(self.node_of_rank) if where == node}
        return ranks | {part for part, where in self.node_of_part.items() if where == node}

    @property
    def nodes_left(self) -> list[int]:
        """Return the nodes where processes of the attempt may still exist, its uploads included."""
        # Of these only the log, or what else the exit waits for, is still to come.
        gone = {rank for rank, held in self.held.items() if held.message.cleared}
        ranks = ((self.open_ranks - self.held.keys()) | (self.uncleared - gone)) - self.node_of_part.keys()
        return sorted(
            {self.node_of_rank[rank] for rank in ranks} | set(self.parts_left.values()) | self.uploading
        )

    @property
    def parts_left(self) -> dict[int, int]:
        """Return the parts of a job step that may still exist, and their nodes."""
        return {part: node for part, node in self.node_of_part.items() if part in self.uncleared}

    @property
    def places(self) -> list[int]:
        """Return the node of each rank, then that of each part of a job step: by number."""
        return [*self.node_of_rank, *self.node_of_part.values()] if self.node_of_part else self.node_of_rank

    @property
    def nodes(self) -> set[int]:
        """Return all nodes that it may have processes on."""
        return set(self.places)

    def settle(self) -> None:
        """Let go of what only a live attempt needs: its containers are empty, and 100,000 attempts may have ended."""
        self.filled, self.files, self.use, self.checkpoint = None, (), None, None
        self.expected, self.finding_on, self.written_by, self.output_problem = (), None, None, None
        self.carried = ()
        self.begins_anew = False
        self.started_at_ns = {}
        if not self.readiness.missing:
            self.readiness = _NOT_WAITING
        for name, empty in _EMPTY_OF:
            if not getattr(self, name):
                setattr(self, name, empty)


class _Never(Attempt, frozen=True):  # type: ignore[misc]
    """The record of an attempt that does not exist. Assignments to it raise."""


class _NoReadiness(Readiness, frozen=True):  # type: ignore[misc]
    """What is awaited of such an attempt: nothing."""


_SETS = ("open_ranks", "unstarted", "uncleared", "fenced", "uploading", "checking")
_MAPS = ("node_of_part", "held", "port_conflicts", "idle", "probes_on", "ports", "started_at_ns")
_LISTS = ("node_of_rank", "upload_outcomes")
_NO_MAP: Mapping[Any, Any] = MappingProxyType({})
_NOT_WAITING = _NoReadiness(missing=_NO_MAP, parts=_NO_MAP)  # type: ignore[arg-type]
_EMPTY: dict[str, Any] = {
    **dict.fromkeys(_SETS, frozenset()),
    **dict.fromkeys(_MAPS, _NO_MAP),
    **dict.fromkeys(_LISTS, ()),
    "readiness": _NOT_WAITING,
}
_EMPTY_OF = tuple((name, _EMPTY[name]) for name in (*_SETS, *_MAPS, *_LISTS))
NOT_STARTED: Attempt = _Never(**_EMPTY)
"""All tasks that have not started share it."""
SETTLED = Attempt(**_EMPTY)
"""What attempts that are over have in common."""
