"""What programs get about runs: frozen pydantic models, which check, convert to JSON and have a schema."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from sflow_ctl.core.states import TERMINAL, Outcome, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.report.selecting.task_query import reason_of
from sflow_ctl.report.words import node_name
from sflow_ctl.runtime.record.reader import Liveness


class Model(BaseModel):
    """Base of all of them: they do not change."""

    model_config = ConfigDict(frozen=True)


class Instance(Model):
    """A concrete task: one replica or cell of a task of the file."""

    name: str
    """The concrete task, as `train[2]` or `train`."""
    task: str
    """The task of the file."""
    state: TaskState
    """Its state, as in `status`."""
    attempts: int
    """How many attempts have begun."""
    reason: str
    """The word for why it ended, or why its last attempt did; empty if there is none."""
    text: str
    """The reason as a sentence."""
    exit_code: int | None
    """The exit status of the last attempt that ended; None for an end by a signal."""
    signal: int | None
    """The number of the signal that ended it."""
    runtime_s: float | None
    """The run time of the last attempt that ended, in seconds."""
    node: str | None
    """The node of the last attempt."""
    gpus: tuple[int, ...]
    """Indices of its GPUs on each of its nodes."""
    sweep: dict[str, str]
    """The swept values of the replica or cell, by name."""
    waits_for: str
    """The readiness conditions that a running service has not met."""

    @property
    def is_ended(self) -> bool:
        """Whether it has ended; a restart on request may still begin it anew."""
        return self.state in TERMINAL

    @classmethod
    def of(cls, record: TaskRecord, task: PlannedTask, plan: Plan) -> "Instance":
        """Return the model of a task of a run."""
        return cls(
            name=record.name,
            task=task.base,
            state=record.state,
            attempts=record.attempts,
            reason=reason_of(record),
            text=record.reason.text if record.reason is not None else "",
            exit_code=record.exit_code,
            signal=record.signal,
            runtime_s=record.runtime_s,
            node=None if record.node is None else node_name(plan, record.node),
            gpus=record.gpus,
            sweep=dict(task.sweep),
            waits_for=record.waits_for,
        )


class RunState(Model):
    """The state of a run."""

    run_id: str
    """The id of the run."""
    liveness: Liveness
    """`running`, `ended`, `dead`: its controller has ended without a result, or `unknown`: it is silent."""
    text: str
    """The controller, as a sentence."""
    outcome: Outcome | None
    """How the run ended; None while it has not."""
    exit_status: int | None
    """Of `sflow-ctl run`; None while it has not ended."""
    started: datetime
    """When it began or was last resumed."""
    ended: datetime | None
    """When it ended."""
    cause: str
    """Of a run that did not complete: its first cause, as a sentence; else empty."""
    counts: dict[TaskState, int]
    """The number of concrete tasks in each state."""

    @property
    def is_live(self) -> bool:
        """Whether its processes may exist."""
        return self.liveness in (Liveness.RUNNING, Liveness.UNKNOWN)

    @property
    def is_completed(self) -> bool:
        """Whether all of it has completed."""
        return self.outcome is Outcome.COMPLETED


class RunEvent(Model):
    """Something that has happened in a run."""

    seq: int
    """Its line of the journal, from 1."""
    time: datetime
    """When the controller recorded it."""
    type: str
    """One of the types of `sflow-ctl events --type`."""
    task: str | None
    """The concrete task that it is about."""
    text: str
    """A sentence."""


class TaskLine(Model):
    """A line that a task has printed."""

    task: str
    """The concrete task, with the rank of a process where it has several logs."""
    text: str
    """The line without its newline; bytes that are not UTF-8 are replaced."""
    time: datetime | None
    """When it came, as far as that is known: from the line itself, else the time of the line before or of the start."""


def moment(wall_ns: int) -> datetime:
    """Return a time of the journal, in ns since 1970, with its time zone, UTC."""
    return datetime.fromtimestamp(wall_ns / 1e9, UTC)


def row_of(instance: Instance, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a table: the facts of an instance, its swept values, its outputs."""
    facts = {
        "name": instance.name,
        "task": instance.task,
        "state": instance.state.value,
        "attempts": instance.attempts,
        "reason": instance.reason,
        "exit_code": instance.exit_code,
        "runtime_s": instance.runtime_s,
        "node": instance.node,
    }
    return facts | instance.sweep | dict(values)
