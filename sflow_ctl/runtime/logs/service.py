"""The output service: one thread between the agents' logs and all their consumers.

It owns the channel for logs and the port of clients, so that bulk never reaches the scheduler's thread. The main thread
gives it commands, and learns of completed logs through a descriptor. The parts: `intake.py` takes chunks in,
the modules of `consumers/` use them.
"""

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from protocol.ids import RankId
from protocol.machine.loop_signals import QuietThread
from protocol.messages.facts import LogSearch
from protocol.messages.orders import LogMatched
from protocol.streams.waiting import Waiting
from sflow_ctl.core.states import Transition
from sflow_ctl.runtime.logs.consumers.console import ConsoleFeed, ConsoleSink
from sflow_ctl.runtime.logs.consumers.consumer import FollowedLogs, LogConsumer
from sflow_ctl.runtime.logs.consumers.gang import GangLogs
from sflow_ctl.runtime.logs.consumers.search import LogSearches
from sflow_ctl.runtime.logs.consumers.viewers import ViewerHub
from sflow_ctl.runtime.logs.intake import LogIntake
from sflow_ctl.runtime.logs.last_changes import LastChanges
from sflow_ctl.runtime.logs.store import LogBook
from sflow_ctl.runtime.transport.client_port import ClientPort
from sflow_ctl.runtime.transport.transport import LogChannel
from sflow_ctl.runtime.viewing.messages import Change

if TYPE_CHECKING:
    from sflow_ctl.runtime.logs.earlier_logs import EarlierLogs
    from sflow_ctl.runtime.operating.desk import RequestDesk

