"""Stops the services of a sweep's cells whose other tasks have all ended, so that their places are free for the next cells.

Called by the reactor after each event.
"""

from sflow_ctl.core.actions.stopping import following, stop_task
from sflow_ctl.core.actions.transitions import change, give_up_reservation, send_leases
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.port_leases import needs_leases
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TERMINAL, Reason, TaskState

_DONE = AttemptVerdict(
    TaskState.COMPLETED, Reason("cell_complete", "stopped: all else of its cell is done"), is_final=True
)
_NEVER = Reason("cell_complete", "all else of its cell has ended")


def stop_services(run: Run, out: Effects, now: float) -> None:
    """Stop the services that no task of their cell needs any more."""
    for index in run.cells.take_done():
        task = run.tasks[index]
        if task.state in TERMINAL:
            continue
        if task.state in (TaskState.WAITING, TaskState.QUEUED):
            _withdraw(run, out, task)
        elif task.state is not TaskState.STOPPING:
            stop_task(run, out, task, _DONE, now)
        elif task.attempt.verdict is not None and following(run, task, task.attempt.verdict, now) is not None:
            task.attempt.verdict = _DONE


def _withdraw(run: Run, out: Effects, task: Task) -> None:
    give_up_reservation(run, task)
    if task.attempt.number and needs_leases(task.plan):
        send_leases(run, out, run.leases.ended(task))
    state = TaskState.CANCELLED if task.attempt.number else TaskState.SKIPPED
    change(run, out, task, state, _NEVER)
