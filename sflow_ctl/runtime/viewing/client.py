"""The viewer's end of the clients socket: attach, follow logs, receive changes.

Read-only: it cannot change a run. A viewer that was suspended, or whose connection broke, attaches again by
itself and continues where it was.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import assert_never

import zmq
from msgspec import Struct, field

from protocol.ids import AttemptId, RankId
from protocol.session.codec import MAX_FRAME_BYTES
from sflow_ctl.runtime.record.directory import ConnectionFacts
from sflow_ctl.runtime.record.durable import UNREADABLE
from sflow_ctl.runtime.viewing.messages import (
    Attach,
    Change,
    Follow,
    FromViewerMessage,
    LogEnded,
    LogPiece,
    RunEnded,
    RunNews,
    StateChanges,
    Taken,
    Unfollow,
    ViewerRefused,
    decode_to_viewer,
    encode,
)

ATTACH_WITHIN_S = 2.0
"""The limit for a handshake and an answer; afterwards the files are read instead."""
ALIVE_EVERY_S = 2.0
LOST_AFTER_S = 10.0
"""Without a connection for this time the controller counts as gone."""
HEARTBEAT_MS = 5_000
_MONITORED = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
MESSAGES_PER_READ = 64


class LogOutput(Struct, frozen=True):
    """Bytes of a followed log, after `skipped_lines` that this viewer was too slow for."""

    rank: RankId
    data: bytes
    skipped_lines: int = 0
    path: str = ""


class OutputEnded(Struct, frozen=True):
    """All of a followed log has been received."""

    rank: RankId


class Current(Struct, frozen=True):
    """Every change up to now has been received."""


class Ended(Struct, frozen=True):
    """The controller has said goodbye, or does not answer any more. The last news."""

    is_orderly: bool


ViewEvent = Change | LogOutput | OutputEnded | Current | Ended


class _Followed(Struct):
    lines: int
    offset: int | None


class ViewerLink(Struct):
    """An attached viewer. Made by `connect`."""

    _context: "zmq.Context[zmq.Socket[bytes]]"
    _socket: "zmq.Socket[bytes]"
    _monitor: "zmq.Socket[bytes]"
    """Receive from the library when the connection breaks and returns."""
    _session: int = 1
    _next_seq: int = 1
    _followed: dict[RankId, _Followed] = field(default_factory=dict)
    _last_alive: float = 0.0
    _lost_at: float | None = None
    _is_current: bool = False

    def follow(self, rank: RankId, lines: int, offset: int | None = None) -> None:
        """Request a rank's log from `offset` on, or from its last `lines` lines on."""
        self._followed[rank] = _Followed(lines, offset)
        self._send_follow(rank)

    def unfollow(self, rank: RankId) -> None:
        """Stop following a log."""
        if self._followed.pop(rank, None) is not None:
            self._send(Unfollow(task=rank.attempt.task, attempt=rank.attempt.number, rank=rank.rank))

    def receive(self, timeout_s: float) -> list[ViewEvent]:
        """Return the news that have arrived, after waiting at most so long for the first."""
        events: list[ViewEvent] = []
        is_readable = bool(self._socket.poll(int(timeout_s * 1000)))
        now = time.monotonic()
        if is_readable:
            for _ in range(MESSAGES_PER_READ):
                try:
                    frames = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                self._take(frames, events)
            self._alive(now)
        elif now - self._last_alive >= ALIVE_EVERY_S:
            self._alive(now)
        self._look_at_connection(now)
        if self._lost_at is not None and now - self._lost_at > LOST_AFTER_S:
            events.append(Ended(is_orderly=False))
        return events

    def close(self) -> None:
        """Detach, without an effect on the run."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()

    def _look_at_connection(self, now: float) -> None:
        while self._monitor.poll(0):
            event = int.from_bytes(self._monitor.recv_multipart()[0][:2], sys.byteorder)
            was_lost = self._lost_at is not None
            self._lost_at = now if event == zmq.EVENT_DISCONNECTED else None
            if was_lost and self._lost_at is None:
                self._alive(now)  # a controller that has taken over does not know this viewer, and says so

    def _alive(self, now: float) -> None:
        self._last_alive = now
        self._send(Taken(seq=self._next_seq - 1))

    def _take(self, frames: list[bytes], events: list[ViewEvent]) -> None:
        try:
            message = decode_to_viewer(frames[0])
        except (*UNREADABLE, IndexError):
            return  # from a newer controller: nothing this viewer could show
        if isinstance(message, ViewerRefused):
            if message.code == "not-attached":
                self._attach_again()
            else:
                events.append(Ended(is_orderly=False))
        elif self._is_next(message):
            body = frames[1] if len(frames) > 1 else b""
            events.extend(self._events_of(message, body))

    def _is_next(self, message: RunNews) -> bool:
        """Return True for the message that follows the last one; attach again where some are missing."""
        if message.session != self._session:
            return False  # sent before it attached again
        if message.seq != self._next_seq:
            if message.seq > self._next_seq:
                self._attach_again()  # something is missing: a connection broke in between
            return False
        self._next_seq += 1
        return True

    def _events_of(self, message: RunNews, body: bytes) -> Iterator[ViewEvent]:
        match message:
            case StateChanges():
                yield from message.changes
                if message.is_current and not self._is_current:
                    self._is_current = True
                    yield Current()
            case LogPiece():
                rank = RankId(AttemptId(message.task, message.attempt), message.rank)
                followed = self._followed.get(rank)
                if followed is not None:
                    followed.offset = message.offset + len(body)
                    yield LogOutput(rank, body, message.skipped_lines, message.path)
            case LogEnded():
                rank = RankId(AttemptId(message.task, message.attempt), message.rank)
                if self._followed.pop(rank, None) is not None:
                    yield OutputEnded(rank)
            case RunEnded():
                yield Ended(is_orderly=True)
            case _:
                assert_never(message)

    def _attach_again(self) -> None:
        self._session += 1
        self._next_seq = 1
        self._is_current = False
        self._send(Attach(session=self._session))
        for rank in self._followed:
            self._send_follow(rank)

    def _send_follow(self, rank: RankId) -> None:
        followed = self._followed[rank]
        message = Follow(
            task=rank.attempt.task,
            attempt=rank.attempt.number,
            rank=rank.rank,
            offset=followed.offset,
            lines=followed.lines,
        )
        self._send(message)

    def _send(self, message: FromViewerMessage) -> None:
        with suppress(zmq.Again):  # the controller is away; important messages are sent again when it is back
            self._socket.send(encode(message), zmq.NOBLOCK)


def connect(facts: ConnectionFacts, within_s: float = ATTACH_WITHIN_S) -> ViewerLink | None:
    """Return a link to the run's controller over the first of its addresses that answers; None if none does."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    sockets = []
    for endpoint in facts.client_endpoints:
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.ipv6 = "[" in endpoint
        socket.curve_serverkey = facts.controller_key.encode()
        socket.curve_publickey = zmq.curve_public(facts.viewer_secret.encode())
        socket.curve_secretkey = facts.viewer_secret.encode()
        socket.maxmsgsize = MAX_FRAME_BYTES
        socket.rcvhwm = 64
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = 2 * HEARTBEAT_MS
        socket.connect(endpoint)
        socket.send(encode(Attach(session=1)), zmq.NOBLOCK)
        sockets.append(socket)
        poller.register(socket, zmq.POLLIN)
    answered = [socket for socket, _ in poller.poll(int(within_s * 1000))]
    chosen = next((socket for socket in sockets if socket in answered), None)
    for socket in sockets:
        if socket is not chosen:
            socket.close(linger=0)
    if chosen is None:
        context.term()
        return None
    now = time.monotonic()
    monitor = chosen.get_monitor_socket(_MONITORED)
    return ViewerLink(context, chosen, monitor, _last_alive=now)
