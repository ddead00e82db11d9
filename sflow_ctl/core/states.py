"""The states of a task, the transitions between them, and their reasons."""

from enum import StrEnum

import msgspec

from protocol.messages.telemetry import RankUse


class TaskState(StrEnum):
    """The state of a concrete task. Why it is stopping is a field of the task, not a state."""

    WAITING = "waiting"
    """Dependencies, or the delay before a retry."""
    QUEUED = "queued"
    """May start; waits for its node's agent, for GPUs, or for a free place."""
    STARTING = "starting"
    """Has its nodes, GPUs and ports; its processes are ordered."""
    RUNNING = "running"
    """All of its processes have started."""
    READY = "ready"
    """Its readiness probe has triggered, and it still runs."""
    STOPPING = "stopping"
    """Its processes are being ended."""
    COMPLETED = "completed"
    """Ended with success."""
    FAILED = "failed"
    """Ended without success, or could not start."""
    TIMEOUT = "timeout"
    """Exceeded a limit: `timeout`, `deadline` or `hang`."""
    CANCELLED = "cancelled"
    """Stopped, or never started, because the run or another task ended."""
    LOST = "lost"
    """Its node was lost."""
    SKIPPED = "skipped"
    """Never started: a dependency can no longer be met."""


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
    **{state: frozenset({S.WAITING}) for state in TERMINAL},
}
"""Every legal change of state.

Back to WAITING is a retry, or, from an end, a restart on request of an operator; WAITING or QUEUED to COMPLETED is a
task that an earlier controller of a resumed run has completed.
"""

AGAIN = frozenset({"retry", "restart"})
"""Reasons of a task that waits: an attempt has ended, and another one follows."""


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something happened: one word for machines, one sentence for people."""

    word: str
    """An end has one of `protocol.diagnosis.reasons`, or of a signature of the workflow's own; other changes have their own."""
    text: str = ""
    """The sentence."""
    after: str = ""
    """Of a retry: the word of the end before it."""
    hint: str = ""
    """The remedy."""
    rank: int | None = None
    """The rank that it is about, of several."""
    line: str = ""
    """The line of that rank's log that shows it."""
    line_number: int | None = None
    """The line's number in the log, from 1; null if it was not counted."""
    offset: int | None = None
    """The position of the line's first byte in the log."""


PLACED, NONE_MISSING, STARTED = Reason("placed"), Reason("dependencies"), Reason("started")
"""Of the changes that each of 100,000 tasks goes through: they share them."""


class Transition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of one task's state: read by the log, the journal, viewers and tests."""

    task: str
    """The concrete task."""
    attempt: int
    """The number of the attempt, from 1; 0 before the first."""
    old: TaskState
    """The state before."""
    new: TaskState
    """The state from now on."""
    reason: Reason
    """Why the state changed."""
    node: int | None = None
    """The index of the first rank's node."""
    gpus: tuple[int, ...] = ()
    """Indices of the task's GPUs on each of its nodes."""
    pid: int | None = None
    """The pid of the first rank, when it starts to run."""
    exit_code: int | None = None
    """The exit status, with an end that has one."""
    signal: int | None = None
    """The number of the signal that ended the process, with an end by a signal."""
    runtime_s: float | None = None
    """Seconds from the start to the end of the attempt; only with an end."""
    use: RankUse | None = None
    """What the attempt has used, with an end; null where nothing was measured."""

    @property
    def is_again(self) -> bool:
        """An attempt has ended, and another one follows."""
        return self.new is TaskState.WAITING and self.reason.word in AGAIN


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
    """The sentence."""
    task: str | None = None
    """The task that failed first; null for a cause without a task."""
    attempt: int | None = None
    """The number of its attempt."""
    node: int | None = None
    """The index of the node on which it failed."""
    reason: Reason | None = None
    """The reason of its end."""
