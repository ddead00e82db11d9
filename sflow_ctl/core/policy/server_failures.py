"""Whether a task failed because a service that it needs did, moments before or after: then it is not its own failure. Pure.

The exits of a server and of its clients are reported in any order, so the failure of a client counts a moment later if a
server of it may be started again (`actions.exit_gate`).
"""

from collections.abc import Iterator, Sequence

from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.task import NEEDS_IT_ALIVE, Task
from sflow_ctl.core.states import LIVE, Reason, TaskState

MOMENT_S = 0.5
"""How much later than the failure of its client that of a server may be heard of."""
_COMES_BACK = frozenset(
    {TaskState.WAITING, TaskState.QUEUED, TaskState.STARTING, TaskState.RUNNING, TaskState.READY}
)


def may_be_explained(tasks: Sequence[Task], task: Task) -> bool:
    """Return whether the failure of a task may be that of a service that still seems to run, and would be started again."""
    return any(
        server.state in LIVE and server.down_since is None and _has_another_attempt(server)
        for server in _servers(tasks, task)
    )


def explained(
    tasks: Sequence[Task], task: Task, verdict: AttemptVerdict, exited_at: float
) -> AttemptVerdict | None:
    """Judge a failed task whose server failed at about the same time, or is not back yet; None if none did."""
    if verdict.state is not TaskState.FAILED or not verdict.may_retry:
        return None
    for server in _servers(tasks, task):
        down_since = server.down_since
        if down_since is None or down_since < task.started_after or server.state not in _COMES_BACK:
            continue
        if not server.is_serving or down_since >= exited_at - MOMENT_S:
            text = f"{verdict.reason.text}, when {server.plan.name}, which it needs, had failed"
            return AttemptVerdict(TaskState.CANCELLED, Reason("restart", text), is_repeated=True)
    return None


def _has_another_attempt(server: Task) -> bool:
    return server.plan.restart is not None or server.retries_used < server.plan.retries.count


def _servers(tasks: Sequence[Task], task: Task) -> Iterator[Task]:
    """Yield the services without which too few would serve what the task needs."""
    for requirement in task.needs:
        if requirement.until not in NEEDS_IT_ALIVE:
            continue
        for index in requirement.members:
            server = tasks[index]
            if server.plan.is_service and requirement.serving - server.is_serving < requirement.needed:
                yield server
