"""Commands and events of the scheduler as lines of text, for assertions and for the transcripts of `tests/unit/scenarios`."""

from typing import assert_never

from protocol.messages.facts import (
    CheckpointFound,
    Ending,
    FromAgent,
    Goodbye,
    InputsChecked,
    LaunchFailed,
    Leased,
    OutputsFound,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankIdle,
    RankStarted,
    Uploaded,
    Uploading,
)
from protocol.messages.orders import (
    CheckInputs,
    ConfirmLife,
    EndStep,
    FindCheckpoint,
    FindOutputs,
    Lease,
    Leave,
    Release,
    SignalAttempt,
    Spawn,
    Stop,
    ToAgent,
    UploadFiles,
)
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    AnswerRequest,
    AskJobEnd,
    AwaitLog,
    CollectOutputs,
    Command,
    FinishRun,
    RecordCheckpoint,
    RecordStall,
    RecordTransition,
    RecordUploads,
    RecordWaiting,
    RenderTexts,
    ReviseRun,
    SendToAgent,
    Warn,
)
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    JobEnding,
    JobEndKnown,
    LogArrived,
    MessageReceived,
    NodeCleared,
    NodeStandsStill,
    OperatorRequest,
    OutputsCollected,
    RecordUnwritable,
    SchedulerEvent,
    StopRequested,
    Suspended,
    TextsRendered,
    WakeUp,
)


def command_line(command: Command) -> str:
    """Return a command in one line, without its sentences for people."""
    match command:
        case RecordTransition(transition=t):
            return f"{t.task}#{t.attempt} {t.old}->{t.new} {t.reason.word}"
        case SendToAgent(node=node, message=message):
            return f"{node}: {_order(message)}"
        case AcceptAgent(node=node, session=session, kill=kill):
            return f"{node}: accept {session}" + "".join(f" kill {rank}" for rank in kill)
        case AbandonNode(node=node):
            return f"{node}: abandon"
        case AwaitLog(rank=rank):
            return f"await log of {rank}"
        case CollectOutputs(task=task, attempt=attempt):
            return f"collect outputs of {task}#{attempt}"
        case RecordCheckpoint(task=task, attempt=attempt, choice=choice):
            return f"{task}#{attempt} continues from {choice.path or 'nothing'}: {choice.why}"
        case RenderTexts(task=task, attempt=attempt):
            return f"render texts of {task}#{attempt}"
        case RecordWaiting(task=task, attempt=attempt, text=text):
            return f"{task}#{attempt} waits: {text}"
        case RecordUploads(task=task, attempt=attempt, outcome=outcome):
            return f"{task}#{attempt} uploaded {outcome.count}, {len(outcome.problems)} problems"
        case AskJobEnd():
            return "ask for the job's end"
        case RecordStall(task=task, attempt=attempt, silent_s=silent_s):
            return f"{task}#{attempt} is silent for {silent_s:g} s"
        case Warn(text=text):
            return f"warn: {text}"
        case ReviseRun(plan=plan):
            return f"revision {plan.revision}"
        case AnswerRequest(id=request_id, answer=answer, is_repeated=is_repeated):
            how = "again" if is_repeated else "refused" if answer.error else "done"
            return f"answer {request_id}: {how}"
        case FinishRun(outcome=outcome):
            return f"finish {outcome}"
        case _:
            assert_never(command)


def full_line(command: Command) -> str:
    """Return a command in one line, with its sentences for people."""
    match command:
        case RecordTransition(transition=transition):
            sentence = transition.reason.text
        case AbandonNode(reason=reason):
            sentence = reason
        case FinishRun(cause=cause) if cause is not None:
            sentence = cause.text
        case _:
            sentence = ""
    return command_line(command) + (f"  ({sentence})" if sentence else "")


