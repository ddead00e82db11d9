"""Serves `attach`: sends state changes and logs to all viewers on the clients socket, on which operators ask as well.

Owned by the output thread. The unacknowledged bytes of a viewer are limited: at the limit it waits, and then
gets the newest state instead of every change, and the end of a log instead of all of it. A stopped viewer
therefore costs a megabyte at most and delays nothing.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from protocol.ids import AttemptId, RankId
from sflow_ctl.core.states import TERMINAL
from sflow_ctl.runtime.logs.consumers.consumer import LogConsumer
from sflow_ctl.runtime.logs.cursor import Cursor
from sflow_ctl.runtime.logs.last_changes import LastChanges
from sflow_ctl.runtime.logs.store import RankLog
from sflow_ctl.runtime.record.durable import UNREADABLE
from sflow_ctl.runtime.transport.client_port import ClientPort
from sflow_ctl.runtime.viewing.messages import (
    VIEWER_VERSION,
    Ask,
    Attach,
    Change,
    Follow,
    LogEnded,
    LogPiece,
    RunEnded,
    StateChanges,
    Taken,
    ToViewerMessage,
    Unfollow,
    ViewerRefused,
    decode_from_viewer,
    encode,
)

if TYPE_CHECKING:
    from sflow_ctl.runtime.operating.desk import RequestDesk

WINDOW_BYTES = 1024 * 1024
"""The limit of unacknowledged bytes per viewer."""
WINDOW_MESSAGES = 40
"""The limit of unacknowledged messages: below the socket's own limit of 64, where it would refuse them."""
PIECE_BYTES = 128 * 1024
CHANGES_PER_MESSAGE = 1_000
MAX_VIEWERS = 32
MAX_FOLLOWED = 256
MESSAGES_PER_PASS = 64
LOOK_S = 0.2
"""How often the size of a followed log is read when its bytes do not arrive as chunks: network file systems
do not report that a file has grown on another node.
"""
SILENT_AFTER_S = 60.0
"""A viewer sends something every 2 s. A suspended one attaches again when it continues."""


class Viewer(Struct, eq=False):
    """One attached viewer."""

    routing_id: bytes
    session: int
    heard_at: float
    queue: deque[Change]
    follows: dict[RankId, Cursor] = field(default_factory=dict)
    ready: dict[RankId, Cursor] = field(default_factory=dict)
    """Followed logs with bytes to send, in turn."""
    next_seq: int = 1
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    is_current: bool = False
    unsent: deque[list[bytes]] = field(default_factory=deque)
    """Messages that the socket did not accept; few, since the window is smaller."""

    @property
    def has_room(self) -> bool:
        """Return whether it may be sent more."""
        return self.in_flight_bytes < WINDOW_BYTES and len(self.in_flight) < WINDOW_MESSAGES

    def taken(self, seq: int) -> None:
        """Note that everything up to `seq` has been handled."""
        while self.in_flight and self.in_flight[0][0] <= seq:
            self.in_flight_bytes -= self.in_flight.popleft()[1]

    def drop(self) -> None:
        """Close its files."""
        for cursor in self.follows.values():
            cursor.close()


