"""The state of a run folded from the transitions of its tasks.

A controller, a viewer's socket and the files of a finished run all produce the same view, so tables, causes
and `summary.json` are made from it alone. Holds no text and decides nothing.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct, field

from protocol.messages.handover import CheckpointBase, CheckpointChoice
from protocol.messages.telemetry import RankUse
from protocol.messages.uploads import UploadOutcome
from sflow_ctl.core.commands import AnswerRequest, RecordCheckpoint
from sflow_ctl.core.requests import Pause, Unpause
from sflow_ctl.core.states import LIVE, TERMINAL, Reason, TaskState, Transition, is_again
from sflow_ctl.plan.model import Plan

FAILURES = frozenset({TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST})
"""Ends that are failures: they need a reason, and they count as failed."""
MOST_CHOICES = 20
"""Attempts of a task of which a view knows what they continue from."""


class TaskProgress(Struct, frozen=True, omit_defaults=True):
    """How far a running task is."""

    current: float
    """What it has done, or the fraction of all if there is no total."""
    total: float | None = None
    """What there is to do; null if `current` is a fraction from 0 to 1, or nothing is known."""
    message: str = ""
    """Its own words."""

    @property
    def text(self) -> str:
        """Return `12 of 100 (12 %): message`."""
        if self.total is not None:
            share = f" ({100 * self.current / self.total:.0f} %)" if self.total > 0 else ""
            said = f"{self.current:g} of {self.total:g}{share}"
        elif 0 <= self.current <= 1:
            said = f"{100 * self.current:.0f} %"
        else:
            said = f"{self.current:g}"
        return f"{said}: {self.message}" if self.message else said


class TaskRecord(Struct, omit_defaults=True):
    """The current state of one task, folded from its transitions."""

    name: str
    state: TaskState = TaskState.WAITING
    attempts: int = 0
    node: int | None = None
    gpus: tuple[int, ...] = ()
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    runtime_s: float | None = None
    """Run time of the last attempt that has ended."""
    use: RankUse | None = None
    """What that attempt has used."""
    reason: Reason | None = None
    started_wall_ns: int | None = None
    """When the current attempt began to run."""
    ordered_wall_ns: int | None = None
    """When it was ordered: nothing that it wrote is older."""
    waits_for: str = ""
    """The readiness conditions that a running service has not met yet, as last reported by its agent."""
    progress: TaskProgress | None = None
    """How far it is, by its own words; noted by who shows it."""
    uploads: str = ""
    """How far the uploads of a task that has exited are; empty before and after."""
    moved_from: dict[int, int] = field(default_factory=dict)
    """The first node of each attempt that ended with the loss of a node, by its number, if another one followed."""
    uploaded: UploadOutcome | None = None
    """What became of the uploads of the last attempt that had some."""
    checkpoints: tuple[tuple[int, CheckpointChoice], ...] = ()
    """What attempts continue from, by their numbers; the last `MOST_CHOICES` of them."""
    checkpoint_base: CheckpointBase | None = None
    """What a person has said about its checkpoints."""
    incarnation: int = 0
    """The controller that recorded the last change; 0 where that is not known."""


class RunView(Struct):
    """All tasks of a run. Applying the same transition again changes nothing."""

    plan: Plan
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    paused_by: str = ""
    """Who has paused the run; empty while it is not."""

    def __post_init__(self) -> None:
        if len(self.tasks) < len(self.plan.tasks):
            for task in self.plan.tasks:
                self.tasks.setdefault(task.name, TaskRecord(task.name))

    def apply(self, transition: Transition, wall_ns: int | None = None, incarnation: int = 0) -> None:
        """Apply one change of state, made at `wall_ns` and recorded by the controller of this number."""
        record = self.tasks.setdefault(transition.task, TaskRecord(transition.task))
        record.state = transition.new
        record.waits_for = record.uploads = ""
        record.progress = None
        record.attempts, record.incarnation = transition.attempt, incarnation
        record.reason = transition.reason
        if transition.node is not None:
            record.node = transition.node
        record.gpus = transition.gpus or record.gpus
        if transition.new is TaskState.STARTING:
            record.exit_code = record.signal = record.runtime_s = record.pid = record.uploaded = None
            record.use = None
            record.started_wall_ns = record.ordered_wall_ns = wall_ns
        elif transition.new is TaskState.RUNNING:
            record.pid = transition.pid
            record.started_wall_ns = wall_ns
        is_again = transition.is_again
        if transition.new in TERMINAL or is_again:
            record.exit_code, record.signal = transition.exit_code, transition.signal
            record.runtime_s, record.use = transition.runtime_s, transition.use
        if is_again and transition.reason.after == "node_lost" and transition.node is not None:
            record.moved_from[transition.attempt] = transition.node

    def note_waiting(
        self, task: str, attempt: int, text: str, what: Literal["readiness", "uploads"] = "readiness"
    ) -> None:
        """Record what a service waits for, or how far uploads are; about an earlier attempt or state it is ignored."""
        record = self.tasks.get(task)
        if record is None or record.attempts != attempt:
            return
        if what == "uploads" and record.state in LIVE:
            record.uploads, record.waits_for = text, ""
        elif what == "readiness" and record.state is TaskState.RUNNING:
            record.waits_for = text

    def note_uploaded(self, task: str, attempt: int, outcome: UploadOutcome) -> None:
        """Record what became of a task's uploads; about an earlier attempt it is ignored."""
        record = self.tasks.get(task)
        if record is not None and record.attempts == attempt:
            record.uploaded = outcome

    def note_checkpoint(self, told: RecordCheckpoint) -> None:
        """Record what an attempt continues from; a later word on the same attempt replaces the earlier one."""
        record = self.tasks.get(told.task)
        if record is not None:
            kept = [one for one in record.checkpoints if one[0] != told.attempt]
            record.checkpoints = (*kept, (told.attempt, told.choice))[-MOST_CHOICES:]
            record.checkpoint_base = told.base

    def note_request(self, request: AnswerRequest) -> None:
        """Record what an operator's request has changed for the run as a whole."""
        if request.answer.error:
            return
        if isinstance(request.action, Pause):
            self.paused_by = request.by
        elif isinstance(request.action, Unpause):
            self.paused_by = ""

    def apply_all(self, transitions: Iterable[Transition]) -> None:
        """Apply several changes of state, in order."""
        for transition in transitions:
            self.apply(transition)

    def counts(self) -> dict[TaskState, int]:
        """Return the number of tasks in each state that any task is in."""
        result: dict[TaskState, int] = {}
        for record in self.tasks.values():
            result[record.state] = result.get(record.state, 0) + 1
        return result

    def failures(self) -> tuple[str, ...]:
        """Return the names of the tasks that failed, timed out or were lost."""
        return tuple(record.name for record in self.tasks.values() if record.state in FAILURES)

    def has_ended(self, task: str, attempt: int) -> bool:
        """Return True when this attempt of the task no longer runs."""
        record = self.tasks.get(task)
        if record is None or record.attempts != attempt:
            return record is not None and record.attempts > attempt
        return record.state in TERMINAL or is_again(record.state, record.reason)

    def lose_live_tasks(self, last_wall_ns: int) -> None:
        """Mark the running tasks as lost: the controller has died, last heard of at `last_wall_ns`, and its agents stop them."""
        for record in self.tasks.values():
            if record.state in LIVE:
                record.state, record.reason, record.waits_for, record.uploads = TaskState.LOST, None, "", ""
                if record.started_wall_ns is not None:
                    record.runtime_s = max(0.0, (last_wall_ns - record.started_wall_ns) / 1e9)

    @property
    def is_ended(self) -> bool:
        """Return whether every task has ended."""
        return all(record.state in TERMINAL for record in self.tasks.values())
