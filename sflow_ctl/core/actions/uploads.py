"""Uploads of a task that has exited with success: begun, repeated in new sessions, ended early, and counted.

`exit_gate` begins them; the exit is held until all nodes have answered.
"""

from protocol.messages.facts import RankExited, Uploaded, Uploading
from protocol.messages.orders import UploadFiles
from protocol.messages.uploads import UploadOutcome, UploadProblem
from protocol.text.counted import counted
from sflow_ctl.core import rendering
from sflow_ctl.core.actions.attempt_ends import count_exit
from sflow_ctl.core.actions.stop_orders import send_stop
from sflow_ctl.core.commands import RecordUploads, RecordWaiting
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import HeldExit
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import TimeoutDue
from sflow_ctl.core.policy import dependencies, exit_policy, upload_outcomes
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.deferred import needs_rendering


def begin(run: Run, out: Effects, task: Task, message: RankExited, now: float) -> bool:
    """Order the uploads of a task whose last rank has exited with success; return whether there are any to wait for."""
    attempt = task.attempt
    if not task.plan.uploads or not _is_success(run, task, message):
        return False
    nodes = [node for node in _nodes_with_files(run, task) if not run.nodes[node].is_gone]
    attempt.held[message.rank.rank] = HeldExit(message, "uploads")
    attempt.uploading = set(nodes)
    if not nodes:
        attempt.upload_outcomes.append(_not_done(task, "the node that has its files is lost"))
        _finish(run, out, task, now)
        return True
    _say(out, task, f"{counted(len(task.plan.uploads), 'upload')} begun")
    if task.attempt.filled is None and needs_rendering(task.plan):  # an attempt without processes
        rendering.begin(run, out, task)
        return True
    for node in nodes:
        if run.nodes[node].is_up:
            out.send(node, _order(run, task))
    return True


def repeat(run: Run, out: Effects, node: int, now: float) -> None:
    """Order again what an agent has not answered, which has a new session or was restarted; or what a resumed run begins with."""
    for index in sorted(run.nodes[node].live):
        task = run.tasks[index]
        if node in task.attempt.uploading:
            _limit(run, task, now)
            if task.attempt.filled is None and needs_rendering(task.plan):  # an attempt without processes
                rendering.begin(run, out, task)
                continue
            _send(run, out, task, node)


def on_rendered(run: Run, out: Effects, task: Task, problem: str, now: float) -> None:
    """Order the uploads of an attempt without processes, whose deferred values are known now, or cannot be.

    Ports that they name are not leased again.
    """
    for node in sorted(task.attempt.uploading):
        if problem:
            _answered(run, out, task, node, _not_done(task, problem), now)
        elif run.nodes[node].is_up:
            _send(run, out, task, node)


def _send(run: Run, out: Effects, task: Task, node: int) -> None:
    out.send(node, _order(run, task))
    if task.attempt.is_stop_sent:  # it may not have known what to stop
        send_stop(run, out, task)


def on_fact(run: Run, out: Effects, node: int, message: Uploading | Uploaded, now: float) -> None:
    """Show how far an agent is, or take in what became of the uploads of its node; with the last one the exit counts."""
    task = run.current(message.attempt)
    if task is None:
        return
    if node not in task.attempt.uploading:
        run.foreign_messages += 1
    elif isinstance(message, Uploading):
        _say(out, task, message.text)
    else:
        _answered(run, out, task, node, message.outcome, now)


def give_up_node(run: Run, out: Effects, task: Task, node: int, now: float) -> None:
    """Count the uploads of a lost node as not done."""
    if node in task.attempt.uploading:
        text = f"node {run.node_names[node]} was lost before its uploads were done"
        _answered(run, out, task, node, _not_done(task, text), now)


def give_up(out: Effects, task: Task) -> None:
    """Count the uploads that are in progress as not done: the run is forced to its end."""
    if task.attempt.uploading:
        task.attempt.uploading.clear()
        task.attempt.upload_outcomes.append(
            _not_done(task, "its uploads were not done when the run was killed")
        )
        _record(out, task)


# ---------------------------------------------------------------------- details


def _is_success(run: Run, task: Task, message: RankExited) -> bool:
    """Return whether the task will have completed, as far as its ranks are concerned."""
    attempt = task.attempt
    if attempt.failed_first is not None or attempt.launch_error is not None or attempt.verdict is not None:
        return False
    if not task.plan.is_service or run.plan.services_may_leave or run.is_ending_for(task):
        return True
    attempt.has_listened |= message.has_listened
    needers = dependencies.needers(run.tasks, task)
    return exit_policy.left_too_early(task, needers, run.node_names) is None


def _nodes_with_files(run: Run, task: Task) -> list[int]:
    """Return the first of the nodes that share the run directory, and all that have one of their own; those of a step, too."""
    nodes = list(dict.fromkeys(task.attempt.places))
    sharing = [node for node in nodes if run.nodes[node].shares_run_directory]
    return [node for node in nodes if node in sharing[:1] or node not in sharing]


def _limit(run: Run, task: Task, now: float) -> None:
    """Begin the time of an attempt that only uploads."""
    attempt = task.attempt
    if attempt.started_at is None:
        attempt.started_at = now
        if task.plan.timeout_s is not None:
            run.timers.set(now + task.plan.timeout_s, TimeoutDue(task.index, attempt.number))


def _order(run: Run, task: Task) -> UploadFiles:
    """Return the order for each node."""
    planned = task.attempt.filled or task.plan
    used = {one.target for one in planned.uploads}
    return UploadFiles(
        attempt=task.attempt_id,
        directory=planned.environment["SFLOW_TASK_OUTPUT_DIR"],
        files=planned.uploads,
        targets=tuple(target for target in run.plan.storage if target.name in used),
    )


def _answered(run: Run, out: Effects, task: Task, node: int, outcome: UploadOutcome, now: float) -> None:
    task.attempt.uploading.discard(node)
    task.attempt.upload_outcomes.append(outcome)
    if not task.attempt.uploading:
        _finish(run, out, task, now)


def _finish(run: Run, out: Effects, task: Task, now: float) -> None:
    attempt, number = task.attempt, task.attempt.number
    _record(out, task)
    for rank, held in list(attempt.held.items()):
        if held.awaits == "uploads" and task.attempt.number == number:
            del attempt.held[rank]
            count_exit(run, out, task, held.message, now)


def _record(out: Effects, task: Task) -> None:
    outcome = upload_outcomes.merged(task.attempt.upload_outcomes)
    task.attempt.upload_failure = upload_outcomes.failure(outcome)
    out.perform(RecordUploads(task=task.plan.name, attempt=task.attempt.number, outcome=outcome))


def _not_done(task: Task, text: str) -> UploadOutcome:
    is_failure = any(one.on_error == "fail" for one in task.plan.uploads)
    return UploadOutcome(problems=(UploadProblem(text=text, is_failure=is_failure),))


def _say(out: Effects, task: Task, text: str) -> None:
    if task.state in (TaskState.RUNNING, TaskState.READY):
        out.perform(
            RecordWaiting(task=task.plan.name, attempt=task.attempt.number, text=text, what="uploads")
        )
