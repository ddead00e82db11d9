"""Orders from the controller to an agent. Imperative."""

from collections.abc import Sequence

from protocol.diagnosis.signatures import Signature
from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.base import Message, _snake
from protocol.messages.handover import CheckpointBase, CheckpointRules, ExpectedInput, OutputRule
from protocol.messages.inspection import MeshTarget
from protocol.messages.monitor import MonitorOrders
from protocol.messages.rank_spec import PortBlock, RankSpec
from protocol.messages.telemetry import TelemetryOrders
from protocol.messages.uploads import FileUpload, StorageTarget


class ToAgentMessage(Message, frozen=True, kw_only=True, tag=_snake):
    """Base of messages from the controller."""


class Welcome(ToAgentMessage, frozen=True, kw_only=True):
    """The controller accepted a `Hello`. Ends the handshake and starts the session named in it.

    `kill` names ranks of the hello that must not live.
    """

    session: str
    incarnation: int
    kill: tuple[RankId, ...] = ()
    heartbeat_s: float = 2.0
    orphan_grace_s: float = 10.0
    signatures: tuple[Signature, ...] = ()
    """The workflow's own; they are searched before the built-in ones."""
    secrets: tuple[tuple[str, str], ...] = ()
    """(name, value): the agent masks these values in what tasks print, before it reaches a log."""
    monitoring: MonitorOrders | None = None
    """What is measured on the node; the agent decides when from the tasks that it runs."""
    telemetry: TelemetryOrders | None = None
    """How tasks and GPUs are measured; None for not at all."""
    controller_pid: int | None = None
    """The controller's process: an agent on its machine watches it."""


class Refused(ToAgentMessage, frozen=True, kw_only=True):
    """The controller will never accept this agent. It ends its tasks and exits."""

    code: str
    reason: str


class Enrolled(ToAgentMessage, frozen=True, kw_only=True):
    """The controller knows the key that a `Hello` has named: the agent dials anew with it. Outside of any session."""

    key: str


class Reintroduce(ToAgentMessage, frozen=True, kw_only=True):
    """This controller has taken the run over, and does not know the agent's session: say hello. Outside of any session."""


class Spawn(ToAgentMessage, frozen=True, kw_only=True):
    """Start these ranks. A rank already known to the agent, live or ended, is not started again."""

    ranks: tuple[RankSpec, ...]
    is_withdrawn: bool = False
    """Their attempt is being stopped: those that are not known are reported as failed starts, and never start."""


class Stop(ToAgentMessage, frozen=True, kw_only=True):
    """End all processes of this attempt on the node in the task's own way (`Stopping`), and verify.

    Repeating it with a shorter grace shortens the wait; an unknown attempt is ignored.
    """

    attempt: AttemptId
    grace_s: float
    """Between signal and SIGKILL; with 0 there is no signal before."""
    is_forced: bool = False
    """SIGKILL now: no command is started or awaited any more."""
    is_hang: bool = False
    """The command that examines a hang comes before everything else."""


class SignalAttempt(ToAgentMessage, frozen=True, kw_only=True):
    """Send a signal once to all processes of this attempt on the node; nothing else follows. An unknown attempt is ignored.

    Of a job step, only its `srun` gets it, and passes it on where it does so.
    """

    attempt: AttemptId
    signal: int


class EndStep(ToAgentMessage, frozen=True, kw_only=True):
    """End what the attempt's job step has on this node, and verify: its `srun` runs on another one.

    Answered by a `RankCleared` of `part`, also when there is nothing. Repeating it can only make it faster.
    """

    part: RankId
    """Stands for the processes here; no rank of the attempt has this number."""
    mark_of: RankId
    """The rank that is the step's `srun`: its processes bear a mark that is made of it."""
    signal: int
    patience_s: float = 0.0
    """How long they may take to end by other means before the signal: the task's own commands run elsewhere."""
    grace_s: float
    """Between signal and SIGKILL; with 0 there is no signal before."""


class ConfirmLife(ToAgentMessage, frozen=True, kw_only=True):
    """Answer with the `LifeConfirmed` of this number. What there is to say of a time in which the agent did not run comes before.

    Asked before a limit of an attempt is judged; repeated in a new session.
    """

    number: int


class Lease(ToAgentMessage, frozen=True, kw_only=True):
    """Reserve ports on this node for a task until it is spawned, and report them.

    They stay the task's until `Release`. A higher `number` than the last one asks for others in place of
    those that another process has now; the same number is answered with the same ports again.
    """

    task: str
    number: int
    blocks: tuple[PortBlock, ...]


class Release(ToAgentMessage, frozen=True, kw_only=True):
    """Free the task's ports on this node: the task will not start again."""

    task: str


class FileOrder(ToAgentMessage, frozen=True, kw_only=True):
    """Base of orders to look at files of an attempt, whose ranks are not concerned."""

    attempt: AttemptId


