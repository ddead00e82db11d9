"""Plans what the end of a task means for it and for the run: retries, restarts, failures that count, how it is stopped.

Also the fields beside these that replicas share: what the console shows of them, and what they need of their nodes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from protocol.messages.rank_spec import Stopping
from sflow_ctl.format import schema
from sflow_ctl.plan.model import FinallyWhen
from sflow_ctl.plan.parts.again import Quorum, Restart, Retries
from sflow_ctl.plan.parts.needs import HostNeeds
from sflow_ctl.plan.words import OnFailure, OnNodeLost, Shown
from sflow_ctl.planner.fields import LABEL_NAME, LABEL_RULE, number
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_bytes, as_count, as_flag, as_int, as_seconds
from sflow_ctl.planner.phases.graph import Expanded, has_quorum
from sflow_ctl.planner.source import PlanInput
from sflow_ctl.planner.tasks.stopping import plan_stopping

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")
FINALLY_TIMEOUT_S = 60.0
"""The timeout of a task at the end of the run that has none in the file: a run must end."""


WATCHED_AGAIN = 3
"""How often work elsewhere is watched again after a fault of the watcher's node: no work is lost or done again."""


class EndPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a planned task about its end. Meanings: `PlannedTask`."""

    retries: Retries
    timeout_s: float | None
    kind: Literal["task", "service"] | None
    is_main: bool
    on_failure: OnFailure
    on_node_lost: OnNodeLost | None
    restart: Restart | None
    is_log_direct: bool
    console: Shown
    needs: HostNeeds | None
    success_exit_codes: tuple[int, ...]
    finally_when: FinallyWhen | None
    min_ready: int | None
    quorum: Quorum | None
    stopping: Stopping
    labels: tuple[tuple[str, str], ...]


def end_policy(
    source: PlanInput,
    task: schema.Task,
    expanded: Expanded,
    stopping: Stopping,
    value: Callable[[Any], Any],
    *,
    has_spares: bool,
    is_elsewhere: bool,
) -> EndPolicy:
    """Plan the end of a task's copies, which are of `expanded`.

    `stopping` is the workflow's default, `has_spares` says that its backend has spare nodes, `is_elsewhere`
    that its work is done elsewhere and only watched.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    retries = _retries(task, value, usual_faults(task, source, is_elsewhere=is_elsewhere))
    if task.total_timeout is not None and source.rules.has_time_limits:
        retries = msgspec.structs.replace(retries, total_s=_total_s(task, value))
    if task.queue_timeout is not None and source.rules.has_time_limits:
        queue_s = _read(task, ("queue_timeout",), as_seconds, value(task.queue_timeout)) or None
        retries = msgspec.structs.replace(retries, queue_s=queue_s)
    return EndPolicy(
        retries=retries,
        timeout_s=_timeout_s(task, source.rules.has_time_limits, value),
        kind=task.kind,
        is_main=_read(task, ("main",), as_flag, value(task.main)),
        on_failure=_on_failure(
            task, source.document.workflow, expanded.cells is not None or expanded.foreach is not None, value
        ),
        on_node_lost=on_node_lost(task, source.document.workflow, has_spares=has_spares),
        restart=_restart(task, value),
        is_log_direct=task.log == "direct",
        console="errors" if task.console == "errors" else "all" if task.console else "none",
        needs=_host_needs(task, value),
        success_exit_codes=_exit_codes(task, value),
        finally_when=_finally_when(task),
        min_ready=_min_ready(task, len(expanded.replicas), value),
        quorum=_quorum(task, expanded, value),
        stopping=plan_stopping(task, stopping, value),
        labels=_labels(task, value),
    )


def _read(
    task: schema.Task, path: tuple[str | int, ...], convert: Callable[..., T], value: Any, *limits: int
) -> T:
    return number(f'task "{task.name}"', path, convert, value, *limits)


def usual_faults(task: schema.Task, source: PlanInput, *, is_elsewhere: bool) -> int:
    """Return how often a task that says nothing is tried again after faults of nodes: services have `restart` for that."""
    if is_elsewhere:
        return WATCHED_AGAIN
    return 0 if task.is_service or task.restart is not None else source.rules.fault_attempts


