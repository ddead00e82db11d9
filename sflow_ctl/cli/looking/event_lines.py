"""Entries of a run's journal as lines: their type, the task that they are about, and a sentence. Called by `events`."""

from typing import NamedTuple

from protocol.messages import facts
from protocol.text.counted import counted
from sflow_ctl.core import events
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.request_text import action_text, request_text
from sflow_ctl.report.resumed import takeover_text
from sflow_ctl.report.transition_text import transition_text
from sflow_ctl.report.upload_text import outcome_text, problem_texts
from sflow_ctl.report.words import exit_text, node_name
from sflow_ctl.runtime.journal.entry import Entry

TYPES = ("state", "waiting", "uploads", "checkpoint", "node", "run", "notice", "probe", "process", "other")
"""All types of events."""
USUAL = ("state", "waiting", "uploads", "checkpoint", "node", "run", "notice")
"""Those that are shown unless others are asked for: the rest follows from them, or is of use in a bug report only."""


class ShownEvent(NamedTuple):
    """An entry of the journal, for people."""

    type: str
    task: str | None
    text: str


def event_of(entry: Entry, plan: Plan) -> ShownEvent:
    """Return what an entry says."""
    if entry.transition is not None:
        return ShownEvent("state", entry.transition.task, transition_text(entry.transition))
    if entry.waiting is not None:
        waiting = entry.waiting
        said = waiting.text or "nothing more"
        what = "waits for" if waiting.what == "readiness" else "uploads"
        return ShownEvent("waiting", waiting.task, f"{waiting.task}#{waiting.attempt} {what}: {said}")
    if entry.uploads is not None:
        uploads = entry.uploads
        said = "; ".join(filter(None, [outcome_text(uploads.outcome), *problem_texts(uploads.outcome)]))
        return ShownEvent(
            "uploads", uploads.task, f"{uploads.task}#{uploads.attempt} {said or 'nothing to upload'}"
        )
    if entry.checkpoint is not None:
        from sflow_ctl.report.checkpoint_text import choice_text  # few tasks have any

        told = entry.checkpoint
        return ShownEvent("checkpoint", told.task, choice_text(told.task, told.attempt, told.choice))
    if entry.takeover is not None:
        return ShownEvent("run", None, takeover_text(entry.takeover))
    if entry.request is not None:
        return ShownEvent("run", None, request_text(entry.request))
    if entry.event is not None:
        return _of_scheduler(entry.event, plan)
    if entry.begin is not None:
        return ShownEvent(
            "other", None, f"segment {entry.begin.segment} of the journal, sflow-ctl {entry.begin.version}"
        )
    return ShownEvent("other", None, entry.kind)


def _of_scheduler(event: events.SchedulerEvent, plan: Plan) -> ShownEvent:
    match event:
        case events.AgentJoined(hello=hello):
            before = f", in place of one that {hello.follows}" if hello.follows else ""
            said = f"{node_name(plan, hello.node)}: agent pid {hello.pid} has joined{before}"
            return ShownEvent("node", None, said)
        case events.AgentLost(node=node, reason=reason):
            return ShownEvent("node", None, f"{node_name(plan, node)} lost: {reason}")
        case events.NodeStandsStill(node=node, seconds=seconds, doing=doing, is_over=is_over):
            said = f"stood still for {seconds:.1f} s" if is_over else f"stands still: {doing}"
            return ShownEvent("node", None, f"{node_name(plan, node)}: its agent {said}")
        case events.NodeCleared(node=node, survivors=survivors):
            left = f", but for {', '.join(survivors)}" if survivors else ""
            return ShownEvent("node", None, f"{node_name(plan, node)}: no process of the run is left{left}")
        case events.StopRequested() | events.OperatorRequest():
            return _of_person(event)
        case events.JobEnding() | events.Suspended():
            return ShownEvent("run", None, _time_text(event))
        case events.JobEndKnown(gone_at=gone_at):
            return ShownEvent("other", None, f"the job has {'no' if gone_at is None else 'a'} time limit")
        case events.RecordUnwritable(reason=reason):
            return ShownEvent("run", None, f"the record cannot be written: {reason.text or reason.word}")
        case events.OutputsCollected(task=task, attempt=attempt, values=values):
            said = f"{task}#{attempt} outputs: {counted(len(values), 'value')}"
            return ShownEvent("process", task, "; ".join([said, *event.problems]))
        case events.LogArrived(rank=rank):
            return ShownEvent("process", rank.attempt.task, f"{rank} log complete")
        case events.MessageReceived(node=node, message=message):
            return _of_message(message, node_name(plan, node))
        case _:
            return ShownEvent("other", None, type(event).__name__)