class FindCheckpoint(FileOrder, frozen=True, kw_only=True):
    """Find the checkpoint that an attempt continues from, before it is started; answered by one `CheckpointFound`.

    Repeated in a new session. A search that is in progress continues; the answer is that of the last one.
    """

    directory: str
    """The task's directory; absolute. Nothing outside of it counts."""
    rules: CheckpointRules
    base: CheckpointBase | None = None
    """What a person has said about it, or about an earlier attempt; None for nothing."""
    is_for_another: bool = False
    """The attempt starts on another node, which does not have the files of this one's run directory, or the other way round: the
    checkpoint's are listed, and sent to the controller's run directory where this node has its own."""


class FindOutputs(FileOrder, frozen=True, kw_only=True):
    """Find the outputs of an attempt that has ended with success on this node; answered by one `OutputsFound`.

    Repeated in a new session. A search that is in progress continues; the answer is that of the last one.
    """

    written_by: int
    """The number of the attempt that has written them: an earlier one, if this one was only made to find them."""
    directory: str
    """The task's directory; absolute. Nothing outside of it counts."""
    rules: tuple[OutputRule, ...]
    counts_all: bool = False
    """What was there before the attempt counts: it continued from a checkpoint."""
    items: tuple[int, ...] | None = None
    """Of an attempt for several items their positions: each output is a list with one entry for each of them."""
    has_failed: bool = False
    """That attempt has failed: entries that are not null count all the same."""


class CheckInputs(FileOrder, frozen=True, kw_only=True):
    """Check the files that an attempt is given against their records, before it is started; answered by one `InputsChecked`.

    Those that are to be staged are staged. Repeated in a new session.
    """

    inputs: tuple[ExpectedInput, ...]


class UploadFiles(ToAgentMessage, frozen=True, kw_only=True):
    """Upload files that an attempt has written on this node; answered by one `Uploaded`.

    Repeated in a new session: an upload in progress continues, one that has ended is answered with the same result. `Stop`
    of the attempt ends it.
    """

    attempt: AttemptId
    directory: str
    """The task's directory; absolute."""
    files: tuple[FileUpload, ...]
    targets: tuple[StorageTarget, ...]


class Watch(ToAgentMessage, frozen=True, kw_only=True):
    """Send this rank's log from byte `offset` on. Repeating it moves the stream to the new offset."""

    rank: RankId
    offset: int


class Unwatch(ToAgentMessage, frozen=True, kw_only=True):
    """Stop sending this log, unless it must be sent anyway."""

    rank: RankId


class LogMatched(ToAgentMessage, frozen=True, kw_only=True):
    """The pattern of a `LogSearch` was found, in this line."""

    rank: RankId
    key: ProbeKey
    line: str


class Inspect(ToAgentMessage, frozen=True, kw_only=True):
    """Collect facts about the node; answered by one `Inspected` with the same number.

    Without a part to collect, the answer is immediate: for the comparison of clocks.
    """

    number: int
    token: str = ""
    """The text by which agents identify themselves when they connect: unique per examination."""
    wants_report: bool = False
    directories: tuple[tuple[str, str], ...] = ()
    """(role, absolute path) of additional directories in the report."""
    targets: tuple[MeshTarget, ...] = ()
    """Agents to connect to."""
    within_s: float = 10.0
    """Parts that have not arrived by then are reported missing."""


class SamplesStored(ToAgentMessage, frozen=True, kw_only=True):
    """The controller has taken the `Sampled` of this number; more may be sent."""

    number: int


class MaskValues(ToAgentMessage, frozen=True, kw_only=True):
    """The run has more secrets than its agents were welcomed with: another plan of it has named them."""

    secrets: tuple[tuple[str, str], ...]
    """(name, value) of all, as in `Welcome`."""


class MeasuresTaken(ToAgentMessage, frozen=True, kw_only=True):
    """The controller has taken the `Measured` of this number; more may be sent."""

    number: int


class Leave(ToAgentMessage, frozen=True, kw_only=True):
    """The run is over: end all processes, flush, and exit. The last order an agent gets."""

    grace_s: float = 0.0


ToAgent = (
    Welcome
    | Refused
    | Enrolled
    | Reintroduce
    | Spawn
    | Stop
    | SignalAttempt
    | EndStep
    | ConfirmLife
    | Lease
    | Release
    | FindCheckpoint
    | FindOutputs
    | CheckInputs
    | UploadFiles
    | Watch
    | Unwatch
    | LogMatched
    | Inspect
    | SamplesStored
    | MaskValues
    | MeasuresTaken
    | Leave
)


def before_spawns(orders: Sequence[ToAgent]) -> int:
    """Return how many of the orders come before the first one to start something."""
    return next((i for i, one in enumerate(orders) if isinstance(one, Spawn)), len(orders))
