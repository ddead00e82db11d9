"""Keeps a run's record written before its orders leave, and decides what happens while the disk does not take it.

A task that started without a record would be started a second time by a resume, with the same attempt number. So
nothing new is started while the journal cannot be written, and a run whose record stays unwritable is ended. Used by
`controller.py`.
"""

from collections.abc import Callable
from pathlib import Path

from sflow_ctl.core.events import RecordUnwritable
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import RunDirectory
from sflow_ctl.runtime.record.disk import disk_reason
from sflow_ctl.runtime.run.node_book import NodeBook

GIVEN_UP_AFTER_S = 60.0
"""For so long a person, or whatever filled the disk, may make room again."""
RETRY_S = 0.5
NODES_EVERY_S = 1.0
"""A file and its directory are synced each time, which must not hold up the first tasks."""


class RecordKeeper:
    """Writes the journal and `nodes.json`. `warn` tells people."""

    def __init__(self, directory: RunDirectory, journal: Journal, warn: Callable[[str], None]) -> None:
        self._directory = directory
        self._journal = journal
        self._warn = warn
        self._failing_since: float | None = None
        self.error: OSError | None = None
        """The last one, also when the record could be written again."""
        self._is_given_up = False
        self._nodes_at: float | None = None

    @property
    def is_failing(self) -> bool:
        """True while the journal cannot be written."""
        return self._failing_since is not None

    @property
    def is_durable(self) -> bool:
        """True when every end of a task is recorded so that it survives a crash of the machine.

        An agent forgets an end that is acknowledged: only such a record may take its place.
        """
        return self._failing_since is None and self._journal.is_durable

    def flush(self, now: float, *, syncs_at_once: bool = False) -> None:
        """Write what was added to the journal; say when that fails, and when it works again."""
        try:
            self._journal.flush(now, syncs_at_once=syncs_at_once)
        except OSError as error:
            self.error = error
            if self._failing_since is None:
                self._failing_since = now
                reason = disk_reason(error, self._path)
                self._warn(f"{reason.text}: nothing new is started until the run's record can be written")
            return
        if self._failing_since is not None:
            self._failing_since = None
            self._warn("the run's record can be written again")

    def write_nodes(self, nodes: NodeBook, now: float) -> None:
        """Write `nodes.json` some time after it has changed; a failure is left to the next time."""
        if not nodes.has_news:
            self._nodes_at = None
        elif self._nodes_at is None:
            self._nodes_at = now + NODES_EVERY_S
        elif now >= self._nodes_at:
            self._nodes_at = None
            try:
                self._directory.note(layout.NODES, nodes.encoded())
            except OSError:
                nodes.has_news = True

    def give_up(self, now: float) -> RecordUnwritable | None:
        """Return the event that ends a run whose record has been unwritable for too long; once."""
        since = self._failing_since
        if since is None or self._is_given_up or now < since + GIVEN_UP_AFTER_S:
            return None
        assert self.error is not None
        self._is_given_up = True
        return RecordUnwritable(reason=disk_reason(self.error, self._path))

    def next_wakeup(self, now: float) -> float | None:
        """Return when to try again, or to sync; None while all is written."""
        return self._journal.next_sync() if self._failing_since is None else now + RETRY_S

    @property
    def _path(self) -> Path:
        return self._directory.path / layout.JOURNAL
