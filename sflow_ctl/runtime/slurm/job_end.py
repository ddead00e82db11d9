"""Notices that Slurm has begun to end the job: it signals the agents, which report that. The controller's loop calls it.

What follows is decided in `core/actions/job_time.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocol.messages.facts import Terminated
from sflow_ctl.core.events import JobEnding, MessageReceived, SchedulerEvent
from sflow_ctl.runtime.record.run_log import RunLog

if TYPE_CHECKING:
    from sflow_ctl.runtime.slurm.job_clock import JobClock

DEFAULT_KILL_WAIT_S = 30.0
"""Source: slurm.conf(5), KillWait."""


class JobEndNotice:
    """Turns the first report of a signalled agent into the event that Slurm ends the job; all agents are signalled."""

    def __init__(self, log: RunLog, job_clock: "JobClock | None") -> None:
        """`job_clock` knows the seconds between SIGTERM and SIGKILL."""
        self._log = log
        self._job_clock = job_clock
        self._is_noticed = False

    def with_end(self, events: Sequence[SchedulerEvent]) -> Sequence[SchedulerEvent]:
        """Return the events, followed by the end of the job, once, if one of them reports it."""
        if self._is_noticed or not any(map(_is_termination, events)):
            return events
        self._is_noticed = True
        known_s = None if self._job_clock is None else self._job_clock.kill_wait_now_s()
        within_s = DEFAULT_KILL_WAIT_S if known_s is None else known_s
        when = f"within {within_s:g} s"
        if known_s is None:
            when = f"probably {when}: that is Slurm's default of KillWait, and Slurm did not say this site's"
        self._log.info(f"agents received SIGTERM: Slurm ends the job {when}")
        return [*events, JobEnding(within_s=within_s)]


def _is_termination(event: SchedulerEvent) -> bool:
    return isinstance(event, MessageReceived) and isinstance(event.message, Terminated)
