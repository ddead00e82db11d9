"""The commands of the agent's core to its shell. None blocks; outcomes come back as events."""

from msgspec import Struct

from protocol.diagnosis.signatures import Signature
from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.facts import FromAgent, LifeConfirmed, SidePurpose
from protocol.messages.monitor import MonitorOrders
from protocol.messages.orders import (
    ConfirmLife,
    FileOrder,
    FindCheckpoint,
    Inspect,
    Lease,
    MaskValues,
    MeasuresTaken,
    SamplesStored,
    UploadFiles,
    Welcome,
)
from protocol.messages.rank_spec import RankSpec
from protocol.messages.telemetry import TelemetryOrders


class StartProcess(Struct, frozen=True):
    """Start the rank's process on the ports of its task; answer with ProcessStarted or ProcessFailed."""

    spec: RankSpec


class TakePorts(Struct, frozen=True):
    """Lease these ports; answer with PortsTaken."""

    order: Lease


class TakeBackPorts(Struct, frozen=True):
    """Hold the task's ports again, since no process of the task runs."""

    task: str


class DropPorts(Struct, frozen=True):
    """Release the task's ports for good."""

    task: str


class DiagnoseExit(Struct, frozen=True):
    """Find the cause of a bad exit, or check `success` after a good one; answer with ExitDiagnosed."""

    rank: RankId
    exit_code: int | None
    signal: int | None
    memory_kills: int = 0
    """Out-of-memory kills of the kernel that may explain the exit."""


class LearnSignatures(Struct, frozen=True):
    """Diagnose exits with these signatures of the workflow's own, in addition to ours."""

    signatures: tuple[Signature, ...]


class LearnSecrets(Struct, frozen=True):
    """Mask these values, (name, value), in what ranks print from now on."""

    values: tuple[tuple[str, str], ...]


class ForgetRank(Struct, frozen=True):
    """Drop all records of a rank: its exit is reported and none of its processes is left."""

    rank: RankId


class SignalTree(Struct, frozen=True):
    """Send this signal to all processes that the rank started, until none is left: then TreeGone.

    Processes that appear in the tree later get the same signal. A second SignalTree replaces the first.
    Signal 0 only waits.
    """

    rank: RankId
    signal: int
    is_once: bool = False
    """Only to the processes that there are now, which may go on; nothing follows."""


class AdoptStep(Struct, frozen=True):
    """Treat the processes of a job step on this node as the tree of `part`: SignalTree and GiveUpTree are about them then.

    Without `mark_of` those of all steps of the run that no other rank or part is about.
    """

    part: RankId
    mark_of: RankId | None


class GiveUpTree(Struct, frozen=True):
    """Stop waiting for the rank's tree; answer with TreeSurvived, or TreeGone if it has ended meanwhile."""

    rank: RankId


class RunCommand(Struct, frozen=True):
    """Run the rank's command for this purpose; answer with CommandEnded."""

    rank: RankId
    purpose: SidePurpose


class EndCommand(Struct, frozen=True):
    """End a command whose timeout has passed; its CommandEnded reports that."""

    rank: RankId
    purpose: SidePurpose


class WatchActivity(Struct, frozen=True):
    """Start to watch the activity of the rank; answer with IdleChanged when it stops and when it resumes."""

    rank: RankId


class UnwatchActivity(Struct, frozen=True):
    """Stop watching the activity of the rank."""

    rank: RankId


class WatchCheck(Struct, frozen=True):
    """Start this check of a rank's probe; answer with CheckObserved whenever its result is known or changes."""

    rank: RankId
    key: ProbeKey


class UnwatchCheck(Struct, frozen=True):
    """End this check: its result is no longer needed."""

    rank: RankId
    key: ProbeKey


class LookOnce(Struct, frozen=True):
    """Make this check a last time, now, after the rank's exit; answer with one CheckObserved."""

    rank: RankId
    key: ProbeKey


