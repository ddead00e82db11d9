"""The events of the scheduler. Their journal, with the times, replays to the same state."""

from typing import Any

import msgspec

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import FromAgent, Hello


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all events."""


class AgentJoined(Event, frozen=True, kw_only=True, tag="agent_joined"):
    """An authenticated agent said hello: for the first time, again, or after a restart."""

    hello: Hello
    clock_ahead_ns: int = 0
    """How far the controller's clock is ahead of the node's; includes the time the hello took."""


class MessageReceived(Event, frozen=True, kw_only=True, tag="message_received"):
    """A fact from the agent of `node`, delivered once and in order."""

    node: int
    message: FromAgent


class AgentLost(Event, frozen=True, kw_only=True, tag="agent_lost"):
    """The agent was silent beyond the limit, its process is gone, or it never reported."""

    node: int
    reason: str


class StopRequested(Event, frozen=True, kw_only=True, tag="stop_requested"):
    """The run must stop. `force` skips grace and order."""

    signal: str
    """"SIGINT", "SIGTERM", or another source of the request."""
    force: bool = False


class JobEnding(Event, frozen=True, kw_only=True, tag="job_ending"):
    """Agents got SIGTERM from Slurm, which kills what is left of the job `within_s` seconds later."""

    within_s: float


class LogArrived(Event, frozen=True, kw_only=True, tag="log_arrived"):
    """The log of an exited rank is complete here, as `AwaitLog` asked."""

    rank: RankId


class OutputsCollected(Event, frozen=True, kw_only=True, tag="outputs_collected"):
    """The values of a task's outputs, as `CollectOutputs` asked."""

    task: str
    attempt: int
    values: dict[str, Any]

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt that wrote them."""
        return AttemptId(self.task, self.attempt)


class WakeUp(Event, frozen=True, kw_only=True, tag="wake_up"):
    """The time that `next_wakeup` named has come."""


SchedulerEvent = (
    AgentJoined
    | MessageReceived
    | AgentLost
    | StopRequested
    | JobEnding
    | LogArrived
    | OutputsCollected
    | WakeUp
)
