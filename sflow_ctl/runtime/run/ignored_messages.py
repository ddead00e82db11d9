"""Reports messages of agents that did not count, at the end of a run. Called by the controller."""

from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.record.run_log import RunLog


def log_ignored_messages(log: RunLog, scheduler: Scheduler, link: FleetLink, foreign: int) -> None:
    """Log how many messages of agents did not count; `foreign` are those that the shell refused."""
    ignored = scheduler.ignored_messages()
    foreign += ignored.foreign
    if foreign:
        log.warning(f"ignored {foreign} messages of agents about processes that are not on their nodes")
    if ignored.stale:
        log.info(f"ignored {ignored.stale} messages about attempts that were over")
    for kind, count in sorted(link.refused().items()):
        log.warning(f"{count} {kind.replace('_', ' ')}")
