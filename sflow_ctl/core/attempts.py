"""What the end of an attempt means, in states and in words."""

from collections.abc import Iterable

from protocol.messages import RankExited
from protocol.signal_names import signal_name
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState
from sflow_ctl.core.tasks import End, Task

SHOWN = 3
"""Tasks named in one sentence."""


def note_exit(task: Task, message: RankExited) -> None:
    """Keeps the worst of the attempt's exits, of equal ones the first: a signal before a status, a failure before a
    success, the higher status before the lower.
    """
    begun_ns = task.started_at_ns.get(message.rank.rank)
    if begun_ns is not None and is_bad(task, message):
        at_ns = begun_ns + round(message.runtime_s * 1e9)
        task.failed_at_ns = min(at_ns, task.failed_at_ns or at_ns)
    if task.end is not None and (task.signal is not None or task.exit_code):
        return  # of several ranks: this one was ended because of the one that failed
    if task.signal is not None:
        return
    if message.signal is not None:
        task.signal, task.exit_code, task.failed_rank = message.signal, None, message.rank.rank
    elif task.exit_code is None or _badness(task, message.exit_code) > _badness(task, task.exit_code):
        task.exit_code = message.exit_code
        task.failed_rank = message.rank.rank if is_bad(task, message) else None


def is_bad(task: Task, message: RankExited) -> bool:
    """True for the end of a rank that is no success."""
    return message.exit_code not in task.plan.success_exit_codes


def _badness(task: Task, code: int | None) -> tuple[bool, int]:
    return code not in task.plan.success_exit_codes, code or 0


def judge(task: Task) -> End:
    """How an attempt that ended by itself ended."""
    is_gang = task.plan.world_size > 1 and task.failed_rank is not None
    who = f"rank {task.failed_rank}: " if is_gang else ""
    if task.launch_error is not None:
        return End(TaskState.FAILED, Reason("launch", f"{who}{task.launch_error}"), may_retry=True)
    if task.signal is not None:
        text = f"{who}killed by {signal_name(task.signal)}"
        return End(TaskState.FAILED, Reason("signal", text), may_retry=True)
    text = f"exit status {task.exit_code}"
    if task.exit_code in task.plan.success_exit_codes:
        return End(TaskState.COMPLETED, Reason("exit", text))
    return End(TaskState.FAILED, Reason("exit", f"{who}{text}"), may_retry=True)


def left_too_early(task: Task, others: Iterable[Task]) -> End | None:
    """The end of a service that ended with success while `others` still need it."""
    names = sorted({other.plan.name for other in others})
    if not names:
        return None
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    verb = "needs" if len(names) == 1 else "need"
    text = f"exit status {task.exit_code}, while {shown} still {verb} it"
    return End(TaskState.FAILED, Reason("exit", text), may_retry=True)


def with_thief(task: Task, end: End) -> End:
    """The end of an attempt, and who has a port of it."""
    if not task.stolen or not end.may_retry or task.launch_error is not None:  # which says it already
        return end
    text = f"{end.reason.text}; {'; '.join(task.stolen.values())}"
    return End(end.state, Reason(end.reason.word, text), end.may_retry)


def cause_of(task: Task, end: End) -> FirstCause:
    """The failure of a task as the reason of a failed run."""
    return FirstCause(
        text=cause_text(task, end),
        task=task.plan.name,
        attempt=task.attempt,
        node=task.node_of_cause,
        reason=end.reason,
    )


def cause_text(task: Task, end: End) -> str:
    """The one sentence that ends a failed run's output."""
    name = task.plan.name
    match end.reason.word:
        case "probe":
            return f"Failure probe triggered for task {name}: {end.reason.text}"
        case "launch":
            return f"task {name} could not be started: {end.reason.text}"
        case "expression" | "ports":
            return f"task {name} cannot start: {end.reason.text}"
        case "node_lost":
            return f"task {name}: {end.reason.text}"
        case "timeout" | "not_ready":
            return f"task {name} {end.reason.text}"
        case _:
            return f"process exited with error: {name}: {end.reason.text}"


def end_while_stopping(outcome: Outcome, task: Task, end: End) -> End:
    """What an attempt's own end means once the run is stopping."""
    if task.end is not None or end.state is TaskState.COMPLETED:
        return End(end.state, end.reason)
    if outcome is Outcome.COMPLETED and task.plan.is_service:
        reason = Reason("run_complete", f"{end.reason.text}, while the run was ending")
        return End(TaskState.COMPLETED, reason)
    return End(TaskState.CANCELLED, end.reason)


def stopped_by(signal: str) -> tuple[Outcome, FirstCause]:
    """What a signal to the controller makes of a run."""
    match signal:
        case "SIGINT":
            return Outcome.INTERRUPTED, FirstCause(text="stopped by SIGINT")
        case "SIGUSR1" | "SIGUSR2":  # what people ask sbatch and salloc for with --signal
            text = f"{signal} says that the job's time is nearly over"
            return Outcome.TIMEOUT, FirstCause(text=text, reason=Reason("time_limit", text))
        case _:
            return Outcome.TERMINATED, FirstCause(text=f"stopped by {signal}")


def never_started(outcome: Outcome) -> Reason:
    """Why a task that had not started when the run began to end never will."""
    match outcome:
        case Outcome.INTERRUPTED | Outcome.TERMINATED:
            return Reason("interrupted")
        case Outcome.COMPLETED:
            return Reason("run_complete", "the run's main tasks had ended")
        case _:
            return Reason("fail_fast")


def run_facts(outcome: Outcome | None, cause: FirstCause | None) -> dict[str, str]:
    """The environment of tasks that run at the end: how the run ends, and why."""
    return {
        "SFLOW_RUN_OUTCOME": str(outcome) if outcome is not None else "",
        "SFLOW_RUN_CAUSE": cause.text if cause is not None else "",
        "SFLOW_FAILED_TASK": (cause.task or "") if cause is not None else "",
    }


def run_end(task: Task, outcome: Outcome | None, cause: FirstCause | None, is_done: bool) -> End:
    """How a task ends that is stopped because the run ends; `is_done` when there was nothing left to do."""
    text = cause.text if cause is not None else ""
    if is_done and task.plan.is_service:
        return End(TaskState.COMPLETED, Reason("run_complete", "stopped: everything else is done"))
    match outcome:
        case Outcome.COMPLETED:
            return End(
                TaskState.CANCELLED, Reason("run_complete", "stopped: the run's main tasks have ended")
            )
        case Outcome.TIMEOUT:
            return End(TaskState.TIMEOUT, Reason("time_limit", "the workflow's time is over"))
        case Outcome.INTERRUPTED | Outcome.TERMINATED:
            return End(TaskState.CANCELLED, Reason("interrupted", text))
        case _:
            return End(TaskState.CANCELLED, Reason("fail_fast", text))
