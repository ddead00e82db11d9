"""What the end of an attempt means, in states and in words."""

from protocol.messages import RankExited
from protocol.signal_names import signal_name
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState
from sflow_ctl.core.tasks import End, Task


def note_exit(task: Task, message: RankExited) -> None:
    """Keeps the worst of the attempt's exits: a signal before a status, the higher status before the
    lower.
    """
    if task.end is not None and (task.signal is not None or task.exit_code):
        return  # of several ranks: this one was ended because of the one that failed
    if message.signal is not None:
        task.signal, task.exit_code = message.signal, None
    elif task.signal is None:
        task.exit_code = max(task.exit_code or 0, message.exit_code or 0)


def judge(task: Task) -> End:
    """How an attempt that ended by itself ended."""
    if task.launch_error is not None:
        return End(TaskState.FAILED, Reason("launch", task.launch_error), may_retry=True)
    if task.signal is not None:
        return End(
            TaskState.FAILED, Reason("signal", f"killed by {signal_name(task.signal)}"), may_retry=True
        )
    if task.exit_code == 0:
        return End(TaskState.COMPLETED, Reason("exit", "exit status 0"))
    return End(TaskState.FAILED, Reason("exit", f"exit status {task.exit_code}"), may_retry=True)


def retry_delay_s(task: Task) -> float:
    """Seconds before the next attempt, after failure number `task.attempt`."""
    retries = task.plan.retries
    return retries.interval_s * retries.backoff ** (task.attempt - 1)


def cause_text(task: Task, end: End) -> str:
    """The one sentence that ends a failed run's output."""
    name = task.plan.name
    match end.reason.word:
        case "probe":
            return f"Failure probe triggered for task {name}: {end.reason.text}"
        case "launch":
            return f"task {name} could not be started: {end.reason.text}"
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
    if outcome is Outcome.COMPLETED:
        reason = Reason("run_complete", f"{end.reason.text}, while the run was ending")
        return End(TaskState.COMPLETED, reason)
    return End(TaskState.CANCELLED, end.reason)


def run_end(outcome: Outcome | None, cause: FirstCause | None) -> End:
    """How a task ends that is stopped because the run ends."""
    text = cause.text if cause is not None else ""
    match outcome:
        case Outcome.COMPLETED:
            return End(TaskState.COMPLETED, Reason("run_complete", "stopped: everything else is done"))
        case Outcome.TIMEOUT:
            return End(TaskState.TIMEOUT, Reason("time_limit", "the workflow's time is over"))
        case Outcome.INTERRUPTED | Outcome.TERMINATED:
            return End(TaskState.CANCELLED, Reason("interrupted", text))
        case _:
            return End(TaskState.CANCELLED, Reason("fail_fast", text))
