"""`state.json`: the states of all tasks up to a place of the journal: of a large run viewers and successors read only the rest.

A copy of what the journal has: written now and then during a run of many tasks, never synced, and not used where it
does not fit the journal. So nothing depends on it. Used by the controller's loop, and by `record/reader.py`.
"""

import contextlib
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.resumed import Takeover
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.report.timeline import SavedTimeline, Timeline
from sflow_ctl.runtime.journal.lazy_records import LazyRecords
from sflow_ctl.runtime.journal.pace import Pace
from sflow_ctl.runtime.journal.reader import JournalReader, Place
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular, write_for_now
from sflow_ctl.version import VERSION

FORMAT = 3
EVERY_BYTES = 4 * 1024 * 1024
"""Of the journal, between two snapshots: read and applied in 0.1 s. Smaller runs have none."""
REST_FACTOR = 50
"""The pause after a snapshot, in times of what it took."""
_WRITTEN_AT_ONCE = 1000


class Snapshot(Struct, frozen=True):
    """Content of `state.json`."""

    format: int
    version: str
    incarnation: int
    """The controller that wrote it."""
    place: Place
    """Up to where it has what the journal has."""
    last_wall_ns: int
    """When the last of these changes was made."""
    names: str
    """What identifies the names of its tasks: how many there are, and a checksum of them."""
    tasks: tuple[msgspec.Raw, ...]
    """The `TaskRecord`s of all tasks, in the plan's order."""
    paused_by: str = ""
    """As in `RunView`."""
    timeline: SavedTimeline | None = None
    takeovers: tuple[Takeover, ...] = ()
    """The controllers that were killed and replaced before."""

    def records(self, names: Collection[str] | None = None) -> dict[str, TaskRecord] | None:
        """Return the records of all tasks by their names; None if they cannot be read.

        With the `names` of the plan's tasks each is decoded when it is asked for, if they are those of the snapshot.
        """
        if names is not None and (self.version, self.names) == (VERSION, names_text(names)):
            return LazyRecords(names, self.tasks)
        decode = msgspec.json.Decoder(TaskRecord).decode
        try:
            return {record.name: record for record in map(decode, self.tasks)}
        except UNREADABLE:
            return None


class SnapshotWriter:
    """Writes the snapshots of one controller."""

    def __init__(self, directory: Path, journal: Journal, state: RunView, timeline: Timeline) -> None:
        self._path = directory / layout.STATE
        self._journal, self._state, self._timeline = journal, state, timeline
        self.takeovers: Sequence[Takeover] = ()
        self._pace = Pace(journal)

    def write_if_due(self, now: float) -> None:
        """Write the state if the journal has grown enough; it must be that of all lines of the journal."""
        place = self._pace.place_if_due(EVERY_BYTES, now)
        if place is None:
            return
        started = time.monotonic()
        with contextlib.suppress(OSError):  # the journal has it all
            write_for_now(self._path, self._content(place))
        self._pace.wrote(now, (time.monotonic() - started) * REST_FACTOR)

    def _content(self, place: Place) -> Iterator[bytes]:
        head = Snapshot(
            FORMAT,
            VERSION,
            self._journal.incarnation,
            place,
            time.time_ns(),
            names_text(self._state.tasks),
            (),
            self._state.paused_by,
            self._timeline.saved(),
            tuple(self.takeovers),
        )
        before, _, after = msgspec.json.encode(head).partition(b'"tasks":[]')
        yield before + b'"tasks":['
        tasks = self._state.tasks
        records = list(tasks.as_stored() if isinstance(tasks, LazyRecords) else tasks.values())
        separator = b"\n"
        for first in range(0, len(records), _WRITTEN_AT_ONCE):
            lines = map(msgspec.json.encode, records[first : first + _WRITTEN_AT_ONCE])
            yield SECRETS.mask.raw(separator + b",\n".join(lines))
            separator = b",\n"
        yield b"\n]" + after + b"\n"


def names_text(names: Collection[str]) -> str:
    """Return what identifies the names of a plan's tasks, in their order."""
    text = "\n".join(names)
    return f"{len(names)} {zlib.crc32(text.encode()):08x}"


def read_snapshot(directory: Path, incarnation: int, lineage: int = 0) -> Snapshot | None:
    """Return the newest snapshot that fits the journal, of this controller or one that it took over from; None without one.

    `lineage` is the first of those; 0 if there was none.
    """
    try:
        found = msgspec.json.decode(read_regular(directory / layout.STATE), type=Snapshot)
    except (OSError, *UNREADABLE):
        return None
    if found.format != FORMAT or not (lineage or incarnation) <= found.incarnation <= incarnation:
        return None
    return found if JournalReader(directory, found.place).fits() else None
