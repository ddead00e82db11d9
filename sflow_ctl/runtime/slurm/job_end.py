"""Notices that Slurm has begun to end the job: it signals the agents, which report that. The controller's loop calls it.

What follows is decided in `core/actions/job_time.py`.
"""

from collections.abc import Iterator, Sequence

from protocol.messages.facts import Terminated
from sflow_ctl.core.events import JobEnding, MessageReceived, SchedulerEvent
from sflow_ctl.runtime.record.run_log import RunLog


class JobEndNotice:
    """Turns the first report of a signalled agent into the event that Slurm ends the job; all agents are signalled."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._is_noticed = False

    def with_end(self, events: Sequence[SchedulerEvent]) -> Iterator[SchedulerEvent]:
        """Yield the events, followed by the end of the job, once, if one of them reports it."""
        yield from events
        if self._is_noticed or not any(map(_is_termination, events)):
            return
        from sflow_ctl.runtime.slurm.allocation import kill_wait_s  # only in Slurm jobs

        self._is_noticed = True
        within_s = kill_wait_s()
        self._log.info(f"agents received SIGTERM: Slurm ends the job within {within_s:g} s")
        yield JobEnding(within_s=within_s)


def _is_termination(event: SchedulerEvent) -> bool:
    return isinstance(event, MessageReceived) and isinstance(event.message, Terminated)
