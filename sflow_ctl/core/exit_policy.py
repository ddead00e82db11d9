"""What the end of an attempt means, in states and in words."""

from collections.abc import Iterable

import msgspec

from protocol.messages.facts import RankExited
from protocol.text.signal_names import signal_name
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState
from sflow_ctl.core.tasks import End, Task

SHOWN = 3
"""Tasks named in one sentence."""
_LAUNCH_WORDS = {28: "disk_full", 122: "disk_full", 98: "port_in_use"}
"""Linux' ENOSPC and EDQUOT, where the log of what was to start could not be made, and EADDRINUSE of a port of the task."""


def note_exit(task: Task, message: RankExited) -> None:
    """Keeps what a rank's end says about the attempt. Of several that fail by themselves, the first to end is the cause.

    Where clocks do not tell, a signal comes before a status and the higher status before the lower.
    """
    if is_bad(task, message):
        _note_failure(task, message)
    elif task.failed_first is None:
        codes = [code for code in (task.exit_code, message.exit_code) if code is not None]
        task.exit_code = max(codes)


def _note_failure(task: Task, message: RankExited) -> None:
    begun_ns = task.started_at_ns.get(message.rank.rank)
    is_timed = begun_ns is not None and not message.was_asked
    at_ns = (begun_ns or 0) + round(message.runtime_s * 1e9) if is_timed else None
    if task.failed_first is not None and not _comes_before(task, task.failed_first, message, at_ns):
        return
    task.failed_first, task.failed_at_ns, task.failed_rank = message, at_ns, message.rank.rank
    task.signal, task.exit_code = message.signal, message.exit_code
    if task.end is not None and task.end.is_of_rank:
        task.end = judge_rank(task)


def _comes_before(task: Task, first: RankExited, message: RankExited, at_ns: int | None) -> bool:
    """Whether this failure came before the one that is known. One on somebody's order comes after all others."""
    if message.was_asked != first.was_asked:
        return first.was_asked
    known_ns = task.failed_at_ns
    if at_ns is not None and known_ns is not None and at_ns != known_ns:
        return at_ns < known_ns
    if task.end is not None:
        return False  # of several ranks: this one was ended because of the one that failed
    if (message.signal is None) != (first.signal is None):
        return message.signal is not None
    return message.signal is None and (message.exit_code or 0) > (first.exit_code or 0)


def is_bad(task: Task, message: RankExited) -> bool:
    """True for the end of a rank that is no success: by how it exited, or for want of what its `success` asks."""
    return message.exit_code not in task.plan.success_exit_codes or message.cause is not None


def _badness(task: Task, code: int | None) -> tuple[bool, int]:
    return code not in task.plan.success_exit_codes, code or 0


def judge(task: Task) -> End:
    """How an attempt that ended by itself ended."""
    is_gang = task.plan.world_size > 1 and task.failed_rank is not None
    who = f"rank {task.failed_rank}: " if is_gang else ""
    if task.launch_error is not None:
        word = _LAUNCH_WORDS.get(task.launch_error.errno, "launch")
        rank = task.failed_rank if is_gang else None
        return End(
            TaskState.FAILED, Reason(word, f"{who}{task.launch_error.reason}", rank=rank), may_retry=True
        )
    if task.failed_first is not None:
        return End(TaskState.FAILED, _why(task.failed_first, who), may_retry=True)
    return End(TaskState.COMPLETED, Reason("exit", f"exit status {task.exit_code}"))


def judge_rank(task: Task, because: str = "") -> End:
    """How an attempt ends whose other ranks are ended because one has failed."""
    end = judge(task)
    reason = msgspec.structs.replace(end.reason, text=f"{end.reason.text}{because}")
    return End(end.state, reason, end.may_retry, is_of_rank=True)


def _how(message: RankExited) -> str:
    if message.signal is not None:
        return f"killed by {signal_name(message.signal)}"
    return f"exit status {message.exit_code}"


def _why(message: RankExited, prefix: str) -> Reason:
    word, how = "exit" if message.signal is None else "signal", _how(message)
    cause, rank = message.cause, message.rank.rank if prefix else None
    if cause is None:
        return Reason(word, f"{prefix}{how}", rank=rank)
    return Reason(
        cause.word,
        f"{prefix}{cause.text} ({how})" if cause.text else f"{prefix}{how}",
        hint=cause.hint,
        rank=rank,
        line=cause.line,
        line_number=cause.line_number,
        offset=cause.offset,
    )


def again(end: End, word: str, text: str) -> Reason:
    """Why a task waits for its next attempt."""
    return msgspec.structs.replace(
        end.reason, word=word, text=f"{end.reason.text}; {text}", after=end.reason.word
    )


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
    who = "; ".join(task.stolen.values())
    text = f"{end.reason.text}; {who}"
    if end.reason.word == "port_in_use" and task.failed_first is not None:
        text = (
            f"{who} ({_how(task.failed_first)})"  # the same, but with the name that the port has in the file
        )
    return End(end.state, msgspec.structs.replace(end.reason, word="port_in_use", text=text), end.may_retry)


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
        case _ if task.launch_error is not None and task.failed_first is None:
            return f"task {name} could not be started: {end.reason.text}"
        case "expression" | "ports":
            return f"task {name} cannot start: {end.reason.text}"
        case "no_output" | "success":
            return f"task {name} did not do what it must: {end.reason.text}"
        case "node_lost":
            return f"task {name}: {end.reason.text}"
        case "timeout" | "not_ready" | "hang":
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
