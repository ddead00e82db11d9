"""Decides when a controller writes a checkpoint, and notes what a successor's shell has to know beside the scheduler's state.

What writes it is in `checkpoint.py`, which most runs never import: they are over before. Called by the controller's loop.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.ids import RankId
from protocol.messages.facts import Hello, RankExited
from sflow_ctl.core.events import AgentJoined, MessageReceived, SchedulerEvent, StopRequested
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.report.resumed import Takeover
from sflow_ctl.runtime.journal.pace import Pace
from sflow_ctl.runtime.journal.writer import Journal

if TYPE_CHECKING:
    from sflow_ctl.runtime.journal.checkpoint import CheckpointFile

EVERY_BYTES = 512 * 1024
"""Of the journal, between two checkpoints: replayed in a tenth of a second. Smaller runs have none."""
REST_FACTOR = 50
"""The pause after a checkpoint, in times of what it took."""


class ShellNotes:
    """What a controller's shell knows that its scheduler does not."""

    def __init__(self) -> None:
        self.joined: dict[int, AgentJoined] = {}
        """The last hello of each node."""
        self.restarted: list[Hello] = []
        """Those of agents that took the place of others."""
        self.exits: dict[RankId, tuple[int, RankExited]] = {}
        """Exits that were reported, each with its node; without those of attempts that were over at the last checkpoint."""
        self.stops = 0
        """How often the run was asked to stop."""

    def note(self, event: SchedulerEvent) -> None:
        """Take in an event."""
        match event:
            case MessageReceived(node=node, message=RankExited() as exited):
                self.exits[exited.rank] = node, exited
            case AgentJoined(hello=hello):
                self.joined[hello.node] = event
                self.restarted += [hello] if hello.follows else []
                self.exits.update((one.rank, (hello.node, one)) for one in hello.exited)
            case StopRequested():
                self.stops += 1
            case _:
                pass

    def forget_ended(self, run: Run) -> None:
        """Forget the exits of attempts that are over."""
        self.exits = {rank: one for rank, one in self.exits.items() if _is_open(run, rank)}


def _is_open(run: Run, rank: RankId) -> bool:
    index = run.index_of.get(rank.attempt.task)
    if index is None or run.tasks[index].attempt.number != rank.attempt.number:
        return False
    return run.tasks[index].is_live or bool(run.tasks[index].attempt.held)


class Checkpointing:
    """The checkpoints of one controller."""

    def __init__(
        self,
        directory: Path,
        journal: Journal,
        scheduler: Scheduler,
        lineage: int,
        notes: ShellNotes,
        takeovers: Sequence[Takeover] = (),
        begun_with: int = 0,
        revision: int = 1,
    ) -> None:
        """`lineage` is the controller whose scheduler this is; `notes` are of the time before, `takeovers` those of the run.

        `begun_with` are the bytes of the present file that the scheduler began with, which is of the plan with the number
        `revision`; 0 begins another one.
        """
        self._directory, self._scheduler, self._pace = directory, scheduler, Pace(journal)
        self._lineage, self._begun_with = lineage, (begun_with, revision)
        self.notes, self.takeovers = notes, takeovers
        self._file: CheckpointFile | None = None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def write_if_due(self, now: float) -> None:
        """Write what has changed if the journal has grown enough, which must have everything so far.

        Not while a revision is being applied: tasks that are still to be stopped have the plan before it.
        """
        if self._scheduler.run.revising is not None:
            return
        place = self._pace.place_if_due(EVERY_BYTES, now)
        if place is None:
            return
        started = time.monotonic()
        if self._file is None:
            from sflow_ctl.runtime.journal.checkpoint import CheckpointFile  # most runs are over before

            self._file = CheckpointFile(
                self._directory, self._scheduler.run, self._lineage, self.notes, *self._begun_with
            )
        self._file.write(place, now, self.takeovers)
        self._pace.wrote(now, (time.monotonic() - started) * REST_FACTOR)
