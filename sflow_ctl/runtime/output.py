"""The output service: one thread between the agents' logs and everybody who wants them.

It owns the log and the clients socket, so that bulk never reaches the scheduler's thread. It writes spooled
logs, feeds the console and the viewers, and acknowledges. The main thread gives it commands and hears of
completed logs through descriptors. What a peer sends is checked and counted; nothing it sends is fatal.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq

from protocol.codec import MAX_LOG_BODY_BYTES, decode_log_chunk, encode
from protocol.errors import MalformedMessageError
from protocol.ids import RankId
from protocol.messages import LogAck, LogChunk
from sflow_ctl.core.states import Transition
from sflow_ctl.runtime.console_feed import Console as Console
from sflow_ctl.runtime.console_feed import ConsoleFeed
from sflow_ctl.runtime.logstore import RankLog, SpoolFiles, current_path, log_file, new_part
from sflow_ctl.runtime.viewer_messages import Change
from sflow_ctl.runtime.viewers import ViewerHub

CHUNKS_PER_PASS = 32
"""Then everything else has its turn: at 256 KiB a chunk that is some milliseconds."""
PUMP_BYTES = 512 * 1024
GATHER_S = 0.02
"""After a first command at once, further ones are gathered for so long: thousands of changes a second must
not mean thousands of switches between threads."""
CLOSING_LOOK_S = 0.2
"""While the run ends: how often it is looked whether to wait on."""
DISK_RETRY_S = 1.0
TERMINAL_WAIT_S = 1.0
"""How long the end of a run waits for a terminal that does not take output (Ctrl-S)."""
UNREADABLE_WAIT_S = 5.0
REFUSE_EVERY_S = 0.5
"""A chunk beyond a hole is answered with where the hole begins, at most this often: what is in flight repeats
it."""
MAX_RETIRED = 20_000
"""Ended logs whose last position is remembered, so that late repetitions are recognised."""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter when another wants it (Python's default is 5 ms)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Expect:
    rank: RankId
    log_bytes: int
    is_spooled: bool


@dataclass(frozen=True, slots=True)
class _Rotate:
    earlier: RankId
    path: str
    earlier_path: str


class OutputService:
    """See the module. All public methods are the main thread's; none of them waits but `close`."""

    def __init__(
        self,
        *,
        log_socket: "zmq.Socket[bytes]",
        client_socket: "zmq.Socket[bytes]",
        run_directory: Path,
        node_of_key: Callable[[str], int | None],
        log_path_of: Callable[[RankId], str],
        console: Console | None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._socket = log_socket
        self._run_directory = run_directory
        self._node_of_key = node_of_key
        self._log_path_of = log_path_of
        self._console = console
        self._feed = ConsoleFeed(console) if console is not None and console.shows_output else None
        self._spool = SpoolFiles()
        self._last: dict[str, Change] = {}
        self._viewers = ViewerHub(client_socket, self._last, self._log_for_viewer, self.counters)
        self._logs: dict[RankId, RankLog] = {}
        self._retired: dict[RankId, int] = {}
        self._spooling: set[RankId] = set()
        """Spooled ranks that have ended and whose file is not complete here."""
        self._stalled: set[RankLog] = set()
        self._to_ack: dict[RankLog, bytes] = {}
        """Logs with news in this pass, and the routing id of their agent."""
        self._senders: dict[RankLog, bytes] = {}
        self._commands: deque[Change | _Expect | _Rotate] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_woken = False
        self._gather_until: float | None = None
        self._done_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._completed: deque[RankId] = deque()
        self._is_closing = False
        self._closing_since = 0.0
        self._close_by = float("inf")
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)

    # ------------------------------------------------------------------ the main thread's side

    def start(self) -> None:
        """Starts the thread; the sockets are its own from here to the end of `close`."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        if self._console is not None:
            self._console.on_room = self._wake
            self._console.start()
        self._thread.start()

    def publish(self, transition: Transition) -> None:
        """Shows a change of state to the console and every viewer. Changes are shown in this order."""
        self._commands.append(Change(time.time_ns(), transition))
        if not self._is_woken:
            self._wake()

    def expect(self, rank: RankId, log_bytes: int, is_spooled: bool) -> None:
        """The rank has ended and its log has this many bytes; a spooled one will be `completed` when they are
        here."""
        self._commands.append(_Expect(rank, log_bytes, is_spooled))
        if is_spooled or not self._is_woken:
            self._wake()

    def rotate(self, earlier: RankId, path: str, earlier_path: str) -> None:
        """A new attempt begins: our copy of the earlier one's log is moved aside. Before the new attempt is
        ordered."""
        self._commands.append(_Rotate(earlier, path, earlier_path))
        self._wake()

    @property
    def fileno(self) -> int:
        """Readable when `completed` has something."""
        return self._done_fd

    def completed(self) -> list[RankId]:
        """Spooled ranks whose file has become complete here since the last call."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._done_fd)
        result = []
        while self._completed:
            result.append(self._completed.popleft())
        return result

    def close(self, deadline_s: float) -> bool:
        """Waits for what is expected and for the console, at most that long; stops the thread.

        Viewers are told that the run is over. False when the thread is stuck, in a dead file system for
        example; the sockets are then still its own and must not be closed.
        """
        self._closing_since = time.monotonic()
        self._close_by = until = self._closing_since + deadline_s
        self._is_closing = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(deadline_s + 2.0)
        if self._console is not None and self._console.is_lossless:
            left = max(until - time.monotonic(), 0.05)
            if not self._console.flush(left):
                text = (
                    f"standard output was not read for {deadline_s:.0f} s: it is cut, the files are complete"
                )
                _log.warning("%s", text)
                self.counters["console_incomplete"] += 1
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ the thread

    def _wake(self) -> None:
        self._is_woken = True
        with suppress(BlockingIOError):
            os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are the main thread's
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_fd, zmq.POLLIN)
        self._viewers.register(poller)
        while not self._may_stop():
            now = time.monotonic()
            try:
                ready = dict(poller.poll(self._poll_ms(now)))
                self._pass(ready, time.monotonic())
            except Exception:  # noqa: BLE001  # the edge of the thread: a bug must not end everybody's output
                self.counters["output_errors"] += 1
                if self.counters["output_errors"] <= 10:
                    _log.exception("output service")
                time.sleep(0.01)  # a bug that repeats must not take the processor
        self._viewers.say_goodbye()
        self._spool.close()

    def _poll_ms(self, now: float) -> int | None:
        wake_at = min(
            (
                at
                for at in (
                    self._gather_until,
                    self._feed.wake_at(now) if self._feed is not None else None,
                    self._viewers.wake_at(now),
                    min((log.retry_at or now for log in self._stalled), default=None),
                    min(self._close_by, now + CLOSING_LOOK_S) if self._is_closing else None,
                )
                if at is not None
            ),
            default=None,
        )
        return None if wake_at is None else max(0, int((wake_at - now) * 1000 + 0.999))

    def _pass(self, ready: dict[object, int], now: float) -> None:
        if self._wake_fd in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
            if self._feed is not None:
                self._feed.room_again()
            self._gather_until = now + GATHER_S
        had_commands = self._take_commands(now)
        if self._gather_until is not None and now >= self._gather_until:
            self._gather_until = now + GATHER_S if had_commands else None
            if self._gather_until is None:
                self._is_woken = False
                self._take_commands(now)  # one may have come between the look and the flag
        if self._socket in ready:
            self._receive(now)
        if self._stalled:
            self._retry_stalled(now)
        if self._feed is not None:
            for log in self._feed.pump(now, PUMP_BYTES):
                self._settle(log)
        self._viewers.work(self._viewers.socket in ready, now)
        self._acknowledge()

    def _may_stop(self) -> bool:
        if not self._is_closing:
            return False
        if time.monotonic() >= self._close_by:
            if self._spooling:
                _log.warning("%d logs did not arrive completely in time", len(self._spooling))
                self.counters["logs_incomplete"] += len(self._spooling)
            return True
        if self._commands or self._spooling:
            return False
        return self._feed is None or self._feed.is_drained or self._gives_up_console(self._feed)

    def _gives_up_console(self, feed: ConsoleFeed) -> bool:
        """A stopped terminal, or logs that have been taken away, do not hold up the end of the run."""
        now = time.monotonic()
        if self._console is not None and not self._console.is_lossless:
            return now >= self._closing_since + TERMINAL_WAIT_S
        if feed.unreadable_since is None or now < feed.unreadable_since + UNREADABLE_WAIT_S:
            return False
        _log.warning("%d bytes of output could not be read to be shown", feed.behind_bytes())
        self.counters["console_incomplete"] += 1
        return True

    # ------------------------------------------------------------------ commands

    def _take_commands(self, now: float) -> bool:
        had_any = bool(self._commands)
        while self._commands:
            command = self._commands.popleft()
            if isinstance(command, Change):
                self._last[command.transition.task] = command
                if self._console is not None:
                    self._console.transition(command.transition)
                self._viewers.change(command)
            elif isinstance(command, _Expect):
                self._take_end(command, now)
            else:
                self._take_rotation(command)
        return had_any

    def _take_end(self, command: _Expect, now: float) -> None:
        if not command.is_spooled and self._feed is None and command.rank not in self._logs:
            return
        log = self._log(command.rank)
        if log is None:
            if command.is_spooled:
                self._report_complete(command.rank)
            return
        log.final_bytes = max(command.log_bytes, log.final_bytes or 0)
        if command.is_spooled:
            log.is_spooled = True
            self._spooling.add(command.rank)
            if log.final_bytes == 0:
                self._touch(log, now)
        else:
            # The file is where it belongs already, whatever of it has been streamed.
            log.position = max(log.position, log.final_bytes)
        if self._feed is not None:
            self._feed.grown(log)
            self._feed.pump(now, PUMP_BYTES)
            self._feed.ended(log)
        self._settle(log)

    def _touch(self, log: RankLog, now: float) -> None:
        try:
            self._spool.touch(log)
        except OSError as error:
            self._stall(log, error, now)

    def _take_rotation(self, command: _Rotate) -> None:
        path = log_file(self._run_directory, command.path)
        earlier_path = log_file(self._run_directory, command.earlier_path)
        if path is None or earlier_path is None:
            self.counters["malformed"] += 1
            return
        try:
            self._spool.rotate(command.earlier, path, earlier_path)
        except OSError as error:
            _log.warning("cannot keep the log of %s: %s", command.earlier, error)
        log = self._logs.get(command.earlier)
        if log is not None:
            log.path = earlier_path

    # ------------------------------------------------------------------ chunks

    def _receive(self, now: float) -> None:
        for _ in range(CHUNKS_PER_PASS):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._take_frames(frames, now)

    def _take_frames(self, frames: "list[zmq.Frame]", now: float) -> None:
        if len(frames) != 3 or len(frames[2]) > MAX_LOG_BODY_BYTES:
            self.counters["malformed"] += 1
            return
        try:
            node = self._node_of_key(str(frames[2].get("User-Id")))
        except zmq.ZMQError:
            node = None
        if node is None:
            self.counters["unauthorised"] += 1
            return
        try:
            chunk = decode_log_chunk(frames[1].bytes)
        except MalformedMessageError:
            self.counters["malformed"] += 1
            return
        self._take_chunk(frames[0].bytes, chunk, frames[2].buffer, now)

    def _take_chunk(self, sender: bytes, chunk: LogChunk, body: memoryview, now: float) -> None:
        end = chunk.offset + len(body)
        known = self._retired.get(chunk.rank)
        if known is not None and (end <= known or chunk.offset < 0):
            self.counters["repeated"] += 1
            self._send_ack(sender, chunk.rank, min(known, end))
            return
        if chunk.rank not in self._logs:
            self._take_commands(now)  # a rotation ordered before this rank began must come first
        log = self._log(chunk.rank)
        if log is None or chunk.offset < 0:
            self.counters["malformed"] += 1
            return
        self._senders[log] = sender
        if chunk.is_spool:
            if not log.is_spooled:
                log.is_spooled = True
                log.position = max(log.position, self._spool.existing_bytes(log))
            if not self._write(log, chunk, body, now):
                return
        else:
            if end <= log.position and len(body):
                self.counters["repeated"] += 1
            log.position = max(log.position, end)
        log.received = max(log.received, end)
        if chunk.is_end:
            log.is_over = True
            log.final_bytes = max(end, log.final_bytes or 0)
        self._to_ack[log] = sender
        if len(body):
            if self._feed is not None:
                self._feed.offer(log, chunk.offset, body)
            self._viewers.offer(log, chunk.offset, body)
        if log.is_complete:
            if self._feed is not None:
                self._feed.ended(log)
            self._settle(log)

    def _write(self, log: RankLog, chunk: LogChunk, body: memoryview, now: float) -> bool:
        """Puts the new part of a spooled chunk into the file. False when it could not be taken."""
        if log.is_held:
            self.counters["held_back"] += 1
            return False
        cut = new_part(log.position, chunk.offset, len(body))
        if cut is None:
            self.counters["gaps"] += 1
            if now >= log.refused_at + REFUSE_EVERY_S:
                log.refused_at = now
                self._send_ack(self._senders[log], log.rank, log.position)
            return False
        if cut == len(body) and len(body):
            self.counters["repeated"] += 1
            return True
        try:
            if len(body):
                self._spool.append(log, body[cut:])
            else:
                self._spool.touch(log)
        except OSError as error:
            log.received = max(log.received, log.position)
            self._stall(log, error, now)
            return False
        if log.retry_at is not None:
            self._recover(log)
        return True

    def _log(self, rank: RankId) -> RankLog | None:
        """The record of this rank's log, made when new; None for a rank that this run cannot have."""
        log = self._logs.get(rank)
        if log is None:
            path = self._path_of(rank)
            if path is None:
                return None
            log = self._logs[rank] = RankLog(rank, path, position=self._retired.pop(rank, 0))
            if self._feed is not None:
                self._feed.open(log, log.position)
        return log

    def _path_of(self, rank: RankId) -> Path | None:
        if rank.rank < 0 or rank.attempt.number < 1:
            return None
        try:
            relative = self._log_path_of(rank)
        except (KeyError, IndexError):
            return None
        last = self._last.get(rank.attempt.task)
        newest = last.transition.attempt if last is not None else rank.attempt.number
        return log_file(self._run_directory, current_path(relative, rank, newest))

    def _log_for_viewer(self, rank: RankId) -> RankLog | None:
        """The live record when there is one, otherwise a record of the file as it is."""
        log = self._logs.get(rank)
        if log is not None:
            return log
        path = self._path_of(rank)
        return None if path is None else RankLog(rank, path)

    # ------------------------------------------------------------------ the disk refuses

    def _stall(self, log: RankLog, error: OSError, now: float) -> None:
        if not self._stalled:
            self._say(
                logging.ERROR, f"cannot write {log.path}: {error.strerror}; nothing is lost, trying again"
            )
        self.counters["disk_errors"] += 1
        log.is_held = True
        log.retry_at = now + DISK_RETRY_S
        self._stalled.add(log)

    def _recover(self, log: RankLog) -> None:
        log.is_held, log.retry_at = False, None
        self._stalled.discard(log)
        if not self._stalled:
            self._say(logging.WARNING, f"{log.path} can be written again")

    def _retry_stalled(self, now: float) -> None:
        """Asks the agents to send again what was refused: memory holds nothing meanwhile."""
        for log in list(self._stalled):
            if log.retry_at is None or now < log.retry_at:
                continue
            log.is_held, log.retry_at = False, now + DISK_RETRY_S
            sender = self._senders.get(log)
            if log.is_complete or sender is None:
                self._touch(log, now)  # only the file itself was missing
                if not log.is_held:
                    self._recover(log)
                    self._settle(log)
            else:
                self._send_ack(sender, log.rank, log.position)

    def _say(self, level: int, text: str) -> None:
        _log.log(level, "%s", text)
        if self._console is not None:
            self._console.say(text)

    # ------------------------------------------------------------------ the end of a log, acknowledgements

    def _settle(self, log: RankLog) -> None:
        """Reports and forgets a log that is complete and shown."""
        if not log.is_complete:
            return
        if log.rank in self._spooling and log not in self._stalled:
            self._spooling.discard(log.rank)
            self._report_complete(log.rank)
        is_shown = self._feed is None or self._feed.is_shown(log)
        has_streamed = log in self._senders
        if not is_shown or log in self._stalled or (has_streamed and not log.is_over):
            return
        if log.is_spooled and log.rank in self._spooling:
            return
        self._retire(log)

    def _retire(self, log: RankLog) -> None:
        if self._logs.pop(log.rank, None) is None:
            return
        if log in self._to_ack:
            self._send_ack(self._to_ack.pop(log), log.rank, log.acknowledged)
        self._senders.pop(log, None)
        self._spool.close_one(log.rank)
        if self._feed is not None:
            self._feed.forget(log)
        self._retired[log.rank] = log.position
        if len(self._retired) > MAX_RETIRED:
            del self._retired[next(iter(self._retired))]

    def _report_complete(self, rank: RankId) -> None:
        self._completed.append(rank)
        with suppress(BlockingIOError):
            os.eventfd_write(self._done_fd, 1)

    def _acknowledge(self) -> None:
        for log, sender in self._to_ack.items():
            self._send_ack(sender, log.rank, log.acknowledged)
        self._to_ack.clear()

    def _send_ack(self, sender: bytes, rank: RankId, offset: int) -> None:
        try:
            self._socket.send_multipart((sender, encode(LogAck(rank=rank, offset=offset))), zmq.NOBLOCK)
        except zmq.ZMQError:
            self.counters["unsent"] += 1  # the agent is away; it asks again when it is back
