"""Writes `sflow_summary.log`: at the beginning, after a failure, now and then, and at the end of a run.

The text is limited (`report/timeline.py`), and between two writings there are many times what one takes, so that a hundred
thousand tasks cost no more than ten. Called by the controller's loop. What cannot be written is tried again later: the run has
its record elsewhere.
"""

import contextlib
import time
from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from sflow_ctl.core.states import Transition
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary
from sflow_ctl.report.summary_log import SummaryLog
from sflow_ctl.report.timeline import Timeline
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.durable import write_for_now

WRITE_EVERY_S = 2.0
REST_FACTOR = 100
"""The pause after a writing, in times of what it took."""


class SummaryWriter:
    """The file of one run."""

    def __init__(
        self, directory: Path, facts: RunFacts, state: RunView, earlier: Timeline | None = None
    ) -> None:
        """`earlier` is the timeline of a resumed run."""
        self._directory = directory
        self.timeline = self._timeline = earlier or Timeline({})
        if not self._timeline.continues:
            self._timeline.begin({record.name: record.state for record in state.tasks.values()})
        path = directory.absolute() / layout.SUMMARY_LOG
        self._log = SummaryLog(
            workflow=facts.workflow,
            directory=str(directory.absolute()),
            path=str(path),
            command=(facts.resumes or (facts.argv,))[-1],
            tasks=len(state.plan.tasks),
            began_ns=facts.started_wall_ns,
            now_ns=facts.started_wall_ns,
            state=state,
            timeline=self._timeline,
            journal=layout.JOURNAL,
            is_resumed=earlier is not None,
        )
        first = [*self._timeline.first[:1]]
        if earlier is not None and first:
            self._log.began_ns = min(self._log.began_ns, first[0].at_ns)
        self._due: float | None = 0.0
        """When it is written next, in monotonic seconds; None while nothing has changed."""
        self._rest_until = 0.0

    def revised(self, state: RunView) -> None:
        """Take in that the run has other tasks."""
        self._timeline.begin({record.name: record.state for record in state.tasks.values()})
        self._log.tasks = len(state.plan.tasks)

    def grown(self, names: Collection[str]) -> None:
        """Take in that tasks have joined the run."""
        self._timeline.join(names)
        self._log.tasks += len(names)

    def note(self, transition: Transition) -> None:
        """Take in a change of a task's state."""
        had_failed = bool(self._timeline.failed)
        self._timeline.note(transition, time.time_ns())
        due = self._rest_until if had_failed or not self._timeline.failed else 0.0
        if self._due is None or due < self._due:
            self._due = due

    def next_wakeup(self) -> float | None:
        """Return when `write_if_due` is due, or None."""
        return self._due

    def write_if_due(self, now: float) -> None:
        """Write the file if something has changed and enough time has passed."""
        if self._due is None or now < self._due:
            return
        self._due = None
        self._write(replace(self._log, now_ns=time.time_ns()))
        took_s = time.monotonic() - now
        self._rest_until = now + max(WRITE_EVERY_S, took_s * REST_FACTOR)

    def finish(self, summary: Summary) -> None:
        """Write the file of a run that has ended."""
        uploads = {task.name: task.uploads for task in summary.tasks if task.uploads is not None}
        if summary.upload_all is not None:
            uploads["upload_all"] = summary.upload_all
        self._write(
            replace(
                self._log,
                now_ns=summary.ended_wall_ns,
                outcome=summary.outcome,
                cause=summary.cause,
                uploads=uploads,
            )
        )

    def _write(self, log: SummaryLog) -> None:
        text = SECRETS.mask.raw(log.text().encode(errors="replace"))
        with contextlib.suppress(OSError):
            write_for_now(self._directory / layout.SUMMARY_LOG, text)
