"""Judges how an attempt or a task ended, with a sentence.

Pure; `stopping` decides what follows from a verdict.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from signal import Signals

import msgspec

from protocol.messages.checks import HttpCheck, TcpCheck
from protocol.messages.facts import RankExited
from protocol.text.listing import listed
from protocol.text.signal_names import signal_name
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy.dependencies import BY_CONDITION
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState

SHOWN = 3
"""Tasks named in one sentence."""
BOOTSTRAP = "bootstrap"
"""The reason of a rank whose environment could not be set up: its command never began."""
_ENDING_SIGNALS = frozenset({Signals.SIGTERM, Signals.SIGKILL, Signals.SIGINT, Signals.SIGHUP})
"""What ends processes from outside: after one of these a program has not failed by itself."""
_LAUNCH_WORDS = {28: "disk_full", 122: "disk_full", 98: "port_in_use"}
"""Linux' ENOSPC and EDQUOT, when the log of a process could not be made, and EADDRINUSE of a port of the task."""


def note_exit(task: Task, message: RankExited) -> None:
    """Record the effect of a rank's exit on its attempt.

    Of several ranks that fail by themselves, the first is the cause. If clocks do not decide, a signal comes
    before a status and the higher status before the lower.
    """
    task.attempt.has_listened |= message.has_listened
    if is_bad(task, message):
        _note_failure(task, message)
    elif task.attempt.failed_first is None:
        codes = [code for code in (task.attempt.exit_code, message.exit_code) if code is not None]
        task.attempt.exit_code = max(codes)


def _note_failure(task: Task, message: RankExited) -> None:
    begun_ns = task.attempt.started_at_ns.get(message.rank.rank)
    is_timed = begun_ns is not None and not message.was_asked
    at_ns = (begun_ns or 0) + round(message.runtime_s * 1e9) if is_timed else None
    if task.attempt.failed_first is not None and not _comes_before(
        task, task.attempt.failed_first, message, at_ns
    ):
        return
    task.attempt.failed_first, task.attempt.failed_at_ns, task.attempt.failed_rank = (
        message,
        at_ns,
        message.rank.rank,
    )
    task.attempt.signal, task.attempt.exit_code = message.signal, message.exit_code
    if task.attempt.verdict is not None and task.attempt.verdict.is_of_rank:
        task.attempt.verdict = judge_rank(task)


def _comes_before(task: Task, first: RankExited, message: RankExited, at_ns: int | None) -> bool:
    """Return whether this failure came before the known one. One that was ordered comes after all others."""
    if message.was_asked != first.was_asked:
        return first.was_asked
    known_ns = task.attempt.failed_at_ns
    if at_ns is not None and known_ns is not None and at_ns != known_ns:
        return at_ns < known_ns
    if task.attempt.verdict is not None:
        return False  # of several ranks: this one was ended because of the one that failed
    if (message.signal is None) != (first.signal is None):
        return message.signal is not None
    return message.signal is None and (message.exit_code or 0) > (first.exit_code or 0)


def is_bad(task: Task, message: RankExited) -> bool:
    """Return True for a failed rank: by its exit status, or because its `success` conditions do not hold."""
    return message.exit_code not in task.plan.success_exit_codes or message.cause is not None


def judge(task: Task) -> AttemptVerdict:
    """Judge an attempt that ended by itself."""
    is_gang = task.plan.world_size > 1 and task.attempt.failed_rank is not None
    who = f"rank {task.attempt.failed_rank}: " if is_gang else ""
    if task.attempt.launch_error is not None:
        word = _LAUNCH_WORDS.get(task.attempt.launch_error.errno, "launch")
        rank = task.attempt.failed_rank if is_gang else None
        return AttemptVerdict(
            TaskState.FAILED,
            Reason(word, f"{who}{task.attempt.launch_error.reason}", rank=rank),
            may_retry=True,
        )
    if task.attempt.failed_first is not None:
        reason = _with_items(task, _why(task.attempt.failed_first, who))
        if reason.word == BOOTSTRAP:  # the same line would fail again: only `retries` that name it cover it
            return AttemptVerdict(TaskState.FAILED, reason, is_final=task.plan.restart is not None)
        return AttemptVerdict(TaskState.FAILED, reason, may_retry=True)
    if task.attempt.output_problem is not None:
        problem = task.attempt.output_problem
        state = TaskState.LOST if problem.word == "node_lost" else TaskState.FAILED
        return AttemptVerdict(state, _with_items(task, problem), may_retry=True)
    if task.attempt.upload_failure:
        return AttemptVerdict(TaskState.FAILED, Reason("upload", task.attempt.upload_failure))
    return _completed(task.attempt.exit_code)


