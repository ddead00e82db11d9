"""Handles each event and each timer of a run. Called by `Scheduler.handle`; the effects are in `actions`."""

from typing import assert_never

from protocol.ids import RankId
from protocol.messages.facts import (
    AgentSuspended,
    CheckpointFound,
    Ending,
    FromAgent,
    Goodbye,
    GpuLost,
    Hello,
    InputsChecked,
    Inspected,
    LaunchFailed,
    Leased,
    LifeConfirmed,
    LogSearch,
    Measured,
    NodeDescribed,
    Notice,
    OutputsFound,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankIdle,
    RankStarted,
    Sampled,
    SideCommandEnded,
    Terminated,
    Uploaded,
    Uploading,
)
from sflow_ctl.core.actions import uploads
from sflow_ctl.core.actions.attempt_ends import note_inactivity, on_cleared, on_launch_failed, stop_if_hung
from sflow_ctl.core.actions.dispatch import fail_if_kept_out, on_leased, start_queued, warn_if_stuck
from sflow_ctl.core.actions.exit_gate import on_exited
from sflow_ctl.core.actions.job_time import on_job_end_near, on_job_ending
from sflow_ctl.core.actions.reconciliation import accept_agent, on_agent_ending, on_agent_lost, reconcile_node
from sflow_ctl.core.actions.shutdown import (
    advance,
    end_branch,
    on_finals_over,
    on_stop_timeout,
    send_leave,
    stop_run,
)
from sflow_ctl.core.actions.stopping import begin_stop, lift_fence, stop_task
from sflow_ctl.core.actions.transitions import change, send_leases, skip_unsatisfiable
from sflow_ctl.core.cell_ends import stop_services
from sflow_ctl.core.commands import AbandonNode, RecordWaiting
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import AgentJoined, OperatorRequest, RecordUnwritable, StopRequested
from sflow_ctl.core.limits import ask_again, on_attempt_timer, on_confirmed, release_limits
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import (
    AllocationEnding,
    FenceOver,
    FinalsOver,
    JobEndNear,
    LeaveOverdue,
    StopTimeout,
    Timer,
    WorkflowTimeout,
)
from sflow_ctl.core.policy import exit_policy, explanations
from sflow_ctl.core.states import STARTED, FirstCause, Outcome, Reason, TaskState

# ---------------------------------------------------------------------- events


def on_joined(run: Run, out: Effects, event: AgentJoined, now: float) -> None:
    """Take in an agent's hello: the complete state of its node."""
    hello = event.hello
    if run.nodes[hello.node].is_gone:
        out.perform(AbandonNode(node=hello.node, reason="the run continues without this node"))
        return
    is_restarted = accept_agent(run, out, hello, event.clock_ahead_ns, now)
    for live in hello.live:
        started = RankStarted(rank=live.rank, pid=live.pid, started_at_ns=live.started_at_ns)
        on_message(run, out, hello.node, started, now)
    for fact in hello.triggered + hello.quiet + hello.exited + hello.lost_gpus:
        on_message(run, out, hello.node, fact, now)
    send_leases(run, out, run.leases.node_joined(hello.node, is_restarted))
    reconcile_node(run, out, hello, is_restarted=is_restarted, now=now)
    uploads.repeat(run, out, hello.node, now)
    ask_again(run, out, hello.node)
    if run.seeking or run.handing:
        from sflow_ctl.core.actions.handover.answers import repeat_file_orders

        repeat_file_orders(run, out, hello.node)
    if run.phase is RunPhase.LEAVING:
        send_leave(run, out, hello.node)
    if run.awaited:  # of 1,000 tasks on 1,000 nodes each is tried once, not at each join
        run.queue.retry_on(hello.node)
    else:
        run.queue.retry_all()


def on_fact(run: Run, out: Effects, node: int, message: FromAgent, now: float) -> None:
    """Take in a fact from an agent, unless its node was given up: what ran there is judged already."""
    if run.nodes[node].is_gone:
        run.stale_messages += 1
    else:
        on_message(run, out, node, message, now)


