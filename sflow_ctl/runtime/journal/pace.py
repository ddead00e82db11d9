"""Says when a file that follows the journal is due again: snapshots and checkpoints have one pace each.

Such a file is written when the journal has grown enough since, and after a rest, so that it takes little of the loop's time.
"""

from sflow_ctl.runtime.journal.reader import Place
from sflow_ctl.runtime.journal.writer import Journal


class Pace:
    """When one file was written, and how long it rests."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._written = 0
        """Bytes of the journal when the file was written last."""
        self._rest_until = 0.0

    def place_if_due(self, every_bytes: int, now: float) -> Place | None:
        """Return the place up to which the journal has everything, if it has grown by `every_bytes`; None if nothing is due."""
        if self._journal.written_bytes - self._written < every_bytes or now < self._rest_until:
            return None
        return self._journal.place()

    def wrote(self, now: float, rest_s: float) -> None:
        """Note that the file has been written, and let it rest from `now`."""
        self._written = self._journal.written_bytes
        self._rest_until = now + rest_s