def _with_items(task: Task, reason: Reason) -> Reason:
    """Return the reason of a failure with how many items of a chunk have their outputs, if some have."""
    done, positions = task.attempt.items_done, task.positions
    if not done or positions is None:
        return reason
    text = f"{reason.text}; {done} of its {len(positions)} items have outputs"
    return msgspec.structs.replace(reason, text=text)


@cache
def _completed(exit_code: int | None) -> AttemptVerdict:
    """Return the verdict that nearly all of 100,000 tasks share."""
    return AttemptVerdict(TaskState.COMPLETED, Reason("exit", f"exit status {exit_code}"))


def judge_rank(task: Task, because: str = "") -> AttemptVerdict:
    """Judge an attempt whose other ranks are stopped because one has failed."""
    end = judge(task)
    reason = msgspec.structs.replace(end.reason, text=f"{end.reason.text}{because}")
    return AttemptVerdict(end.state, reason, end.may_retry, is_of_rank=True, is_final=end.is_final)


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


def again(end: AttemptVerdict, word: str, text: str) -> Reason:
    """Return the reason of a task that waits for its next attempt."""
    return msgspec.structs.replace(
        end.reason, word=word, text=f"{end.reason.text}; {text}", after=end.reason.word
    )


def left_too_early(task: Task, others: Iterable[Task], node_names: Sequence[str]) -> AttemptVerdict | None:
    """Judge a service that exited with success before it was ready, or while `others` still need it; None if it may leave."""
    if not task.attempt.was_ready:
        missing = task.attempt.readiness.text(node_names)
        text = f"exited with status {task.attempt.exit_code} before it was ready"
        text += f": {missing}" if missing else ""
        reason = Reason("not_ready", f"{text} (service exited before readiness)")
        return AttemptVerdict(TaskState.FAILED, reason, may_retry=True)
    if not _must_stay(task):
        return None
    names = sorted({other.plan.name for other in others})
    if not names:
        return None
    shown = listed(names, SHOWN)
    verb = "needs" if len(names) == 1 else "need"
    text = f"exit status {task.attempt.exit_code}, while {shown} still {verb} it"
    return AttemptVerdict(TaskState.FAILED, Reason("exit", text), may_retry=True)


def _must_stay(task: Task) -> bool:
    """Return True for a ready service that serves others; one that only had to do something first has done it.

    It serves if it says so, if it is kept running, or if it has what a server has: GPUs, or a port.
    """
    plan, attempt = task.plan, task.attempt
    checks = (check for probe in plan.probes for check in probe.all_checks)
    has_port = bool(plan.ports) or any(isinstance(check, TcpCheck | HttpCheck) for check in checks)
    is_declared = plan.kind == "service" or plan.restart is not None
    return is_declared or has_port or bool(attempt.gpus) or attempt.has_listened


def with_port_conflict(task: Task, end: AttemptVerdict) -> AttemptVerdict:
    """Return the verdict with the processes that have ports of the attempt named."""
    if (
        not task.attempt.port_conflicts or not end.may_retry or task.attempt.launch_error is not None
    ):  # its text names the port already
        return end
    who = "; ".join(task.attempt.port_conflicts.values())
    text = f"{end.reason.text}; {who}"
    if end.reason.word == "port_in_use" and task.attempt.failed_first is not None:
        text = (
            f"{who} ({_how(task.attempt.failed_first)})"  # the same, but with the port's name from the file
        )
    return AttemptVerdict(
        end.state, msgspec.structs.replace(end.reason, word="port_in_use", text=text), end.may_retry
    )


def cause_of(task: Task, end: AttemptVerdict) -> FirstCause:
    """Return a task's failure as the cause of a failed run."""
    return FirstCause(
        text=cause_text(task, end),
        task=task.plan.name,
        attempt=task.attempt.number,
        node=task.attempt.node_of_cause,
        reason=end.reason,
    )


def cause_text(task: Task, end: AttemptVerdict) -> str:
    """Return the sentence that ends a failed run's output."""
    name = task.plan.name
    match end.reason.word:
        case "probe":
            return f"Failure probe triggered for task {name}: {end.reason.text}"
        case _ if task.attempt.launch_error is not None and task.attempt.failed_first is None:
            return f"task {name} could not be started: {end.reason.text}"
        case "bootstrap":
            return f"task {name} did not begin: {end.reason.text}"
        case "expression" | "ports":
            return f"task {name} cannot start: {end.reason.text}"
        case "no_output" | "success":
            return f"task {name} did not fulfil its success conditions: {end.reason.text}"
        case "upload":
            return f"task {name} has completed, and its upload failed: {end.reason.text}"
        case "node_lost" | "agent_died":
            return f"task {name}: {end.reason.text}"
        case "timeout" | "not_ready" | "hang":
            return f"task {name} {end.reason.text}"
        case _:
            return f"task {name} failed: {end.reason.text}"


