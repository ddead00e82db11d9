"""The events of the scheduler. Their journal, with the times, replays to the same state."""

from typing import Any, Literal

import msgspec

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import FromAgent, Hello
from sflow_ctl.core.requests import AnyAction
from sflow_ctl.core.states import Reason
from sflow_ctl.plan.deferred import RenderedTexts
from sflow_ctl.plan.parts.cells import BlockStep


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all events."""


class AgentJoined(Event, frozen=True, kw_only=True, tag="agent_joined"):
    """An authenticated agent said hello: for the first time, again, or after a restart."""

    hello: Hello
    """The hello of the protocol."""
    clock_ahead_ns: int = 0
    """How far the controller's clock is ahead of the node's; includes the time the hello took."""


class MessageReceived(Event, frozen=True, kw_only=True, tag="message_received"):
    """A fact from the agent of `node`, delivered once and in order."""

    node: int
    """The index of the node."""
    message: FromAgent
    """The fact, a message of the protocol."""


class AgentLost(Event, frozen=True, kw_only=True, tag="agent_lost"):
    """The agent was silent beyond the limit, its process is gone, or it never reported."""

    node: int
    """The index of the node."""
    reason: str
    """The cause as a sentence."""
    is_cleared: bool = False
    """No process of the run is left there: its guardian, or the job step, has ended all."""


class NodeStandsStill(Event, frozen=True, kw_only=True, tag="node_stands_still"):
    """The loop of an agent makes no progress, or does again; the agent lives, and its tasks run. Decides nothing."""

    node: int
    """The index of the node."""
    seconds: float
    """For how long it stands still, or stood."""
    doing: str = ""
    """What holds it up, for people: "stat of /mnt/x (output.py:81)"."""
    is_over: bool = False
    """It moves again."""


class NodeCleared(Event, frozen=True, kw_only=True, tag="node_cleared"):
    """No process of the run is left on a lost node: its agent has reported it, or its guardian has ended."""

    node: int
    """The index of the node."""
    survivors: tuple[str, ...] = ()
    """Processes that could not be ended, "pid name"."""


class StopRequested(Event, frozen=True, kw_only=True, tag="stop_requested"):
    """The run must stop. `force` skips grace and order."""

    signal: str
    """"SIGINT", "SIGTERM", or another source of the request."""
    force: bool = False
    """Kill at once."""


class OperatorRequest(Event, frozen=True, kw_only=True, tag="operator_request"):
    """An operator asks for a change of the run. One that comes again is answered again, and not carried out again."""

    id: str
    """Chosen by the operator's program, unique within the run."""
    by: str
    """Who asks, for people: "alice on login1"."""
    action: AnyAction
    """What is asked for."""


class JobEnding(Event, frozen=True, kw_only=True, tag="job_ending"):
    """Agents got SIGTERM from Slurm, which kills what is left of the job `within_s` seconds later."""

    within_s: float
    """Seconds until then."""


class LogArrived(Event, frozen=True, kw_only=True, tag="log_arrived"):
    """The log of an exited rank is complete here, as `AwaitLog` asked."""

    rank: RankId
    """The rank."""


class OutputsCollected(Event, frozen=True, kw_only=True, tag="outputs_collected"):
    """The values of a task's outputs, as `CollectOutputs` asked."""

    task: str
    """The concrete task."""
    attempt: int
    """The number of its attempt."""
    values: dict[str, Any]
    """The values by name."""
    problems: tuple[str, ...] = ()
    """Why values are missing, as sentences."""

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt that wrote them."""
        return AttemptId(self.task, self.attempt)


class TextsRendered(Event, frozen=True, kw_only=True, tag="texts_rendered"):
    """The deferred values of a task's attempt are known, or cannot be, as `RenderTexts` asked."""

    task: str
    """The concrete task."""
    attempt: int
    """The number of its attempt."""
    texts: RenderedTexts | None = None
    """The values. None in a journal that could not have them, as they are long or secret: a successor evaluates them again."""
    problem: str = ""
    """Why there are none, as a sentence."""
    field: str = ""
    """The field of the task that has the expression, if that is known."""
    what: Literal["attempt", "when", "items", "block"] = "attempt"
    """Whether it is about an attempt, about the condition under which the task runs, about the items that it is run for, or about
    the block that it stands for."""
    holds: bool = False
    """Whether that condition is true."""
    operands: dict[str, str] = {}
    """The values that it was made of, by their expressions."""
    items: list[Any] | None = None
    """Those items. None in a journal that could not have them."""
    step: BlockStep | None = None
    """What follows for that block. None in a journal that could not have it."""

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt that they are for."""
        return AttemptId(self.task, self.attempt)


class JobEndKnown(Event, frozen=True, kw_only=True, tag="job_end_known"):
    """Slurm has said when the job's time is over: as `AskJobEnd` asked, or because that has changed."""

    gone_at: float | None
    """Monotonic seconds; None for a job without a time limit."""


class RecordUnwritable(Event, frozen=True, kw_only=True, tag="record_unwritable"):
    """The run's record could not be written for so long that the run is to end."""

    reason: Reason
    """What kept it from being written, and on which file system."""


class Suspended(Event, frozen=True, kw_only=True, tag="suspended"):
    """The controller did not run, nor, as far as it knows, did the tasks: `scontrol suspend`, a paused machine, Ctrl-Z."""

    seconds: float
    """For how long; no limit of the run counts that."""


class WakeUp(Event, frozen=True, kw_only=True, tag="wake_up"):
    """The time that `next_wakeup` named has come."""


SchedulerEvent = (
    AgentJoined
    | MessageReceived
    | AgentLost
    | NodeStandsStill
    | NodeCleared
    | StopRequested
    | OperatorRequest
    | JobEnding
    | LogArrived
    | OutputsCollected
    | TextsRendered
    | JobEndKnown
    | RecordUnwritable
    | Suspended
    | WakeUp
)
