"""`events.jsonl`: every event and every transition of a run, in order, one JSON object a line.

Append-only, one writer. Written once per pass of the controller's loop, and synced to the disk after a task has
ended, before its agent may forget that: after a crash of the machine its result still counts. Readers skip a torn last
line. Event lines (`kind: event`) replay the scheduler, lines of the other kinds are for viewers.
"""

import contextlib
import errno
import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

from sflow_ctl.core.commands import RecordUploads, RecordWaiting
from sflow_ctl.core.events import AgentJoined, SchedulerEvent
from sflow_ctl.core.states import TERMINAL, Transition
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.takeovers import Takeover
from sflow_ctl.runtime.record.durable import UNREADABLE, open_to_append

SYNC_EVERY_S = 0.5
"""Half of the second after which an agent repeats what is not acknowledged."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. `at` is the controller's monotonic clock, comparable within one incarnation only."""

    seq: int
    """The number of the line, from 1; a controller that resumes the run continues it."""
    incarnation: int
    """The number of the controller that wrote the line, from 1."""
    wall_ns: int
    """Wall time in ns since 1970, for display."""
    at: float
    """Monotonic seconds of the controller."""
    kind: "Kind"
    """Which of the following fields is set."""
    event: SchedulerEvent | None = None
    """An input of the scheduler."""
    transition: Transition | None = None
    """A change of a task's state."""
    waiting: RecordWaiting | None = None
    """A change of the unmet readiness conditions of a service."""
    uploads: RecordUploads | None = None
    """What became of the uploads of a task."""
    takeover: Takeover | None = None
    """A controller was killed, and another one has taken the run over."""


Kind = Literal["event", "transition", "waiting", "uploads", "takeover"]
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


class Journal:
    """The one writer of a run's journal."""

    def __init__(self, path: Path, incarnation: int, first_seq: int = 1) -> None:
        self._file: IO[bytes] = open_to_append(path)
        if first_seq > 1:  # an earlier writer may have been cut off within a line
            self._file.write(b"\n")
        self._incarnation = incarnation
        self._next_seq = first_seq
        self._pending: list[bytes] = []
        self._needs_sync = False
        self._must_sync_at_once = first_seq == 1  # makes the name of a new file durable
        self._may_sync_from = -math.inf

    @property
    def is_durable(self) -> bool:
        """Return whether every end of a task that was written would survive a crash of the machine."""
        return not self._needs_sync

    def next_sync(self) -> float | None:
        """Return when `flush` will sync what it has written (monotonic s); None while nothing needs that."""
        return self._may_sync_from if self._needs_sync else None

    def event(self, event: SchedulerEvent, now: float) -> None:
        """Add an event; called before it is handled."""
        if isinstance(event, AgentJoined):  # its hello tells of ends, and the answer acknowledges them
            self._must_sync_at_once = self._must_sync_at_once or bool(event.hello.exited)
        self._append(now, "event", event=event)

    def transition(self, transition: Transition, now: float) -> None:
        """Add a change of state."""
        self._needs_sync = self._needs_sync or transition.new in TERMINAL
        self._must_sync_at_once = self._must_sync_at_once or transition.is_again
        self._append(now, "transition", transition=transition)

    def waiting(self, waiting: RecordWaiting, now: float) -> None:
        """Add the unmet conditions of a service."""
        self._append(now, "waiting", waiting=waiting)

    def uploads(self, uploads: RecordUploads, now: float) -> None:
        """Add what became of the uploads of a task."""
        self._append(now, "uploads", uploads=uploads)

    def takeover(self, takeover: Takeover, now: float) -> None:
        """Add that this controller has taken the run over."""
        self._append(now, "takeover", takeover=takeover)

    def flush(self, now: float, *, syncs_at_once: bool = False) -> None:
        """Write the lines added since the last call; sync if a task has ended, with pauses unless `syncs_at_once`.

        A sync takes 1 to 20 ms, and holds up others who make files. So many ends share one.

        Raises: OSError when the disk refuses; nothing is lost, the next call continues there.
        """
        while self._pending:
            data = b"".join(self._pending)
            written = self._file.write(data)
            self._pending = [data[written:]] if written < len(data) else []
        is_due = syncs_at_once or now >= self._may_sync_from
        if self._must_sync_at_once or (self._needs_sync and is_due):
            self._sync()
            self._needs_sync = self._must_sync_at_once = False
            self._may_sync_from = now + SYNC_EVERY_S

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):  # a file system that cannot sync
                raise

    def close(self) -> None:
        """Flush and close. Lines that the disk refuses are lost; the run's end reports that."""
        with contextlib.suppress(OSError):
            self.flush(math.inf)
        with contextlib.suppress(OSError):
            self._file.close()

    def _append(
        self,
        now: float,
        kind: Kind,
        event: SchedulerEvent | None = None,
        transition: Transition | None = None,
        waiting: RecordWaiting | None = None,
        uploads: RecordUploads | None = None,
        takeover: Takeover | None = None,
    ) -> None:
        entry = Entry(
            seq=self._next_seq,
            incarnation=self._incarnation,
            wall_ns=time.time_ns(),
            at=now,
            kind=kind,
            event=event,
            transition=transition,
            waiting=waiting,
            uploads=uploads,
            takeover=takeover,
        )
        self._next_seq += 1
        self._pending.append(SECRETS.mask.raw(_encoder.encode(entry)) + b"\n")


def read_journal(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries in `lines`, without torn or foreign lines."""
    for line in lines:
        try:
            yield _decoder.decode(line)
        except UNREADABLE:
            continue
