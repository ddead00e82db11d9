"""The one writer of a run's journal: every event and every transition, in order, one JSON object a line.

Written once per pass of the controller's loop, before its orders and acknowledgements leave, and synced to the disk after a rank
has exited or a task has ended, before the agent may forget that: after a crash of the machine its result still counts. Readers
skip a torn last line. Event lines (`kind: event`) replay the scheduler, lines of the other kinds are for viewers.
"""

import contextlib
import errno
import math
import os
import time
from pathlib import Path
from typing import IO

from protocol.messages.facts import RankExited
from sflow_ctl.core.commands import AnswerRequest, RecordCheckpoint, RecordUploads, RecordWaiting
from sflow_ctl.core.events import AgentJoined, MessageReceived, OperatorRequest, SchedulerEvent
from sflow_ctl.core.states import TERMINAL, Transition
from sflow_ctl.report.resumed import Takeover
from sflow_ctl.runtime.journal.entry import FORMAT, Begin, Entry, Kind, encode_entry
from sflow_ctl.runtime.journal.reader import Place
from sflow_ctl.runtime.journal.segments import SEGMENT_BYTES, begin_segment, close_segment
from sflow_ctl.runtime.record.durable import open_to_append, sync_directory
from sflow_ctl.runtime.record.processes import boot
from sflow_ctl.version import VERSION

Content = (
    SchedulerEvent
    | Transition
    | RecordWaiting
    | RecordUploads
    | RecordCheckpoint
    | Takeover
    | AnswerRequest
    | Begin
)
SYNC_EVERY_S = 0.5
"""Half of the second after which an agent repeats what is not acknowledged."""


class Journal:
    """The one writer of a run's journal."""

    def __init__(self, path: Path, incarnation: int, first_seq: int = 1, segment: int = 1) -> None:
        """Continue a journal with this number of a line, in the segment of this number, or begin one."""
        self._path = path
        self._file: IO[bytes] = open_to_append(path)
        self._size = os.fstat(self._file.fileno()).st_size
        self._next_segment_from = SEGMENT_BYTES
        self._segment = segment
        self.incarnation = incarnation
        self.written_bytes = 0
        """Of all lines of this controller."""
        self._next_seq = first_seq
        self._pending: list[bytes] = []
        if self._size:  # an earlier writer may have been cut off within a line
            self._pending.append(b"\n")
        self._needs_sync = False
        self._has_durable_name = self._size > 0
        self._must_sync_at_once = not self._has_durable_name
        self._may_sync_from = -math.inf
        self._pending.append(self._begin_line(time.monotonic(), segment))

    @property
    def is_durable(self) -> bool:
        """Return whether every exit and every end of a task that was written would survive a crash of the machine."""
        return not self._needs_sync

    def place(self) -> Place | None:
        """Return the end of what is written; None while some lines are not."""
        return None if self._pending else Place(self._segment, self._size, self._next_seq - 1)

    def next_sync(self) -> float | None:
        """Return when `flush` will sync what it has written (monotonic s); None while nothing needs that."""
        return self._may_sync_from if self._needs_sync else None

    def event(self, event: SchedulerEvent, now: float) -> None:
        """Add an event; called before it is handled."""
        if isinstance(event, AgentJoined):  # its hello tells of ends, and the answer acknowledges them
            self._must_sync_at_once = self._must_sync_at_once or bool(event.hello.exited)
        elif isinstance(event, MessageReceived) and isinstance(event.message, RankExited):
            self._needs_sync = True
        elif isinstance(event, OperatorRequest):  # its answer promises that it is carried out
            self._must_sync_at_once = True
        self._append(now, "event", event=event)

    def transition(self, transition: Transition, now: float) -> int:
        """Add a change of state; return its wall time in ns since 1970."""
        self._needs_sync = self._needs_sync or transition.new in TERMINAL
        self._must_sync_at_once = self._must_sync_at_once or transition.is_again
        return self._append(now, "transition", transition=transition)

    def waiting(self, waiting: RecordWaiting, now: float) -> None:
        """Add the unmet conditions of a service."""
        self._append(now, "waiting", waiting=waiting)

    def uploads(self, uploads: RecordUploads, now: float) -> None:
        """Add what became of the uploads of a task."""
        self._append(now, "uploads", uploads=uploads)

    def checkpoint(self, checkpoint: RecordCheckpoint, now: float) -> None:
        """Add what an attempt continues from."""
        self._append(now, "checkpoint", checkpoint=checkpoint)

    def request(self, request: AnswerRequest, now: float) -> None:
        """Add what an operator has asked for, and what it has led to."""
        self._append(now, "request", request=request)

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
            self._size += written
            self.written_bytes += written
            self._pending = [data[written:]] if written < len(data) else []
        is_due = syncs_at_once or now >= self._may_sync_from
        if self._must_sync_at_once or (self._needs_sync and is_due):
            self._sync()
            self._may_sync_from = now + SYNC_EVERY_S
        if self._size >= self._next_segment_from:
            self._begin_next_segment(now)

    def _begin_next_segment(self, now: float) -> None:
        """Put the full segment away and begin the next one; go on with the full one while the disk refuses."""
        self._sync()
        seq, first = self._next_seq, self._begin_line(now, self._segment + 1)
        try:
            close_segment(self._path, self._segment)
            file = begin_segment(self._path, first)
        except OSError:
            self._next_seq = seq
            self._next_segment_from = self._size + SEGMENT_BYTES // 4
            return
        self._segment += 1
        with contextlib.suppress(OSError):
            self._file.close()
        self._file, self._size, self._next_segment_from = file, len(first), SEGMENT_BYTES

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):  # a file system that cannot sync
                raise
        if not self._has_durable_name:
            sync_directory(self._path.parent)
            self._has_durable_name = True
        self._needs_sync = self._must_sync_at_once = False

    def close(self) -> None:
        """Flush and close. Lines that the disk refuses are lost; the run's end reports that."""
        with contextlib.suppress(OSError):
            self.flush(math.inf)
        with contextlib.suppress(OSError):
            self._file.close()

    def _begin_line(self, now: float, segment: int) -> bytes:
        begin = Begin(segment=segment, format=FORMAT, version=VERSION, boot=boot())
        return encode_entry(self._entry(now, "begin", begin=begin))

    def _append(self, now: float, kind: Kind, **content: Content) -> int:
        entry = self._entry(now, kind, **content)
        self._pending.append(encode_entry(entry))
        return entry.wall_ns

    def _entry(self, now: float, kind: Kind, **content: Content) -> Entry:
        """Return the next line; its content is the field that `kind` names."""
        self._next_seq += 1
        return Entry(
            seq=self._next_seq - 1,
            incarnation=self.incarnation,
            wall_ns=time.time_ns(),
            at=now,
            kind=kind,
            **content,  # type: ignore[arg-type]  # one field, of the type that its method has checked
        )
