"""The states of a task, the transitions between them, and their reasons."""

from enum import StrEnum

import msgspec


class TaskState(StrEnum):
    """The state of a concrete task. Why it is stopping is a field of the task, not a state."""

    WAITING = "waiting"
    """Dependencies, or the delay before a retry."""
    QUEUED = "queued"
    """May start; waits for its node's agent, for GPUs, or for a free place."""
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lost"
    SKIPPED = "skipped"


S = TaskState
TERMINAL = frozenset({S.COMPLETED, S.FAILED, S.TIMEOUT, S.CANCELLED, S.LOST, S.SKIPPED})
LIVE = frozenset({S.STARTING, S.RUNNING, S.READY, S.STOPPING})
"""States with a process, or with a possible one."""

_ENDS = TERMINAL - {S.SKIPPED}
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    S.WAITING: frozenset({S.QUEUED, S.CANCELLED, S.SKIPPED, S.LOST, S.COMPLETED}),
    S.QUEUED: frozenset({S.STARTING, S.WAITING, S.CANCELLED, S.LOST, S.FAILED, S.SKIPPED, S.COMPLETED}),
    S.STARTING: frozenset({S.RUNNING, S.STOPPING, S.WAITING}) | _ENDS,
    S.RUNNING: frozenset({S.READY, S.STOPPING, S.WAITING}) | _ENDS,
    S.READY: frozenset({S.STOPPING, S.WAITING}) | _ENDS,
    S.STOPPING: frozenset({S.WAITING}) | _ENDS,
    **{state: frozenset() for state in TERMINAL},
}
"""Every legal change of state.

Back to WAITING is a retry; WAITING or QUEUED to COMPLETED is a task that an earlier controller of a resumed
run has completed.
"""

AGAIN = frozenset({"retry", "restart"})
"""Reasons of a task that waits: an attempt has ended, and another one follows."""


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something happened: one word for machines, one sentence for people."""

    word: str
    """An end has one of `protocol.diagnosis.reasons`, or of a signature of the workflow's own; other changes have their own."""
    text: str = ""
    after: str = ""
    """Of a retry: the word of the end before it."""
    hint: str = ""
    """The remedy."""
    rank: int | None = None
    """The rank that it is about, of several."""
    line: str = ""
    """The line of that rank's log that shows it."""
    line_number: int | None = None
    offset: int | None = None
    """The position of the line's first byte in the log."""


class Transition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of one task's state: read by the log, the journal, viewers and tests."""

    task: str
    attempt: int
    old: TaskState
    new: TaskState
    reason: Reason
    node: int | None = None
    gpus: tuple[int, ...] = ()
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    runtime_s: float | None = None
    """Seconds from the start to the end of the attempt; only with an end."""

    @property
    def is_again(self) -> bool:
        """An attempt has ended, and another one follows."""
        return is_again(self.new, self.reason)


def is_again(state: TaskState, reason: Reason | None) -> bool:
    """True for a task that waits for its next attempt."""
    return state is TaskState.WAITING and reason is not None and reason.word in AGAIN


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    INFRASTRUCTURE = "infrastructure"


class FirstCause(msgspec.Struct, frozen=True, kw_only=True):
    """The cause of a run that did not complete: the first failure, not its consequences."""

    text: str
    task: str | None = None
    attempt: int | None = None
    node: int | None = None
    reason: Reason | None = None