def on_message(run: Run, out: Effects, node: int, message: FromAgent, now: float) -> None:
    """Take in a fact from an agent, which counts only if it is about a rank of that agent's node."""
    _answer_order(run, node, message)
    match message:
        case RankStarted():
            _on_started(run, out, node, message, now)
        case RankExited():
            on_exited(run, out, node, message, now)
        case RankCleared():
            on_cleared(run, out, node, message, now)
        case LaunchFailed():
            on_launch_failed(run, out, node, message, now)
        case ProbeTriggered() | ProbeWaiting():
            _on_probe(run, out, node, message, now)
        case Leased():
            on_leased(run, out, node, message, now)
        case CheckpointFound() | OutputsFound() | InputsChecked():
            from sflow_ctl.core.actions.handover.answers import on_file_answer  # few tasks have any

            on_file_answer(run, out, node, message, now)
        case Uploading() | Uploaded():
            uploads.on_fact(run, out, node, message, now)
        case RankIdle() | GpuLost() | AgentSuspended() | LifeConfirmed():
            _on_trouble(run, out, node, message, now)
        case Ending() | Goodbye():
            _on_leaving(run, out, node, message, now)
        case (
            NodeDescribed()
            | Inspected()
            | LogSearch()
            | Notice()
            | Hello()
            | Sampled()
            | Measured()
            | SideCommandEnded()
            | Terminated()
        ):
            pass  # for the shell and for people; hellos arrive as AgentJoined, terminations as JobEnding
        case _:
            assert_never(message)


def on_asked(run: Run, out: Effects, event: StopRequested | OperatorRequest, now: float) -> None:
    """Do what a person asks for: by a signal, or as an operator of the run."""
    if isinstance(event, OperatorRequest):
        from sflow_ctl.core.actions.requested.requests import on_request  # few runs have operators

        on_request(run, out, event, now)
    else:
        _on_stop_requested(run, out, event, now)


def _on_leaving(run: Run, out: Effects, node: int, message: Ending | Goodbye, now: float) -> None:
    if isinstance(message, Ending):
        on_agent_ending(run, out, node, message.reason, now)
        return
    run.survivors.extend(message.survivors)
    if run.phase is RunPhase.LEAVING:
        run.shutdown.leaving.discard(node)
        run.nodes[node].is_up = False


def _on_stop_requested(run: Run, out: Effects, event: StopRequested, now: float) -> None:
    """Stop the run by a signal or a request. A run that is ending continues to its end, until a second signal forces it."""
    at_end = explanations.unfinished_finals(run.tasks)
    if run.outcome is not None and at_end and not event.force:
        out.warn(
            f"{event.signal}: the run is ending already; still to end is {at_end}, which a second signal kills"
        )
    stop_run(run, out, exit_policy.stopped_by(event.signal), is_forced=event.force, now=now)


def on_record_unwritable(run: Run, out: Effects, event: RecordUnwritable, now: float) -> None:
    """Stop a run whose record can no longer be written."""
    if run.outcome is None:
        cause = FirstCause(text=event.reason.text, reason=event.reason)
        begin_stop(run, out, Outcome.INFRASTRUCTURE, cause, now)


def _answer_order(run: Run, node: int, message: FromAgent) -> None:
    """Take in that an agent has started a rank, or failed to: it may have another order."""
    match message:
        case RankStarted() | RankExited() | LaunchFailed():
            if run.windows.answered(node, message.rank):
                run.queue.retry_all()
        case _:
            pass


def _on_started(run: Run, out: Effects, node: int, message: RankStarted, now: float) -> None:
    task, rank = run.current_on(node, message.rank), message.rank.rank
    if task is None or rank not in task.attempt.unstarted:
        return
    attempt = task.attempt
    attempt.started_at_ns[rank] = message.started_at_ns + run.nodes[node].clock_ahead_ns
    attempt.unstarted.discard(rank)
    if rank == 0:
        attempt.pid = message.pid
    if task.state is TaskState.STARTING and not attempt.unstarted:
        change(run, out, task, TaskState.RUNNING, STARTED)
        if attempt.early_readiness is not None:
            change(run, out, task, TaskState.READY, Reason("ready", attempt.early_readiness))
        elif task.plan.is_service and not task.plan.has_readiness:
            change(run, out, task, TaskState.READY, Reason("ready", "its process is running"))
        stop_if_hung(run, out, task, now)


def _on_probe(run: Run, out: Effects, node: int, message: ProbeTriggered | ProbeWaiting, now: float) -> None:
    if isinstance(message, ProbeWaiting):
        _on_waiting(run, out, node, message)
        return
    task = run.current_on(node, RankId(message.attempt, message.rank))
    if task is None:
        return
    if message.kind == "readiness":
        readiness = task.attempt.readiness
        if not readiness.seen(node, message.rank, message.part, message.detail):
            return
        if task.state is TaskState.RUNNING:
            change(run, out, task, TaskState.READY, Reason("ready", readiness.detail))
        elif task.state is TaskState.STARTING:  # one rank is ready before others are reported as started
            task.attempt.early_readiness = readiness.detail
    elif task.state in (TaskState.STARTING, TaskState.RUNNING, TaskState.READY):
        # The format: a failure probe ends the task whatever retries it has. A restart policy still applies.
        stop_task(run, out, task, AttemptVerdict(TaskState.FAILED, Reason("probe", message.detail)), now)


