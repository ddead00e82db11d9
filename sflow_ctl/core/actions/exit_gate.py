"""Decides when an exit counts: once the rank's log has arrived and, for a successful task, outputs and uploads are done.

Tasks that start next may use both. An exit in a fact and one repeated in a hello take the same path.
"""

from protocol.messages.facts import RankExited
from sflow_ctl.core.actions import uploads
from sflow_ctl.core.actions.attempt_ends import count_exit
from sflow_ctl.core.commands import AwaitLog, CollectOutputs
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import LogArrived, OutputsCollected
from sflow_ctl.core.model.attempt import HeldExit
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import LogOverdue, ServerHeard
from sflow_ctl.core.policy import exit_policy, server_failures
from sflow_ctl.core.states import TaskState

LOG_WAIT_S = 30.0
"""How long an exit waits for the rest of a streamed log before it counts without it."""


def on_exited(run: Run, out: Effects, node: int, message: RankExited, now: float) -> None:
    """Take in an exit: hold it until its log is here, if the log is streamed."""
    task = run.current_on(node, message.rank)
    rank = message.rank.rank
    if task is None or rank not in task.attempt.open_ranks or rank in task.attempt.held:
        return
    is_spooled = not run.nodes[node].shares_run_directory
    if message.log_bytes == 0 or not (is_spooled or task.plan.world_size > 1):
        _log_is_here(run, out, task, message, now)
        return
    task.attempt.held[rank] = HeldExit(message, "log")
    out.perform(AwaitLog(rank=message.rank))
    run.timers.set(now + LOG_WAIT_S, LogOverdue(task.index, task.attempt.number, rank))


def on_log_arrived(run: Run, out: Effects, event: LogArrived, now: float) -> None:
    """Continue with an exit whose log has arrived; ignored after the wait is over."""
    if run.is_current(event.rank.attempt):
        _end_log_wait(run, out, run.task_named(event.rank.attempt.task), event.rank.rank, now)


def on_log_overdue(run: Run, out: Effects, task: Task, rank: int, now: float) -> None:
    """Let an exit count without the rest of its log."""
    held = task.attempt.held.get(rank)
    if held is not None and held.awaits == "log":
        out.warn(f"{held.message.rank}: its log did not arrive completely within {LOG_WAIT_S:g} s")
        _end_log_wait(run, out, task, rank, now)


def outputs_found(run: Run, out: Effects, task: Task, now: float) -> None:
    """Collect all values of a task whose agent has found its outputs; without all that it must have its exit counts."""
    attempt, number = task.attempt, task.attempt.number
    for rank, held in list(attempt.held.items()):
        if held.awaits == "files" and task.attempt.number == number:
            has_failed = attempt.output_problem is not None or exit_policy.is_bad(task, held.message)
            if (attempt.items_done or not has_failed) and task.state is not TaskState.STOPPING:
                attempt.held[rank] = HeldExit(held.message, "outputs")
                out.perform(CollectOutputs(task=task.plan.name, attempt=number))
            else:
                del attempt.held[rank]
                count_exit(run, out, task, held.message, now)


def on_outputs_collected(run: Run, out: Effects, event: OutputsCollected, now: float) -> None:
    """Take the values of a task's outputs, and let the exit count that waited for them."""
    task = run.current(event.attempt_id)
    if task is None:
        return
    run.outputs[event.task] = event.values
    run.output_problems[event.task] = event.problems
    for rank, held in list(task.attempt.held.items()):
        if held.awaits == "outputs":
            del task.attempt.held[rank]
            _outputs_are_here(run, out, task, held.message, now)


def release_exits(run: Run, out: Effects, task: Task, now: float) -> None:
    """Let all held exits of an attempt count at once."""
    number = task.attempt.number
    uploads.give_up(out, task)
    task.attempt.finding_on = None
    for rank in sorted(task.attempt.held):
        held = task.attempt.held.pop(rank, None) if task.attempt.number == number else None
        if held is not None:
            count_exit(run, out, task, held.message, now)


def give_up_node(run: Run, out: Effects, task: Task, node: int, now: float) -> None:
    """End the wait for logs and uploads of a node that will not send any more."""
    number = task.attempt.number
    uploads.give_up_node(run, out, task, node, now)
    if task.attempt.finding_on == node:
        from sflow_ctl.core.actions.handover.files import give_up_node as give_up_outputs

        give_up_outputs(run, out, task, now)
    for rank in sorted(task.attempt.ranks_on(node) & task.attempt.held.keys()):
        if task.attempt.number == number:
            _end_log_wait(run, out, task, rank, now)


def _end_log_wait(run: Run, out: Effects, task: Task, rank: int, now: float) -> None:
    held = task.attempt.held.get(rank)
    if held is not None and held.awaits == "log":
        del task.attempt.held[rank]
        _log_is_here(run, out, task, held.message, now)


def _log_is_here(run: Run, out: Effects, task: Task, message: RankExited, now: float) -> None:
    """Collect the outputs of a task whose last rank has exited with success; else the exit counts."""
    attempt = task.attempt
    is_last = attempt.open_ranks == {message.rank.rank}
    is_success = message.exit_code == 0 or not exit_policy.is_bad(task, message)
    has_results = is_success or task.positions is not None
    if task.plan.found and is_last and has_results and task.state is not TaskState.STOPPING:
        from sflow_ctl.core.actions.handover.files import find_outputs  # few tasks have any

        attempt.held[message.rank.rank] = HeldExit(message, "files")
        find_outputs(run, out, task, now)
        return
    if task.plan.has_values and is_last and is_success and task.state is not TaskState.STOPPING:
        attempt.held[message.rank.rank] = HeldExit(message, "outputs")
        out.perform(CollectOutputs(task=task.plan.name, attempt=attempt.number))
        return
    counts_at_once = is_success or task.state is TaskState.STOPPING or run.outcome is not None
    if not counts_at_once and server_failures.may_be_explained(run.tasks, task):
        attempt.held[message.rank.rank] = HeldExit(message, "server", now)
        run.timers.set(
            now + server_failures.MOMENT_S, ServerHeard(task.index, attempt.number, message.rank.rank)
        )
        return
    if is_last and is_success:
        _outputs_are_here(run, out, task, message, now)
    else:
        count_exit(run, out, task, message, now)


def _outputs_are_here(run: Run, out: Effects, task: Task, message: RankExited, now: float) -> None:
    """Upload the files of a task that has exited with success; else the exit counts."""
    is_stopped = task.state is TaskState.STOPPING or run.shutdown.is_forced
    is_stopped = is_stopped or task.attempt.items_done > 0  # of one that has failed
    if is_stopped or not uploads.begin(run, out, task, message, now):
        count_exit(run, out, task, message, now)


def on_server_heard(run: Run, out: Effects, task: Task, rank: int, now: float) -> None:
    """Let a failure count that a server's may have explained."""
    held = task.attempt.held.get(rank)
    if held is not None and held.awaits == "server":
        del task.attempt.held[rank]
        task.attempt.failure_heard_at = held.since
        count_exit(run, out, task, held.message, now)