T = TypeVar("T")
PUMP_BYTES = 512 * 1024
GATHER_S = 0.02
"""The first command is carried out at once, further ones are gathered for this time.

Thousands of changes a second must not mean thousands of switches between threads.
"""
CLOSING_LOOK_S = 0.2
"""While the run ends: the interval of checks whether to wait longer."""
TERMINAL_WAIT_S = 1.0
"""How long the end of a run waits for a terminal that does not accept output (Ctrl-S)."""
UNREADABLE_WAIT_S = 5.0
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter when another wants it (Python's default is 5 ms)."""
MAX_NOTES = 100
"""The limit of notes for the main thread."""


class _Expect(Struct, frozen=True):
    rank: RankId
    log_bytes: int
    is_spooled: bool


class _Rotate(Struct, frozen=True):
    earlier: RankId
    path: str
    earlier_path: str


class _Say(Struct, frozen=True):
    text: str


class _Waiting(Struct, frozen=True):
    task: str
    text: str


class _Search(Struct, frozen=True):
    node: int
    asked: LogSearch


class _NodeLost(Struct, frozen=True):
    node: int


class OutputService:
    """The output service. All public methods are for the main thread; only `close` waits."""

    def __init__(
        self,
        *,
        logs: LogChannel,
        clients: ClientPort,
        run_directory: Path,
        log_path_of: Callable[[RankId], str],
        gang_sizes: dict[str, int],
        console: ConsoleSink | None,
        desk: "RequestDesk",
        place_of: Callable[[RankId], int | None],
        last: LastChanges | None = None,
        earlier: "EarlierLogs | None" = None,
        followed: FollowedLogs | None = None,
    ) -> None:
        """`place_of` returns a rank's node, in the thread; `earlier` takes late logs, `followed` is of a killed controller."""
        self._place_of, self.counters, self.gang_sizes = place_of, Counter[str](), gang_sizes
        """Numbers of refused, dropped and repeated messages, by kind."""
        self._console = console
        self.say_at_once = console.say if console is not None else (lambda _text: None)  # from any thread
        self._feed = ConsoleFeed(console) if console is not None and console.shows_output else None
        self._last = LastChanges() if last is None else last
        book = LogBook(run_directory, log_path_of, self._newest_attempt)
        self._viewers = ViewerHub(clients, self._last, book.to_view, self.counters, desk)
        self._searches = LogSearches(run_directory, self._report_matches, self.note)
        gangs = GangLogs(run_directory, gang_sizes, self.note, followed)
        feeds = [self._feed] if self._feed is not None else []
        self._consumers: list[LogConsumer] = [gangs, *feeds, self._viewers, self._searches]
        """In the order in which they get chunks and turns."""
        if earlier is not None:
            earlier.note = self._keep_note
        self._channel, self._clients = logs, clients
        self._intake = LogIntake(
            logs, place_of, book, self._consumers, self, self.counters, earlier, followed
        )
        self._commands: deque[Change | _Expect | _Rotate | _Say | _Waiting | _Search | _NodeLost] = deque()
        self._matched: deque[tuple[int, LogMatched]] = deque()
        self._completed, self._notes = deque[RankId](), deque[str]()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._done_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_woken = False
        """The thread will read its commands soon: no need to wake it for another."""
        self._gather_until: float | None = None
        self._is_closing = False
        self._closing_since = 0.0
        self._close_by = float("inf")
        self._is_hurried = False
        self._thread = QuietThread(self._run, "output")

    # ------------------------------------------------------------------ the main thread's side

    def start(self) -> None:
        """Start the thread; it owns the sockets from here to the end of `close`."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        if self._console is not None:
            self._console.on_room = self._wake
            self._console.start()
        self._thread.start()

    def publish(self, transition: Transition) -> None:
        """Show a change of state to the console and every viewer, in the order of the calls, at the latest after `flush`."""
        self._commands.append(Change(time.time_ns(), transition))

    def flush(self) -> None:
        """Have the thread show what was published: not before, because both threads cannot compute at the same time."""
        if not self._is_woken:
            self._wake()

    def expect(self, rank: RankId, log_bytes: int, is_spooled: bool) -> None:
        """Note that the rank has ended with this many bytes; a spooled one is `completed` when all have arrived."""
        self._commands.append(_Expect(rank, log_bytes, is_spooled))
        if is_spooled or not self._is_woken:
            self._wake()

    def rotate(self, earlier: RankId, path: str, earlier_path: str) -> None:
        """Move our copy of an earlier attempt's log aside. Must come before the new attempt is ordered."""
        self._commands.append(_Rotate(earlier, path, earlier_path))
        self._wake()

    def say(self, text: str) -> None:
        """Show a line on the console, after everything ordered before."""
        self._commands.append(_Say(text))
        self._wake()

    def waiting(self, task: str, text: str) -> None:
        """Tell the console which readiness conditions a service has not met."""
        self._commands.append(_Waiting(task, text))
        self._wake()

    def warn(self, text: str) -> None:
        """Show a warning on the console, and put it into `sflow.log`. Callable from any thread."""
        self.say(f"warning: {text}")
        self._keep_note(text)

    def search(self, node: int, asked: LogSearch) -> None:
        """Search for a pattern on behalf of a node; findings are in `matched`."""
        self._commands.append(_Search(node, asked))
        self._wake()

    def node_lost(self, node: int) -> None:
        """Stop waiting for the logs of a node whose agent will send nothing any more."""
        self._commands.append(_NodeLost(node))
        self._wake()

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when `completed` has something."""
        return self._done_fd

    def completed(self) -> list[RankId]:
        """Return the spooled ranks whose file has become complete since the last call."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._done_fd)
        return _drained(self._completed)

    def matched(self) -> list[tuple[int, LogMatched]]:
        """Return answers to `search` since the last call, and for which node. Signalled like `completed`."""
        return _drained(self._matched)

    def notices(self) -> list[str]:
        """Return lines for `sflow.log` since the last call. Signalled like `completed`."""
        return _drained(self._notes)

    def hurry(self) -> None:
        """Have `close` wait no longer for readers. Callable from a signal handler."""
        self._is_hurried, self._close_by = True, min(self._close_by, time.monotonic())

    def close(self, deadline_s: float) -> bool:
        """Wait for expected logs and for a piped console, at most that long; stop the thread.

        Viewers are informed that the run is over. Returns False when the thread is stuck, in a dead file
        system for example; it then still owns the sockets, and they must not be closed.
        """
        self._closing_since = time.monotonic()
        self._close_by = until = self._closing_since + (0.0 if self._is_hurried else deadline_s)
        self._is_closing = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(deadline_s + 2.0)
        if self._console is not None and self._console.is_lossless:
            from sflow_ctl.runtime.logs.console_drain import drain  # not for --quiet

            unread = drain(self._console, self._closing_since, until, lambda: self._is_hurried)
            if unread is not None:
                self._keep_note(unread)
                self.counters["console_incomplete"] += 1
        if self._console is not None and self._console.failure is not None:
            self._keep_note(self._console.failure)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ the thread

    def _wake(self) -> None:
        self._is_woken = True
        with suppress(BlockingIOError):
            os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        waiting = Waiting()
        waiting.add(self._wake_fd)
        self._channel.watch(waiting)
        self._clients.watch(waiting)
        while not self._may_stop():
            try:
                waiting.wait(self._wait_ms(time.monotonic()))
                self._pass(self._wake_fd in waiting, time.monotonic())
            except Exception:  # noqa: BLE001  # the edge of the thread: a bug must not end all output
                self.counters["bugs"] += 1
                import traceback

                self._keep_note(f"bug in the output service:\n{traceback.format_exc()}")
                time.sleep(0.01)  # a bug that repeats must not use all of the processor
        self._viewers.say_goodbye()
        self._intake.close()

    def _wait_ms(self, now: float) -> int:
        times = [
            self._gather_until,
            self._intake.wake_at(now),
            self._clients.wake_at(),
            *(consumer.wake_at(now) for consumer in self._consumers),
            min(self._close_by, now + CLOSING_LOOK_S) if self._is_closing else None,
        ]
        wake_at = min((at for at in times if at is not None), default=None)
        return -1 if wake_at is None else max(0, int((wake_at - now) * 1000 + 0.999))

    def _pass(self, is_woken: bool, now: float) -> None:
        if is_woken:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
            if self._feed is not None:
                self._feed.room_again()
            self._gather_until = now + GATHER_S
        had_commands = self._take_commands()
        if self._gather_until is not None and now >= self._gather_until:
            self._gather_until = now + GATHER_S if had_commands else None
            if self._gather_until is None:
                self._is_woken = False
                self._take_commands()  # one may have arrived between the check and the flag
        self._intake.receive(now)
        self._pump(now)
        self._viewers.serve(self._clients.serve(now), now)
        self._intake.work(now)

    def _pump(self, now: float) -> None:
        for consumer in self._consumers:
            for log in consumer.work(now, PUMP_BYTES):
                self._intake.settle_log(log)

    def _take_commands(self) -> bool:
        """Carry out the main thread's commands; return whether there were any."""
        had_any = bool(self._commands)
        while self._commands:
            command = self._commands.popleft()
            if isinstance(command, Change):
                self._last.note(command)
                if self._console is not None:
                    self._console.transition(command.transition)
                self._viewers.change(command)
            elif isinstance(command, _Expect):
                now = time.monotonic()
                if self._intake.ended(command.rank, command.log_bytes, command.is_spooled, now):
                    self._pump(now)  # its last lines, before the line that says how it ended
            elif isinstance(command, _Waiting):
                if self._console is not None:
                    self._console.waiting(command.task, command.text)
            elif isinstance(command, _Say):
                if self._console is not None:
                    self._console.say(command.text)
            elif isinstance(command, _Search):
                self._searches.take(command.node, command.asked)
            elif isinstance(command, _NodeLost):
                self._searches.node_lost(command.node)
                self._intake.give_up(
                    [one for one in self._intake.awaited if self._place_of(one) == command.node]
                )
            else:
                self._intake.rotate(command.earlier, command.path, command.earlier_path)
        return had_any

    def _newest_attempt(self, task: str) -> int | None:
        last = self._last.get(task)
        return None if last is None else last.transition.attempt

    def before_new_rank(self) -> None:
        """Carry out the main thread's orders before the first bytes of a rank are taken."""
        self._take_commands()

    def log_completed(self, rank: RankId) -> None:
        """Report to the main thread that an awaited log is complete."""
        self._completed.append(rank)
        self._signal_done()

    def _report_matches(self, found: list[tuple[int, LogMatched]]) -> None:
        self._matched.extend(found)
        self._signal_done()

    def note(self, text: str) -> None:
        """Show a warning on the console now, and in `sflow.log` through `notices`."""
        if self._console is not None:
            self._console.say(f"warning: {text}")
        self._keep_note(text)

    def _keep_note(self, text: str) -> None:
        if len(self._notes) < MAX_NOTES:
            self._notes.append(text)
        self._signal_done()

    def _signal_done(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_write(self._done_fd, 1)

    # ------------------------------------------------------------------ the end

    def _may_stop(self) -> bool:
        if not self._is_closing:
            return False
        now = time.monotonic()
        if now >= self._close_by:
            if self._intake.awaited:
                self.note(f"{len(self._intake.awaited)} logs did not arrive completely in time")
                self.counters["logs_incomplete"] += len(self._intake.awaited)
            return True
        if self._commands or self._intake.awaited:
            return False
        return self._feed is None or self._feed.is_drained or self._gives_up_console(self._feed, now)

    def _gives_up_console(self, feed: ConsoleFeed, now: float) -> bool:
        """Return whether to stop waiting: a stopped terminal, or deleted logs, must not delay the end of the run."""
        if self._console is not None and not self._console.is_lossless:
            return now >= self._closing_since + TERMINAL_WAIT_S
        if feed.unreadable_since is None or now < feed.unreadable_since + UNREADABLE_WAIT_S:
            return False
        self.note(f"{feed.behind_bytes()} bytes of output could not be read to be shown")
        self.counters["console_incomplete"] += 1
        return True


def _drained(queue: "deque[T]") -> list[T]:
    """Yield everything that is in it now; the other thread may add more meanwhile."""
    result = []
    while queue:
        result.append(queue.popleft())
    return result