class LookForListeners(Struct, frozen=True):
    """Answer with ListenerSeen if a process of the rank listens on a TCP port now."""

    rank: RankId


class WatchLog(Struct, frozen=True):
    """Send the rank's log from `offset` on."""

    rank: RankId
    offset: int


class UnwatchLog(Struct, frozen=True):
    """Stop sending the rank's log."""

    rank: RankId


class FinishLogs(Struct, frozen=True):
    """Hand over the rest of all logs; answer with LogsDelivered."""


class BeginUpload(Struct, frozen=True):
    """Upload these files; answer with UploadProgressed now and then, and with one UploadEnded."""

    order: UploadFiles


class EndUpload(Struct, frozen=True):
    """End an upload; what it has done until then comes with its UploadEnded."""

    attempt: AttemptId
    is_forced: bool


class LearnMonitors(Struct, frozen=True):
    """Measure on this node what the orders say from now on."""

    orders: MonitorOrders


class NoteStored(Struct, frozen=True):
    """The controller has taken the readings of monitors up to this message."""

    number: int


class LearnTelemetry(Struct, frozen=True):
    """Measure tasks and GPUs from now on, as the orders say."""

    orders: TelemetryOrders


class NoteTaken(Struct, frozen=True):
    """The controller has taken what was measured up to this message."""

    number: int


class InspectNode(Struct, frozen=True):
    """Inspect the node as ordered and report the result; ranks are not concerned."""

    order: Inspect


class SearchCheckpoint(Struct, frozen=True):
    """Search for the checkpoint that an attempt continues from, and report it; nothing of the attempt is here yet."""

    order: FindCheckpoint


class HandOver(Struct, frozen=True):
    """Find the outputs of an attempt, or check its inputs, and report that; its ranks are not concerned."""

    order: FileOrder
    """`FindOutputs` or `CheckInputs`."""


class Report(Struct, frozen=True):
    """Send this fact to the controller."""

    message: FromAgent


class Exit(Struct, frozen=True):
    """Leave the loop and end with this status."""

    status: int


AgentCommand = (
    StartProcess
    | TakePorts
    | TakeBackPorts
    | DropPorts
    | DiagnoseExit
    | LearnSignatures
    | LearnSecrets
    | LearnMonitors
    | NoteStored
    | LearnTelemetry
    | NoteTaken
    | ForgetRank
    | SignalTree
    | AdoptStep
    | GiveUpTree
    | RunCommand
    | EndCommand
    | WatchActivity
    | UnwatchActivity
    | WatchCheck
    | UnwatchCheck
    | LookOnce
    | LookForListeners
    | WatchLog
    | UnwatchLog
    | FinishLogs
    | BeginUpload
    | EndUpload
    | InspectNode
    | SearchCheckpoint
    | HandOver
    | Report
    | Exit
)


def learnt(order: Welcome) -> list[AgentCommand]:
    """Return what an agent learns once, with its first session; later ones repeat it."""
    learnt: list[AgentCommand] = [LearnSecrets(order.secrets)] if order.secrets else []
    if order.signatures:
        learnt.append(LearnSignatures(order.signatures))
    if order.monitoring is not None:
        learnt.append(LearnMonitors(order.monitoring))
    if order.telemetry is not None:
        learnt.append(LearnTelemetry(order.telemetry))
    return learnt


def aside(
    order: ConfirmLife | FileOrder | Inspect | MaskValues | SamplesStored | MeasuresTaken,
) -> AgentCommand:
    """Return the command of an order that is not about a rank."""
    if isinstance(order, ConfirmLife):
        return Report(LifeConfirmed(number=order.number))
    if isinstance(order, MaskValues):
        return LearnSecrets(order.secrets)
    if isinstance(order, FindCheckpoint):
        return SearchCheckpoint(order)
    if isinstance(order, FileOrder):
        return HandOver(order)
    if isinstance(order, Inspect):
        return InspectNode(order)
    return NoteStored(order.number) if isinstance(order, SamplesStored) else NoteTaken(order.number)