def _on_trouble(
    run: Run,
    out: Effects,
    node: int,
    message: RankIdle | GpuLost | AgentSuspended | LifeConfirmed,
    now: float,
) -> None:
    if isinstance(message, LifeConfirmed):
        on_confirmed(run, out, node, message.number, now)
        return
    if isinstance(message, GpuLost):
        from sflow_ctl.core.actions.gpu_losses import on_gpu_lost  # hardly any run loses one

        on_gpu_lost(run, out, node, message, now)
        return
    if isinstance(message, AgentSuspended):
        attempts = {(index, run.tasks[index].attempt.number) for index in run.nodes[node].live}
        run.timers.discount(attempts, message.seconds, now)
        return
    task = run.current_on(node, message.rank)
    if task is None:
        return
    note_inactivity(run, out, task, message, now)


def _on_waiting(run: Run, out: Effects, node: int, message: ProbeWaiting) -> None:
    rank = run.first_rank_on(node, message.attempt)
    task = run.current_on(node, RankId(message.attempt, rank))
    if task is None or task.state is not TaskState.RUNNING:
        return
    if task.attempt.readiness.waits(node, message.detail):
        text = explanations.waits_for(task, run.node_names)
        out.perform(RecordWaiting(task=task.plan.name, attempt=task.attempt.number, text=text))


# ---------------------------------------------------------------------- timers


def on_timer(run: Run, out: Effects, timer: Timer, due_at: float, now: float) -> None:
    """Act on a timer that is due since `due_at`, unless it is outdated."""
    match timer:
        case WorkflowTimeout():
            still = explanations.not_ready(run.tasks, run.node_names)
            text = f"the workflow's timeout of {run.plan.timeout_s:g} s has passed{still}"
            _time_is_over(run, out, FirstCause(text=text), now)
        case JobEndNear(gone_at=gone_at):
            on_job_end_near(run, out, gone_at, now)
        case AllocationEnding(gone_at=gone_at):
            on_job_ending(run, out, gone_at, now)
        case FinalsOver(steps_left=steps_left):
            if steps_left == len(run.shutdown.steps):
                on_finals_over(run, out, now)
        case FenceOver(node=node):
            lift_fence(run, out, node, now)
        case StopTimeout():
            on_stop_timeout(run, out, now)
        case LeaveOverdue():
            for node in sorted(run.shutdown.leaving):
                on_agent_lost(run, out, node, "it did not leave in time", now)
        case _:
            on_attempt_timer(run, out, timer, due_at, now)


def _time_is_over(run: Run, out: Effects, cause: FirstCause, now: float) -> None:
    if run.outcome is None:
        begin_stop(run, out, Outcome.TIMEOUT, cause, now)
    else:
        end_branch(run, out, Reason("time_limit", cause.text), now)


# ---------------------------------------------------------------------- after each event


def settle(run: Run, out: Effects, now: float) -> None:
    """Start the tasks that may start, and stop the run when all work is done. Called after each event."""
    release_limits(run, out, now)
    if run.revising is not None:
        _revise_further(run, out, now)
    if run.outcome is None:
        skip_unsatisfiable(run, out)
        if run.cells.done:
            stop_services(run, out, now)
        if not run.requests.is_paused:
            _start(run, out, now)
        if run.has_started and run.plan.timeout_s is not None and not run.is_time_armed:
            run.is_time_armed = True
            run.timers.set(now + run.plan.timeout_s, WorkflowTimeout())
        if run.outcome is None and run.is_work_done():
            run.shutdown.is_done = True
            failure = (
                run.failure or _job_that_was_stopped(run) or exit_policy.main_that_did_not_run(run.tasks)
            )
            outcome = Outcome.FAILED if failure else Outcome.COMPLETED
            begin_stop(run, out, outcome, failure, now, failed=_failed_mains(run) if failure else ())
    out.send_spawns()
    if run.outcome is not None:
        advance(run, out, now)


def _start(run: Run, out: Effects, now: float) -> None:
    """Start the tasks that may start; say which cannot."""
    if run.phase is RunPhase.RUNNING or run.shutdown.branch:
        start_queued(run, out, now)
    if run.tally.working == 0 and run.tally.live:
        warn_if_stuck(run, out)
    fail_if_kept_out(run, out, now)


def _revise_further(run: Run, out: Effects, now: float) -> None:
    from sflow_ctl.core.actions.requested.waves import revise_further  # few runs have another plan

    revise_further(run, out, now)


def _job_that_was_stopped(run: Run) -> FirstCause | None:
    if not run.requests.stopped:
        return None
    from sflow_ctl.core.actions.requested.stops import job_that_was_stopped  # few runs have operators

    return job_that_was_stopped(run)


def _failed_mains(run: Run) -> list[Task]:
    """Return the main tasks that have failed: the run ends with them, but not before what waits for their failure."""
    return [task for task in run.tasks if task.plan.is_main and "failed" in task.met]
