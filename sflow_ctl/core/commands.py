"""The commands of the scheduler to its shell.

Performing one never blocks; the outcome comes back as an event.
"""

from typing import Literal

import msgspec

from protocol.ids import RankId
from protocol.messages.handover import CheckpointBase, CheckpointChoice
from protocol.messages.orders import ToAgent
from protocol.messages.uploads import UploadOutcome
from sflow_ctl.core.requests import AnyAction, RequestAnswer
from sflow_ctl.core.states import FirstCause, Outcome, Transition
from sflow_ctl.plan.model import Plan


class AcceptAgent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer this session's hello with a `Welcome`, naming ranks that must not live."""

    node: int
    session: str
    kill: tuple[RankId, ...] = ()


class SendToAgent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Give the agent of `node` this order."""

    node: int
    message: ToAgent


class AbandonNode(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """End the node's agent by all means and refuse it if it returns: it no longer belongs to the run."""

    node: int
    reason: str


class AwaitLog(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer with `LogArrived` once the log of this exited rank is complete here."""

    rank: RankId


class CollectOutputs(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read the outputs of a task that exited with success; answer with `OutputsCollected`."""

    task: str
    attempt: int


class RenderTexts(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Evaluate deferred values of a task: of an attempt, its condition, its items, or what follows for its block.

    Answer with `TextsRendered`.
    """

    task: str
    attempt: int
    what: Literal["attempt", "when", "items", "block"] = "attempt"


class AskJobEnd(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Ask Slurm when the job's time is over; answer with `JobEndKnown` if Slurm does."""


class RecordTransition(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task changed its state."""

    transition: Transition


class Warn(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Show a warning to the viewers of the run; it changes nothing."""

    text: str


class RecordWaiting(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The unmet readiness conditions of a running service have changed, or how far a task's uploads are; for people."""

    task: str
    """The concrete task."""
    attempt: int
    """The number of its attempt."""
    text: str
    """The unmet conditions as a sentence; empty if there are none. Of uploads how many files and bytes are done."""
    what: Literal["readiness", "uploads"] = "readiness"
    """Which of the two."""


class RecordUploads(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The uploads of a task are over; for people and the summary."""

    task: str
    attempt: int
    outcome: UploadOutcome


class RecordCheckpoint(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What an attempt continues from is decided; for people and the summary."""

    task: str
    """The concrete task."""
    attempt: int
    """The number of its attempt."""
    choice: CheckpointChoice
    """What was found, and why it was chosen."""
    base: CheckpointBase | None = None
    """What a person has said about checkpoints, which later attempts and runs heed; null for nothing."""


class RecordStall(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """No process of an attempt has printed anything for as long as people want to be told of; it changes nothing."""

    task: str
    """The concrete task."""
    attempt: int
    """The number of its attempt."""
    silent_s: float
    """For how long, at least."""


class AnswerRequest(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer an operator's request, once everything that it has led to is recorded."""

    id: str
    """Of the request."""
    by: str
    """Who asked."""
    action: AnyAction
    """What was asked for."""
    answer: RequestAnswer
    """The effect, or an error."""
    is_repeated: bool = False
    """The request had been answered before, and nothing was done this time."""


class ReviseRun(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Another plan is in force from now on. Record it, and write its files, before anything that follows from it leaves."""

    by: str
    """Who has asked for it."""
    source: str
    """The name of the files that it was made from."""
    plan: Plan
    text: str
    """What it changes, as a sentence."""
    grown: int | None = None
    """The index of the only task that it changes, where the others are as before and new ones follow."""


class FinishRun(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The run has finished; the last command."""

    outcome: Outcome
    cause: FirstCause | None
    survivors: tuple[str, ...] = ()
    is_ended_by_slurm: bool = False
    """Slurm began to end the job when the run began to stop: its reason may be behind a failure."""


Command = (
    AcceptAgent
    | SendToAgent
    | AbandonNode
    | AwaitLog
    | CollectOutputs
    | RenderTexts
    | AskJobEnd
    | RecordTransition
    | RecordWaiting
    | RecordUploads
    | RecordCheckpoint
    | RecordStall
    | Warn
    | AnswerRequest
    | ReviseRun
    | FinishRun
)