def _of_person(event: events.StopRequested | events.OperatorRequest) -> ShownEvent:
    if isinstance(event, events.OperatorRequest):  # its answer has a line of its own
        return ShownEvent("other", None, f"{event.by} asks to {action_text(event.action)}")
    return ShownEvent("run", None, f"stop requested: {event.signal}{', at once' if event.force else ''}")


def _time_text(event: events.JobEnding | events.Suspended) -> str:
    if isinstance(event, events.Suspended):
        return f"the run was suspended for {event.seconds:.1f} s, which none of its limits counts"
    return f"Slurm ends the job within {event.within_s:g} s"


def _of_message(message: facts.FromAgent, node: str) -> ShownEvent:
    match message:
        case facts.RankStarted(rank=rank, pid=pid):
            return ShownEvent("process", rank.attempt.task, f"{rank} started on {node}, pid {pid}")
        case facts.LaunchFailed(rank=rank, reason=reason):
            return ShownEvent(
                "process", rank.attempt.task, f"{rank} could not be started on {node}: {reason}"
            )
        case facts.RankExited(rank=rank, exit_code=code, signal=signal, runtime_s=runtime_s):
            said = f"{rank} exited on {node}: {exit_text(code, signal)}, after {runtime_s:.3f} s"
            return ShownEvent("process", rank.attempt.task, said)
        case facts.RankCleared(rank=rank, ended=ended):
            return ShownEvent(
                "process", rank.attempt.task, f"{rank} cleared: {counted(ended, 'process')} ended"
            )
        case facts.ProbeTriggered(attempt=attempt, kind=kind, detail=detail):
            return ShownEvent("probe", attempt.task, f"{attempt} {kind} probe on {node}: {detail}")
        case facts.ProbeWaiting(attempt=attempt, kind=kind, detail=detail):
            return ShownEvent("probe", attempt.task, f"{attempt} {kind} probe on {node} waits: {detail}")
        case facts.GpuLost(gpu=gpu, text=text):
            return ShownEvent("node", None, f"{node}: GPU {gpu} {text}")
        case facts.AgentSuspended(seconds=seconds):
            said = f"{node}: its agent did not run for {seconds:.1f} s, which count against no limit"
            return ShownEvent("node", None, said)
        case facts.Notice(level=level, text=text):
            return ShownEvent("notice", None, f"{level} from {node}: {text}")
        case facts.Ending(reason=reason):
            return ShownEvent("node", None, f"{node}: its agent ends with all its processes: {reason}")
        case facts.Terminated():
            return ShownEvent("node", None, f"{node}: the agent got SIGTERM from Slurm")
        case _:
            return ShownEvent("other", _task_of(message), f"{type(message).__name__} from {node}")


def _task_of(message: facts.FromAgent) -> str | None:
    match message:
        case (
            facts.Uploading(attempt=attempt)
            | facts.Uploaded(attempt=attempt)
            | facts.CheckpointFound(attempt=attempt)
            | facts.OutputsFound(attempt=attempt)
            | facts.InputsChecked(attempt=attempt)
        ):
            return attempt.task
        case facts.RankIdle(rank=rank) | facts.SideCommandEnded(rank=rank) | facts.LogSearch(rank=rank):
            return rank.attempt.task
        case facts.Leased(task=task):
            return task
        case _:
            return None