class ViewerHub(LogConsumer):
    """All viewers of a run.

    `last` is the newest change of every task, kept by the caller; `log_of` finds a rank's log.
    """

    def __init__(
        self,
        port: ClientPort,
        last: LastChanges,
        log_of: Callable[[RankId], RankLog | None],
        counters: Counter[str],
        desk: "RequestDesk",
    ) -> None:
        self._port = port
        self._last = last
        self._log_of = log_of
        self._counters = counters
        self._desk = desk
        self._viewers: dict[bytes, Viewer] = {}
        self._followers: dict[RankId, list[tuple[Viewer, Cursor]]] = {}
        self._look_at: float | None = None
        self._has_work = False

    def wake_at(self, now: float) -> float | None:
        """Return when `serve` is due without anything arriving; None without viewers."""
        if self._has_work:
            return now
        return self._look_at

    def change(self, change: Change) -> None:
        """Queue a change of state for every viewer."""
        for viewer in self._viewers.values():
            viewer.queue.append(change)
            if len(viewer.queue) > 2 * len(self._last) + CHANGES_PER_MESSAGE:
                viewer.queue = deque({queued.transition.task: queued for queued in viewer.queue}.values())

    def offer(self, log: RankLog, offset: int, body: memoryview, _now: float, /) -> None:
        """Send a new chunk to the followers that have everything before it."""
        for viewer, cursor in self._followers.get(log.rank, ()):
            if cursor.log is not log:
                cursor.log = log
            if log.rank not in viewer.ready and viewer.has_room:
                new = cursor.take(offset, body)
                if new is not None:
                    if new:
                        self._send_piece(viewer, log, cursor.offset - len(new), bytes(new))
                    continue
            viewer.ready[log.rank] = cursor

    def serve(self, has_messages: bool, now: float) -> None:
        """Take messages, and send what the viewers' windows allow."""
        if has_messages:
            self._receive(now)
        self._send_to_operators()
        if not self._viewers:
            self._look_at, self._has_work = None, False
            return
        if self._look_at is None or now >= self._look_at:
            self._look(now)
        self._has_work = False
        for viewer in list(self._viewers.values()):
            self._serve(viewer)

    def say_goodbye(self) -> None:
        """Send what the viewers' windows allow, then the last message."""
        self._send_to_operators()
        for viewer in list(self._viewers.values()):
            self._look_at_logs(viewer)  # what was written since the last look
            self._serve(viewer)
            self._send(viewer, RunEnded(session=viewer.session, seq=viewer.next_seq))
            viewer.drop()
        self._viewers.clear()
        self._followers.clear()

    # ------------------------------------------------------------------ from viewers

    def _receive(self, now: float) -> None:
        for _ in range(MESSAGES_PER_PASS):
            found = self._port.receive()
            if found is None:
                return
            routing_id, is_operator, frame = found
            if frame is None:
                self._counters["malformed"] += 1
                continue
            try:
                message = decode_from_viewer(frame)
            except (*UNREADABLE, UnicodeDecodeError):
                self._counters["malformed"] += 1
                if is_operator:
                    self._desk.refuse_unreadable(routing_id)
                continue
            if isinstance(message, Ask):
                self._desk.take_from_socket(routing_id, message, is_operator=is_operator)
            else:
                self._take(routing_id, message, now)

    def _send_to_operators(self) -> None:
        for frames in self._desk.outgoing():
            self._port.send(frames)  # where that fails, it has left, or asks again

    def _take(self, routing_id: bytes, message: "Attach | Follow | Unfollow | Taken", now: float) -> None:
        viewer = self._viewers.get(routing_id)
        if isinstance(message, Attach):
            self._attach(routing_id, message, now)
        elif viewer is None:
            self._refuse(routing_id, "not-attached", "this viewer is no longer attached")
        else:
            viewer.heard_at = now
            if isinstance(message, Taken):
                viewer.taken(message.seq)
            elif isinstance(message, Follow):
                self._follow(viewer, message)
            else:
                self._unfollow(viewer, RankId(AttemptId(message.task, message.attempt), message.rank))

    def _attach(self, routing_id: bytes, message: Attach, now: float) -> None:
        old = self._viewers.get(routing_id)
        if old is not None:
            self._forget(old)
        if message.version != VIEWER_VERSION:
            reason = f"the controller speaks viewer protocol {VIEWER_VERSION}, this command {message.version}"
            self._refuse(routing_id, "version-mismatch", reason)
        elif len(self._viewers) >= MAX_VIEWERS:
            self._refuse(routing_id, "too-many-viewers", f"{MAX_VIEWERS} viewers are attached already")
        else:
            self._viewers[routing_id] = Viewer(routing_id, message.session, now, deque(self._last.all()))

    def _follow(self, viewer: Viewer, message: Follow) -> None:
        rank = RankId(AttemptId(message.task, message.attempt), message.rank)
        self._unfollow(viewer, rank)
        log = self._shared_log(rank) if message.task in self._last else None
        if log is None or len(viewer.follows) >= MAX_FOLLOWED:
            self._send(viewer, _ended(viewer, rank, 0))
            return
        cursor = Cursor(log, may_skip=True)
        _look_at_size(log)
        try:
            if message.offset is not None:
                cursor.offset = max(message.offset, 0)
            else:
                cursor.seek_to_last_lines(max(message.lines, 0))
        except OSError:
            cursor.offset = 0  # it does not exist yet
        viewer.follows[rank] = viewer.ready[rank] = cursor
        self._followers.setdefault(rank, []).append((viewer, cursor))

    def _shared_log(self, rank: RankId) -> RankLog | None:
        """Return the log that others follow already, if it is the same file: what is known of its lines serves all."""
        log = self._log_of(rank)
        others = [cursor.log for _, cursor in self._followers.get(rank, ())]
        return next((one for one in others if log is not None and one.path == log.path), log)

    def _unfollow(self, viewer: Viewer, rank: RankId) -> None:
        cursor = viewer.follows.pop(rank, None)
        viewer.ready.pop(rank, None)
        if cursor is None:
            return
        cursor.close()
        left = [pair for pair in self._followers.get(rank, ()) if pair[0] is not viewer]
        if left:
            self._followers[rank] = left
        else:
            self._followers.pop(rank, None)

    def _forget(self, viewer: Viewer) -> None:
        for rank in list(viewer.follows):
            self._unfollow(viewer, rank)
        self._viewers.pop(viewer.routing_id, None)

    # ------------------------------------------------------------------ to viewers

    def _look(self, now: float) -> None:
        """Drop silent viewers; find growth and ends of followed logs that do not arrive as chunks."""
        self._look_at = now + LOOK_S
        for viewer in list(self._viewers.values()):
            if now - viewer.heard_at > SILENT_AFTER_S:
                self._counters["silent_viewers"] += 1
                self._forget(viewer)
                continue
            self._look_at_logs(viewer)

    def _look_at_logs(self, viewer: Viewer) -> None:
        for rank, cursor in viewer.follows.items():
            if not cursor.log.is_spooled:
                _look_at_size(cursor.log)
            viewer.ready.setdefault(rank, cursor)

    def _serve(self, viewer: Viewer) -> None:
        if not self._flush(viewer):
            return
        while viewer.queue and viewer.has_room:
            count = min(len(viewer.queue), CHANGES_PER_MESSAGE)
            changes = tuple(viewer.queue.popleft() for _ in range(count))
            viewer.is_current = viewer.is_current or not viewer.queue
            message = StateChanges(
                session=viewer.session, seq=viewer.next_seq, changes=changes, is_current=viewer.is_current
            )
            if not self._send(viewer, message):
                return
        if not viewer.is_current and viewer.has_room:
            viewer.is_current = True  # the run has no state yet
            nothing = StateChanges(session=viewer.session, seq=viewer.next_seq, changes=(), is_current=True)
            self._send(viewer, nothing)
        for rank in list(viewer.ready):
            if not viewer.has_room:
                return
            self._serve_log(viewer, rank, viewer.ready.pop(rank))

    def _serve_log(self, viewer: Viewer, rank: RankId, cursor: Cursor) -> None:
        try:
            piece = cursor.read(PIECE_BYTES)
        except OSError:
            piece = None  # read again soon
        if piece is not None:
            if piece.data:
                self._send_piece(viewer, cursor.log, piece.offset, piece.data, piece.skipped_lines)
            viewer.ready[rank] = cursor
            self._has_work = viewer.has_room
        elif self._has_ended(cursor):
            self._send(viewer, _ended(viewer, rank, cursor.offset))
            self._unfollow(viewer, rank)

    def _has_ended(self, cursor: Cursor) -> bool:
        """Return whether the log is complete and all of it was sent."""
        log = cursor.log
        if not cursor.is_at_end:
            return False
        if log.final_bytes is not None:
            return log.is_complete
        transition = self._last.of(log.rank.attempt.task).transition
        is_past = transition.attempt > log.rank.attempt.number
        return is_past or transition.new in TERMINAL or transition.is_again

    def _send_piece(self, viewer: Viewer, log: RankLog, offset: int, data: bytes, skipped: int = 0) -> None:
        header = LogPiece(
            session=viewer.session,
            seq=viewer.next_seq,
            task=log.rank.attempt.task,
            attempt=log.rank.attempt.number,
            rank=log.rank.rank,
            offset=offset,
            skipped_lines=skipped,
            path=str(log.path) if skipped else "",
        )
        self._send(viewer, header, data)

    def _send(self, viewer: Viewer, message: ToViewerMessage, body: bytes = b"") -> bool:
        """Send or queue a message; return False when the viewer has gone. Queued messages keep their order."""
        frames = [viewer.routing_id, encode(message)]
        if body:
            frames.append(body)
        size = sum(map(len, frames))
        viewer.in_flight.append((viewer.next_seq, size))
        viewer.in_flight_bytes += size
        viewer.next_seq += 1
        viewer.unsent.append(frames)
        return self._flush(viewer)

    def _flush(self, viewer: Viewer) -> bool:
        while viewer.unsent:
            sending = self._port.send(viewer.unsent[0])
            if sending == "full":
                return True
            if sending == "gone":
                self._forget(viewer)
                return False
            viewer.unsent.popleft()
        return True

    def _refuse(self, routing_id: bytes, code: str, reason: str) -> None:
        if self._port.send((routing_id, encode(ViewerRefused(code=code, reason=reason)))) != "sent":
            self._counters["viewer_unsent"] += 1


def _ended(viewer: Viewer, rank: RankId, offset: int) -> LogEnded:
    return LogEnded(
        session=viewer.session,
        seq=viewer.next_seq,
        task=rank.attempt.task,
        attempt=rank.attempt.number,
        rank=rank.rank,
        offset=offset,
    )


def _look_at_size(log: RankLog) -> None:
    """Read the file's size, which may have grown without a chunk; it never shrinks."""
    if log.is_spooled:
        return
    try:
        log.position = max(log.position, log.path.stat().st_size)
    except OSError:
        return
