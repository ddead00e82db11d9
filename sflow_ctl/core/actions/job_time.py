"""The end of the Slurm job's time: the run stops before it, and follows it when the job is extended or shortened.

Nothing stops on old knowledge: Slurm is asked again first, and has `CONFIRM_WITHIN_S` to answer. Called by the
scheduler and by `reactor`.
"""

from sflow_ctl.core.actions.shutdown import end_branch
from sflow_ctl.core.actions.stopping import begin_stop, limit_finals, limit_stop
from sflow_ctl.core.commands import AskJobEnd
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.timers import AllocationEnding, JobEndNear
from sflow_ctl.core.states import FirstCause, Outcome, Reason

CONFIRM_WITHIN_S = 5.0
"""At most half of the headroom: how much later than planned a run stops if Slurm does not answer."""
SAME_WITHIN_S = 5.0
"""Slurm says the time that is left in whole seconds, of an answer that took some. Time limits are changed by minutes."""


def watch_job_end(run: Run) -> None:
    """Set the timer for the end of the job's time, if it has one."""
    if run.gone_at is not None:
        run.timers.set(run.gone_at - run.headroom_s, JobEndNear(run.gone_at))


def is_same_end(one: float | None, other: float | None) -> bool:
    """Return whether two ends of a job's time, None without a limit, are the same but for their inaccuracy."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= SAME_WITHIN_S


def on_job_end_near(run: Run, out: Effects, gone_at: float, now: float) -> None:
    """Ask Slurm whether the job's time is really nearly over; stop soon without an answer."""
    if gone_at != run.gone_at or not _has_more_to_stop(run):
        return
    out.perform(AskJobEnd())
    run.timers.set(now + min(CONFIRM_WITHIN_S, run.headroom_s / 2), AllocationEnding(gone_at))


def on_job_ending(run: Run, out: Effects, gone_at: float, now: float) -> None:
    """Stop the run for the end of the job's time, also what waits for the failure that ends a stopping run."""
    if gone_at != run.gone_at or not _has_more_to_stop(run):
        return
    text = "the Slurm job's time is nearly over"
    if run.outcome is None:
        begin_stop(run, out, Outcome.TIMEOUT, FirstCause(text=text, reason=Reason("time_limit")), now)
    else:
        end_branch(run, out, Reason("time_limit", text), now)


def _has_more_to_stop(run: Run) -> bool:
    return run.outcome is None or bool(run.shutdown.branch)


def on_job_end_known(run: Run, out: Effects, gone_at: float | None, now: float) -> None:
    """Take in what Slurm has said about the end of the job's time."""
    is_same = is_same_end(gone_at, run.gone_at)
    if not is_same:
        run.gone_at = gone_at
    if run.outcome is not None and not is_same:
        limit_stop(run)
        limit_finals(run)
    if run.gone_at is None or not _has_more_to_stop(run):
        return
    if run.gone_at - run.headroom_s <= now:
        on_job_ending(run, out, run.gone_at, now)
    elif not is_same:
        watch_job_end(run)