def _retries(task: schema.Task, value: Callable[[Any], Any], infra_count: int) -> Retries:
    avoids_nodes = infra_count > 0
    if task.retries is None:
        return Retries(infra_count=infra_count, avoids_nodes=avoids_nodes)
    written, codes = task.retries, task.retries.exit_codes or schema.RetryCodes()
    longest = None
    if written.max_interval is not None:
        longest = _read(task, ("retries", "max_interval"), as_seconds, value(written.max_interval))
    transient = _retry_codes(task, "retry", codes.retry, Retries().transient_codes, value)
    fatal = _retry_codes(task, "fatal", codes.fatal, Retries().fatal_codes, value)
    if codes.fatal is None:
        fatal = tuple(code for code in fatal if code not in transient)
    if codes.retry is None:
        transient = tuple(code for code in transient if code not in fatal)
    if both := sorted({*transient} & {*fatal}):
        what = f'task "{task.name}": exit status {both[0]} is both retried and fatal'
        path = ("retries", "exit_codes")
        raise UnplannableError("conflicting-keys", what, "drop it from one of the lists", path)
    return Retries(
        count=_read(task, ("retries", "count"), as_int, value(task.retries.count), 0),
        interval_s=_read(task, ("retries", "interval"), as_seconds, value(task.retries.interval)),
        backoff=float(_read(task, ("retries", "backoff"), as_int, value(task.retries.backoff), 1)),
        max_interval_s=longest,
        reasons=None if written.reasons is None else tuple(str(value(word)) for word in written.reasons),
        transient_codes=transient,
        fatal_codes=fatal,
        infra_count=infra_count
        if written.infra_count is None
        else _read(task, ("retries", "infra_count"), as_int, value(written.infra_count), 0),
        avoids_nodes=avoids_nodes
        if written.avoid_node is None
        else _read(task, ("retries", "avoid_node"), as_flag, value(written.avoid_node)),
    )


def _retry_codes(
    task: schema.Task,
    name: str,
    written: list[Any] | None,
    usual: tuple[int, ...],
    value: Callable[[Any], Any],
) -> tuple[int, ...]:
    """Return the statuses of a list, the usual ones without a list."""
    if written is None:
        return usual
    codes = []
    for index, one in enumerate(written):
        path = ("retries", "exit_codes", name, index)
        code = _read(task, path, as_int, value(one), 1)
        if code > 255:
            what = f'task "{task.name}": exit status {code} does not exist, the highest is 255'
            raise UnplannableError("wrong-value", what, path=path)
        codes.append(code)
    return tuple(codes)


def _timeout_s(task: schema.Task, has_time_limits: bool, value: Callable[[Any], Any]) -> float | None:
    if task.timeout is None and task.finally_:
        return FINALLY_TIMEOUT_S
    if task.timeout is None or not has_time_limits:
        return None
    return _read(task, ("timeout",), as_seconds, value(task.timeout)) or None  # 0 means no limit, as in Slurm


def _total_s(task: schema.Task, value: Callable[[Any], Any]) -> float | None:
    if task.is_service:
        what = f'task "{task.name}" has total_timeout, and is a service, which does not end by itself'
        hint = "timeout is the time in which it must become ready"
        raise UnplannableError("conflicting-keys", what, hint, ("total_timeout",))
    return _read(task, ("total_timeout",), as_seconds, value(task.total_timeout)) or None


def _on_failure(
    task: schema.Task, workflow: schema.Workflow, is_one_of_many: bool, value: Callable[[Any], Any]
) -> OnFailure:
    """Return what a failure means for the run; that of one cell of a sweep, or of one item, ends no other."""
    return (
        (task.on_failure or workflow.on_failure or ("isolate" if is_one_of_many else "cancel"))
        if _read(task, ("critical",), as_flag, value(task.critical))
        else "continue"
    )


def on_node_lost(task: schema.Task, workflow: schema.Workflow, *, has_spares: bool) -> OnNodeLost | None:
    """Return what the loss of a node means for a task; None leaves it to its retries and restarts."""
    return task.on_node_lost or workflow.on_node_lost or ("elsewhere" if has_spares else None)


def _restart(task: schema.Task, value: Callable[[Any], Any]) -> Restart | None:
    if task.restart is None:
        return None
    restart = schema.Restart(policy=task.restart) if isinstance(task.restart, str) else task.restart
    return Restart(
        policy=restart.policy,
        count=_read(task, ("restart", "max"), as_int, value(restart.max), 0),
        backoff_s=_read(task, ("restart", "backoff"), as_seconds, value(restart.backoff)),
        window_s=None
        if restart.window is None
        else _read(task, ("restart", "window"), as_seconds, value(restart.window)),
        restarts_dependents=restart.dependents == "restart",
    )