def _order(message: ToAgent) -> str:
    match message:
        case Spawn(ranks=ranks, is_withdrawn=is_withdrawn):
            return f"{'withdraw' if is_withdrawn else 'spawn'} {' '.join(str(spec.rank) for spec in ranks)}"
        case Stop(attempt=attempt, grace_s=grace_s, is_hang=is_hang):
            return f"stop {attempt} {grace_s:g}" + (" hang" if is_hang else "")
        case SignalAttempt(attempt=attempt, signal=number):
            return f"signal {attempt} {number}"
        case EndStep(part=part, signal=signal, patience_s=patience_s, grace_s=grace_s):
            return f"end step {part} {signal} {patience_s:g} {grace_s:g}"
        case ConfirmLife(number=number):
            return f"confirm {number}"
        case Leave(grace_s=grace_s):
            return f"leave {grace_s:g}"
        case Lease(task=task, number=number):
            return f"lease {task} {number}"
        case Release(task=task):
            return f"release {task}"
        case FindCheckpoint(attempt=attempt):
            return f"find the checkpoint of {attempt}"
        case FindOutputs(attempt=attempt):
            return f"find the outputs of {attempt}"
        case CheckInputs(attempt=attempt):
            return f"check the inputs of {attempt}"
        case UploadFiles(attempt=attempt):
            return f"upload {attempt}"
        case _:
            raise AssertionError(f"the scheduler never sends this: {message}")


def event_line(event: SchedulerEvent) -> str:
    """Return an event in one line."""
    match event:
        case AgentJoined(hello=hello):
            has = [f"live {one.rank}" for one in hello.live]
            has += [f"exited {one.rank}" for one in hello.exited]
            has += [f"clearing {rank}" for rank in hello.clearing]
            known = f" with {', '.join(has)}" if has else ""
            return f"{hello.node}: hello {hello.session}, agent {hello.agent_incarnation}{known}"
        case MessageReceived(node=node, message=message):
            return f"{node}: {_fact(message)}"
        case AgentLost(node=node, reason=reason):
            return f"{node}: lost, {reason}"
        case NodeStandsStill(node=node, is_over=is_over):
            return f"{node}: moves again" if is_over else f"{node}: stands still"
        case NodeCleared(node=node):
            return f"{node}: nothing is left"
        case StopRequested(signal=signal, force=force):
            return f"stop requested by {signal}" + (", forced" if force else "")
        case OperatorRequest(id=request_id, action=action):
            return f"request {request_id}: {action}"
        case JobEnding(within_s=within_s):
            return f"Slurm ends the job within {within_s:g} s"
        case LogArrived(rank=rank):
            return f"log of {rank} arrived"
        case OutputsCollected(task=task, attempt=attempt):
            return f"outputs of {task}#{attempt} collected"
        case TextsRendered(task=task, attempt=attempt):
            return f"texts of {task}#{attempt} rendered"
        case JobEndKnown(gone_at=gone_at):
            return f"job ends at {gone_at}"
        case RecordUnwritable(reason=reason):
            return f"record unwritable, {reason.word}"
        case Suspended(seconds=seconds):
            return f"suspended for {seconds:g} s"
        case WakeUp():
            return "wake up"
        case _:
            assert_never(event)


def _fact(message: FromAgent) -> str:
    match message:
        case RankStarted(rank=rank):
            return f"started {rank}"
        case RankExited(rank=rank, exit_code=code, signal=signal, cleared=cleared):
            how = f"signal {signal}" if signal is not None else f"status {code}"
            return f"exited {rank} {how}" + ("" if cleared else ", its tree is not gone")
        case RankCleared(rank=rank):
            return f"tree of {rank} is gone"
        case LaunchFailed(rank=rank, reason=reason):
            return f"launch of {rank} failed: {reason}"
        case ProbeTriggered(attempt=attempt, kind=kind):
            return f"{kind} probe of {attempt} triggered"
        case ProbeWaiting(attempt=attempt, detail=detail):
            return f"{attempt} waits: {detail}"
        case RankIdle(rank=rank, kind=kind, is_quiet=is_quiet):
            return f"{rank} {'shows no' if is_quiet else 'shows'} {kind}"
        case Leased(task=task, number=number):
            return f"leased {task} {number}"
        case CheckpointFound(attempt=attempt, choice=choice):
            return f"{attempt} continues from {choice.path or 'nothing'}"
        case OutputsFound(attempt=attempt, outputs=outputs, problem=problem):
            return f"outputs of {attempt}: {problem or ', '.join(one.name for one in outputs)}"
        case InputsChecked(attempt=attempt, problem=problem):
            return f"inputs of {attempt}: {problem or 'as they should be'}"
        case Uploading(attempt=attempt, text=text):
            return f"{attempt} uploads {text}"
        case Uploaded(attempt=attempt, outcome=outcome):
            return f"uploaded {outcome.count} of {attempt}"
        case Ending(reason=reason):
            return f"ends by itself, {reason}"
        case Goodbye():
            return "goodbye"
        case _:
            return type(message).__name__
