"""Verdicts of attempts that took too long or show no activity, with their messages. Pure."""

from collections.abc import Sequence

from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy.explanations import waits_for
from sflow_ctl.core.states import FirstCause, Reason, TaskState
from sflow_ctl.plan.log_paths import side_log_path
from sflow_ctl.plan.model import Plan


def timed_out(task: Task, names: Sequence[str]) -> AttemptVerdict:
    """Judge an attempt whose `timeout` is over. `names` are those of all nodes."""
    what = "was not ready" if task.plan.is_service else "did not end"
    text = f"{what} within its timeout of {task.plan.timeout_s:g} s{_because(task, names)}"
    return AttemptVerdict(TaskState.TIMEOUT, Reason("timeout", text), may_retry=True)


def timed_out_in_total(task: Task, names: Sequence[str]) -> AttemptVerdict:
    """Judge an attempt in which the time of all attempts of its task is over: no other one follows."""
    total_s = task.plan.retries.total_s
    text = f"did not end within its total_timeout of {total_s:g} s for all attempts{_because(task, names)}"
    return AttemptVerdict(TaskState.TIMEOUT, Reason("timeout", text), may_retry=False, is_final=True)


def found_no_place(task: Task) -> Reason:
    """Return why a task is not started that has waited for a free place for too long."""
    text = f"found no free place within its queue_timeout of {task.plan.retries.queue_s:g} s"
    return Reason(
        "timeout",
        text,
        hint="wait longer, or free GPUs, CPUs or memory: sflow-ctl explain says what it waits for",
    )


def not_ready_in_time(task: Task, names: Sequence[str], part: int, *, is_final: bool) -> AttemptVerdict:
    """Judge an attempt one of whose readiness probes was not true within its deadline.

    `is_final`: no other attempt may follow.
    """
    limits = task.plan.deadlines_s
    whose = (
        "its deadline"
        if len(limits) == 1
        else f"the deadline of readiness probe {part + 1} of {len(limits)},"
    )
    of = " of" if len(limits) == 1 else ""
    text = f"was not ready within {whose}{of} {limits[part]:g} s{_because(task, names)}"
    text += " (readiness probe timed out; a longer `timeout` in the probe gives it more time)"
    reason = Reason("not_ready", text)
    return AttemptVerdict(TaskState.TIMEOUT, reason, may_retry=not is_final, is_final=is_final)


def ranks_ran_on(task: Task) -> AttemptVerdict:
    """Judge an attempt whose other ranks did not end in time after the first one."""
    many = len(task.attempt.open_ranks)
    text = f"{many} ranks continued for more than {task.plan.wait_s:g} s after the first had ended"
    return AttemptVerdict(TaskState.FAILED, Reason("timeout", text), may_retry=True)


def _because(task: Task, names: Sequence[str]) -> str:
    missing = waits_for(task, names)
    return f": {missing}" if missing else ""


def hang(task: Task) -> AttemptVerdict | None:
    """Judge an attempt whose ranks are all inactive; None while one is active, or without a hang policy."""
    watch = task.plan.hang
    if watch is None or task.state not in (TaskState.RUNNING, TaskState.READY):
        return None
    if task.state is TaskState.READY and task.plan.is_service and not watch.is_always:
        return None  # it may have had no requests
    kinds = (
        ("output", f"it has printed nothing for {watch.no_output_s:g} s" if watch.no_output_s else ""),
        ("gpus", f"it has not used its GPUs for {watch.no_gpu_use_s:g} s" if watch.no_gpu_use_s else ""),
    )
    for kind, text in kinds:
        if task.attempt.open_ranks and task.attempt.open_ranks <= task.attempt.idle.get(kind, set()):
            where = f"; see {side_log_path(task.plan.name, 'hang')}" if watch.command is not None else ""
            return AttemptVerdict(TaskState.TIMEOUT, Reason("hang", f"hangs: {text}{where}"), may_retry=True)
    return None


def stalled_s(task: Task) -> float | None:
    """Return the limit of silence that all ranks of an attempt have reached; None while one prints, or without a limit."""
    watch, attempt = task.plan.hang, task.attempt
    if watch is None or watch.stalled_s is None or task.state not in (TaskState.RUNNING, TaskState.READY):
        return None
    if task.state is TaskState.READY and task.plan.is_service:
        return None  # it may have had no requests
    is_silent = attempt.open_ranks and attempt.open_ranks <= attempt.idle.get("progress", set())
    return watch.stalled_s if is_silent else None


REST_S = 30.0
"""Of the time before the job's end that a workflow keeps for saving: services, final tasks and agents still have to end."""


def grace_s(plan: Plan, cause: FirstCause | None, task: Task) -> float:
    """Return the seconds that a task has after its stop signal; at the end of the job's time as long as its workflow says."""
    own = task.plan.stopping.grace_s
    is_job_end = cause is not None and cause.reason is not None and cause.reason.word == "time_limit"
    if plan.stop_before_end_s is None or not is_job_end or task.plan.is_service or task.plan.finally_when:
        return own
    return max(own, plan.stop_before_end_s - REST_S)