def _host_needs(task: schema.Task, value: Callable[[Any], Any]) -> HostNeeds | None:
    resources = task.resources
    if resources is None or (resources.cpus is None and resources.memory is None):
        return None
    cpus = memory = 0
    problems: list[UnplannableError] = []
    try:
        if resources.cpus is not None:
            cpus = _read(task, ("resources", "cpus"), as_count, value(resources.cpus), 0)
    except UnplannableError as problem:
        problems.append(problem)
    try:
        if resources.memory is not None:
            memory = _read(task, ("resources", "memory"), as_bytes, value(resources.memory))
    except UnplannableError as problem:
        problems.append(problem)
    if problems:
        problems[0].others = tuple(problems[1:])
        raise problems[0]
    return HostNeeds(cpus=cpus, memory_bytes=memory) if cpus or memory else None


def _labels(task: schema.Task, value: Callable[[Any], Any]) -> tuple[tuple[str, str], ...]:
    for name in task.labels:
        if not LABEL_NAME.match(name):
            what = f'task "{task.name}": "{name}" is not a name for a label'
            raise UnplannableError("label", what, LABEL_RULE, ("labels",))
    return tuple((name, str(value(text))) for name, text in task.labels.items())


def _exit_codes(task: schema.Task, value: Callable[[Any], Any]) -> tuple[int, ...]:
    codes = {0}
    for index, written in enumerate(task.success_exit_codes):
        code = _read(task, ("success_exit_codes", index), as_int, value(written), 0)
        if code > 255:
            what = f'task "{task.name}": exit status {code} does not exist, the highest is 255'
            raise UnplannableError("wrong-value", what, path=("success_exit_codes", index))
        codes.add(code)
    return tuple(sorted(codes))


def _finally_when(task: schema.Task) -> FinallyWhen | None:
    if task.finally_ is True:
        return "after_stop"
    return task.finally_ or None


def _min_ready(task: schema.Task, replicas: int, value: Callable[[Any], Any]) -> int | None:
    written = task.replicas.min_ready if task.replicas is not None else None
    if written is None:
        return None
    count = _read(task, ("replicas", "min_ready"), as_int, value(written), 1)
    if count > replicas:
        what = f'task "{task.name}": min_ready is {count}, and there are {replicas} replicas'
        raise UnplannableError("wrong-value", what, path=("replicas", "min_ready"))
    return count


def _quorum(task: schema.Task, expanded: Expanded, value: Callable[[Any], Any]) -> Quorum | None:
    written = task.success
    if written is None or not has_quorum(task):
        return None
    count = expanded.item_count
    subject, path = f'task "{task.name}"', ("success",)
    if not expanded.is_replicated or expanded.is_sequential or task.is_service or task.finally_:
        what = f"{subject}: min_count and min_ratio are for tasks with copies that run side by side and end"
        raise UnplannableError("conflicting-keys", what, "add replicas, or drop them", path)
    needed = 0
    if written.min_count is not None:
        needed = _read(task, ("success", "min_count"), as_int, value(written.min_count), 0)
    ratio = None
    if written.min_ratio is not None:
        ratio = _ratio(value(written.min_ratio), subject)
        needed = max(needed, -int(-ratio * count // 1))
    if expanded.is_late:
        return Quorum(
            needed=1,  # the task that stands for the copies
            stops_if_unreachable=written.when_unreachable == "stop",
            stops_when_reached=written.when_reached == "stop",
            min_count=0 if written.min_count is None else as_int(value(written.min_count)),
            min_ratio="" if written.min_ratio is None else str(ratio),
        )
    if needed > count:
        what = f"{subject}: {needed} copies must complete, and there are {count}"
        raise UnplannableError("wrong-value", what, path=("success", "min_count"))
    return Quorum(
        needed=needed,
        stops_if_unreachable=written.when_unreachable == "stop",
        stops_when_reached=written.when_reached == "stop",
    )


def _ratio(written: Any, subject: str) -> "Fraction":
    from fractions import Fraction  # exact: 0.07 of 100 copies are 7

    try:
        ratio = Fraction(str(written))
    except (ValueError, ZeroDivisionError):
        ratio = Fraction(-1)
    if not 0 <= ratio <= 1:
        what = f"{subject}: min_ratio must be from 0 to 1, is {written}"
        raise UnplannableError("wrong-value", what, "e.g. 0.9", ("success", "min_ratio"))
    return ratio
