"""What follows when an agent reports that a GPU of its node is lost: no task gets it any more, and those on it end."""

from protocol.messages.facts import GpuLost
from sflow_ctl.core.actions.stopping import stop_task
from sflow_ctl.core.actions.transitions import release
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy import explanations
from sflow_ctl.core.states import LIVE, Reason, TaskState

MAX_GPUS = 1024
"""Of a node, instances included: an index beyond it is not one."""


def on_gpu_lost(run: Run, out: Effects, node: int, message: GpuLost, now: float) -> None:
    """Take a GPU out of the ledger, and end the attempts that use it; a repeated report changes nothing."""
    gpu = message.gpu
    if not 0 <= gpu < MAX_GPUS:
        run.foreign_messages += 1
        return
    if not run.ledger.lose(node, gpu):
        return
    name = run.node_names[node]
    out.warn(explanations.gpu_lost(name, gpu, message.text))
    for index in sorted(run.nodes[node].reserved):
        task = run.tasks[index]
        if _has(task, node, gpu):
            release(run, task)
            if task.state is TaskState.QUEUED:
                run.queue.push(index)
    reason = Reason("gpu_lost", f"GPU {gpu} of node {name} was lost: {message.text}")
    for index in sorted(run.nodes[node].live):
        task = run.tasks[index]
        if task.state in LIVE and task.state is not TaskState.STOPPING and _has(task, node, gpu):
            stop_task(run, out, task, AttemptVerdict(TaskState.FAILED, reason, may_retry=True), now)
    run.queue.retry_all()


def _has(task: Task, node: int, gpu: int) -> bool:
    """Return whether the task's place has the GPU."""
    placement = task.attempt.placement
    return placement is not None and node in placement.nodes and gpu in placement.gpus