def end_while_stopping(outcome: Outcome, task: Task, end: AttemptVerdict) -> AttemptVerdict:
    """Judge an attempt that ended by itself while the run was stopping."""
    is_cancelled = task.attempt.verdict is None or task.attempt.verdict.state is TaskState.CANCELLED
    if outcome is Outcome.FAILED and is_cancelled and _had_failed(task):
        own = judge(task)  # the order to stop had not reached it
        return AttemptVerdict(own.state, own.reason)
    if task.attempt.verdict is not None or end.state is TaskState.COMPLETED:
        return AttemptVerdict(end.state, end.reason)
    if outcome is Outcome.COMPLETED and task.plan.is_service:
        reason = Reason("run_complete", f"{end.reason.text}, while the run was ending")
        return AttemptVerdict(TaskState.COMPLETED, reason)
    return AttemptVerdict(TaskState.CANCELLED, end.reason)


def _had_failed(task: Task) -> bool:
    """Return whether a task's failure was on its way when it was ordered to stop; a signal may have been for it."""
    first = task.attempt.failed_first
    return first is not None and not first.was_asked and first.signal not in _ENDING_SIGNALS


def stopped_by(signal: str) -> tuple[Outcome, FirstCause]:
    """Return the outcome and cause of a run that is stopped by a signal."""
    match signal:
        case "SIGINT":
            return Outcome.INTERRUPTED, FirstCause(text="stopped by SIGINT")
        case "SIGUSR1" | "SIGUSR2":  # signals that are often requested from sbatch and salloc with --signal
            text = f"{signal} announces that the job's time is nearly over"
            return Outcome.TIMEOUT, FirstCause(text=text, reason=Reason("time_limit", text))
        case _:
            return Outcome.TERMINATED, FirstCause(text=f"stopped by {signal}")


def stopped_on_request(by: str) -> tuple[Outcome, FirstCause]:
    """Return the outcome and cause of a run that an operator stops: those of Ctrl-C."""
    return Outcome.INTERRUPTED, FirstCause(text=f"stopped on request of {by}")


def never_started(outcome: Outcome) -> Reason:
    """Return why a task is cancelled that had not started when the run began to stop."""
    match outcome:
        case Outcome.INTERRUPTED | Outcome.TERMINATED:
            return Reason("interrupted", "the run was stopped before it could start")
        case Outcome.COMPLETED:
            return Reason("run_complete", "the run's main tasks had ended")
        case _:
            return Reason("fail_fast", "the run began to stop before it could start")


def run_facts(outcome: Outcome | None, cause: FirstCause | None) -> dict[str, str]:
    """Return the variables of tasks that run at the run's end: how the run ends, and why."""
    return {
        "SFLOW_RUN_OUTCOME": str(outcome) if outcome is not None else "",
        "SFLOW_RUN_CAUSE": cause.text if cause is not None else "",
        "SFLOW_FAILED_TASK": (cause.task or "") if cause is not None else "",
    }


def run_end(task: Task, outcome: Outcome | None, cause: FirstCause | None, is_done: bool) -> AttemptVerdict:
    """Judge a task that is stopped because the run stops; `is_done` when all work was done."""
    text = cause.text if cause is not None else ""
    if is_done and task.plan.is_service:
        return AttemptVerdict(TaskState.COMPLETED, Reason("run_complete", "stopped: everything else is done"))
    match outcome:
        case Outcome.COMPLETED:
            return AttemptVerdict(
                TaskState.CANCELLED, Reason("run_complete", "stopped: the run's main tasks have ended")
            )
        case Outcome.TIMEOUT:
            return AttemptVerdict(
                TaskState.TIMEOUT, Reason("time_limit", "the workflow's time limit was reached")
            )
        case Outcome.INTERRUPTED | Outcome.TERMINATED:
            return AttemptVerdict(TaskState.CANCELLED, Reason("interrupted", text))
        case _:
            return AttemptVerdict(TaskState.CANCELLED, Reason("fail_fast", text))


_DID_NOT_RUN = frozenset({TaskState.SKIPPED, TaskState.CANCELLED})


def main_that_did_not_run(tasks: Sequence[Task]) -> FirstCause | None:
    """Return the cause of a run whose main task was skipped or cancelled; such a run did not succeed."""
    for task in tasks:
        if task.plan.is_main and task.state in _DID_NOT_RUN and not task.plan.removed_in:
            assert task.last_reason is not None
            if task.last_reason.word in BY_CONDITION:
                continue
            text = f"main task {task.plan.name} did not run: {task.last_reason.text}"
            return FirstCause(text=text, task=task.plan.name, reason=task.last_reason)
    return None
