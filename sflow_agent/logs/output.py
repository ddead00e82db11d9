"""Moves the output of ranks into their logs: a pipe for each rank, spliced into its file by one thread.

A pipe, because a program that opens `/dev/stdout` or `/proc/self/fd/1` anew truncates a file and cannot
truncate a pipe. A thread, because a hanging file system must not block the agent's loop. The guardian holds
the same descriptors and takes over if the agent is killed (`output_handover`). `processes.table` opens and
drains outputs; `follower` reads the files and learns here what grew.
"""

import contextlib
import errno
import fcntl
import os
import resource
import select
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable

from protocol.ids import RankId
from protocol.machine.log_file import open_log
from protocol.machine.loop_signals import QuietThread
from protocol.machine.named_file import WRITTEN_AGAIN, is_at_path, put_back
from sflow_agent.descriptors import Descriptors
from sflow_agent.logs.output_handover import OutputSender
from sflow_agent.logs.splicing import Masks, Pending, Unwritten, discard, move, move_masked, write_masked

ARM_AFTER_S = 0.03
"""A rank that ends sooner wakes no thread and costs the guardian nothing: its pipe holds its output until its exit."""
PER_TURN_BYTES = 1 << 20
LARGE_PIPE_BYTES = 1 << 20
LARGE_PIPES = 16
"""Pipes that may be enlarged: unprivileged users have 64 MiB for all of theirs. Source: pipe(7), pipe-user-pages-soft."""
SPARED_DESCRIPTORS = 256
"""Descriptors of an agent that outputs leave free: they take at most half of the rest, two each."""
_DIRECT = "those beyond print straight to their logs"
RETRY_S = 0.5
"""After so long without other output, logs whose disk is full are tried again."""
HAND_OVER_AGAIN_S = 0.05
TELL_EVERY_S = 0.005
"""How often the loop hears of the growth of flooding outputs: each time it competes with the thread for the interpreter."""
LOCK_WITHIN_S = 1.0
"""How long the loop waits for the thread, which a file system may block, before it reports an exit without the rest."""


class RankOutput:
    """One rank's pipe and log. The thread that moves or closes holds the lock."""

    def __init__(self, number: int, rank: RankId, path: str, pipe: int, file: int) -> None:
        self.number = number
        self.rank = rank
        self.path = path
        self.pipe = pipe
        self.file = file
        self.lock = threading.Lock()
        self.is_armed = False
        self.is_closed = False
        self.is_large = False
        self.keeps_path = True
        """Its log is put back if the task deletes or renames it: until a next attempt's log has that path."""
        self.end = 0
        """The size of its log after the last move: one that is smaller since was truncated."""
        self.held_reason = ""
        """Why its output stays in the pipe: the disk is full. Empty while it is written."""
        self.pending = Pending()
        """What masking holds back."""

    def waiting_bytes(self) -> int:
        """Return how much is in the pipe."""
        return int(struct.unpack("i", fcntl.ioctl(self.pipe, termios.FIONREAD, b"\0\0\0\0"))[0])


class Outputs:
    """All outputs of this agent's ranks. `warn` is called once for each text, in the loop's thread.

    A source of the loop: `poll` arms outputs that have lived long enough, and passes on the findings of the
    thread.
    """

    def __init__(
        self, descriptors: Descriptors, guardian: OutputSender | None, warn: Callable[[str], None]
    ) -> None:
        self.mask: Masks | None = None
        """Of the run's secrets, if it has any. The guardian does not have it, so it is given no output then."""
        self.on_grown: Callable[[RankId], None] = lambda _rank: None
        self.is_followed: Callable[[RankId], bool] = lambda _rank: True
        """Returns whether `on_grown` is of use for a rank; called in either thread, once the output is in the file."""
        self._guardian = guardian
        self._warn = warn
        self._by_rank: dict[RankId, RankOutput] = {}
        self._by_pipe: dict[int, RankOutput] = {}
        self._to_arm: deque[tuple[float, RankOutput]] = deque()
        self._hand_over_at: float | None = None
        """When the guardian, which was behind with its reading, is given the rest."""
        self._number = 0
        self._large = 0
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(0, (soft - SPARED_DESCRIPTORS) // 4)
        self._epoll: select.epoll | None = None
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._grown: deque[RankId] = deque()
        self._ended: deque[RankOutput] = deque()
        self._is_loop_behind = False
        """A flooding output has grown, and the loop is to hear of it in a moment."""
        self._problems: deque[str] = deque()
        self._truncations: dict[RankId, int] = {}
        self._held: dict[int, RankOutput] = {}
        """By number: those whose log's disk is full. The thread tries them again."""
        descriptors.add(self._event, select.EPOLLIN, self._take_news)

    # ------------------------------------------------------------------ the loop's side

    def open(self, rank: RankId, path: str, now: float) -> int | None:
        """Return the descriptor that a rank prints to; close it once the rank has it.

        None when no descriptor is left for a pipe: then it prints straight to its log.

        Raises: OSError for a log that cannot be opened.
        """
        file = open_log_of(path)
        if len(self._by_rank) >= self._most:
            os.close(file)
            unmasked = "" if self.mask is None else ", where secrets are not masked"
            self._warn(
                f"an agent may open too few files for {self._most + 1} tasks' output: {_DIRECT}{unmasked}"
            )
            return None
        try:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None
            raise
        os.set_blocking(read_end, False)
        self._number += 1
        output = RankOutput(self._number, rank, path, read_end, file)
        self._by_rank[rank] = self._by_pipe[read_end] = output
        self._to_arm.append((now + ARM_AFTER_S, output))
        return write_end

    def use_mask(self, mask: Masks | None) -> None:
        """Mask from now on, also what ranks print that live already: the guardian holds nothing of them any more."""
        self.mask = mask
        if self._guardian is not None and mask is not None:
            self._guardian.remove_all()

    def watch(self, rank: RankId) -> bool:
        """Move this rank's output as it is printed. Return False for a rank that prints straight to its log."""
        output = self._by_rank.get(rank)
        if output is None:
            return False
        self._arm(output)
        return True

    def drain(self, rank: RankId) -> str:
        """Move into the log what the rank has printed so far. Its pipe stays open while a process has it.

        Returns a sentence about output that is lost because the disk is full; empty if none is.
        """
        output = self._by_rank.get(rank)
        if output is None or not output.lock.acquire(timeout=LOCK_WITHIN_S):
            return ""
        lost = ""
        try:
            if output.is_closed:
                return ""
            # Not for as long as there is output: a process that was left behind may print without end.
            is_at_end = self._move(output, output.waiting_bytes() + 1)
            if not output.held_reason:
                self._write_held(output)
            if output.held_reason:
                lost = f"its log {output.path} could not be written ({output.held_reason}): the end of its output is lost"
                discard(output.pipe, output.held_reason)
                output.pending = Pending()
                self._hold(output, "")
            if is_at_end:
                self._close(output)
            else:
                self._arm(output)
        finally:
            output.lock.release()
        if self._is_loop_behind:  # the thread may have nothing to do that would make it say so
            self._signal_loop()
        self._forget_ended()
        return lost

    def truncations(self, rank: RankId) -> int:
        """Return how often the rank's log has begun anew: counted before it gets its next bytes."""
        return self._truncations.get(rank, 0)

    def superseded(self, path: str) -> None:
        """Note that a log is renamed because the next attempt's gets its path."""
        for output in list(self._by_rank.values()):
            if output.path == path:
                with output.lock:
                    output.keeps_path = False

    def discard(self, rank: RankId) -> None:
        """Close the output of a rank that could not be started."""
        output = self._by_rank.get(rank)
        if output is not None:
            with output.lock:
                self._close(output)
            self._forget_ended()

    def drain_all(self) -> None:
        """Move everything that was printed: the agent leaves."""
        for rank in list(self._by_rank):
            self.drain(rank)

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        to_arm = self._to_arm
        while to_arm and to_arm[0][1].is_closed:
            to_arm.popleft()  # it has ended
        if self._guardian is not None and self._guardian.has_news:
            return 0.0
        if self._hand_over_at is None:
            return to_arm[0][0] if to_arm else None
        return min(to_arm[0][0], self._hand_over_at) if to_arm else self._hand_over_at

    def poll(self, now: float) -> tuple[()]:
        """Arm the outputs of ranks that live longer than a moment, and hand them to the guardian."""
        while self._to_arm and (self._to_arm[0][0] <= now or self._to_arm[0][1].is_closed):
            self._arm(self._to_arm.popleft()[1])
        if self._guardian is not None:
            self._hand_over_at = None if self._guardian.flush() else now + HAND_OVER_AGAIN_S
        return ()

    def _arm(self, output: RankOutput) -> None:
        if output.is_armed or output.is_closed:
            return
        output.is_armed = True
        if self._guardian is not None and self.mask is None:
            self._guardian.add(output.number, output.pipe, output.file)
        if self._epoll is None:
            self._epoll = select.epoll()
            QuietThread(self._work, "output").start()
        self._epoll.register(output.pipe, select.EPOLLIN)

    def _take_news(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        while self._grown:
            self.on_grown(self._grown.popleft())
        while self._problems:
            self._warn(self._problems.popleft())
        self._forget_ended()

    def _forget_ended(self) -> None:
        while self._ended:
            output = self._ended.popleft()
            if self._by_rank.get(output.rank) is output:
                del self._by_rank[output.rank]

    # ------------------------------------------------------------------ either thread, with the output's lock

    def _move(self, output: RankOutput, limit: int) -> bool:
        """Move up to `limit` bytes; return whether the pipe is at its end. Output that is not written is reported."""
        if output.keeps_path and not is_at_path(output.file, output.path):
            self._put_back(output)
        if output.end and os.fstat(output.file).st_size < output.end:
            self._truncations[output.rank] = self.truncations(output.rank) + 1
        if self.mask is None:
            moved, is_at_end, unwritten = move(output.pipe, output.file, limit)
        else:
            pipe, file = output.pipe, output.file
            moved, is_at_end, unwritten = move_masked(pipe, file, limit, output.pending, self.mask)
        if moved:
            output.end = os.lseek(output.file, 0, os.SEEK_CUR)
        self._note_unwritten(output, unwritten)
        is_news = moved > 0 and self.is_followed(output.rank)
        if is_news:
            self._grown.append(output.rank)
        if unwritten is not None or (is_news and not output.is_large):
            self._signal_loop()
        elif is_news:
            self._is_loop_behind = True
        if moved >= 1 << 16 and not output.is_large and self._large < LARGE_PIPES:
            output.is_large = True
            self._large += 1
            with contextlib.suppress(OSError):  # the user's pipes have used up their memory
                fcntl.fcntl(output.pipe, fcntl.F_SETPIPE_SZ, LARGE_PIPE_BYTES)
        return is_at_end

    def _put_back(self, output: RankOutput) -> None:
        try:
            done = put_back(output.file, output.path)
        except OSError:  # the whole run directory is gone, or its disk is full: the old file takes the rest
            output.keeps_path = False
            return
        self._problems.append(f"{output.path} was deleted or renamed while its task ran: {done}")
        if done != WRITTEN_AGAIN:
            self._truncations[output.rank] = self.truncations(output.rank) + 1
            output.end = 0
        self._signal_loop()
        if output.is_armed and self._guardian is not None and self.mask is None:
            self._guardian.add(output.number, output.pipe, output.file)

    def _note_unwritten(self, output: RankOutput, unwritten: Unwritten | None) -> None:
        if unwritten is not None and not output.held_reason:
            follows = (
                "its task waits for room once its pipe is full" if unwritten.is_held else "output is lost"
            )
            self._problems.append(f"{output.path} cannot be written ({unwritten.reason}): {follows}")
        self._hold(output, unwritten.reason if unwritten is not None and unwritten.is_held else "")

    def _hold(self, output: RankOutput, reason: str) -> None:
        """Look at a pipe only now and then while its disk is full; it would be readable all the time."""
        if bool(reason) == bool(output.held_reason):
            return
        output.held_reason = reason
        if reason:
            self._held[output.number] = output
        else:
            self._held.pop(output.number, None)
        if output.is_armed and self._epoll is not None:
            if reason:
                self._epoll.unregister(output.pipe)
            else:
                self._epoll.register(output.pipe, select.EPOLLIN)

    def _write_held(self, output: RankOutput) -> None:
        """Write what was held back: nothing follows that would make a secret of it."""
        if output.pending.head and self.mask is not None:
            self._note_unwritten(output, write_masked(output.file, output.pending, b"", self.mask))

    def _close(self, output: RankOutput) -> None:
        if output.is_closed:
            return
        self._hold(output, "")
        output.is_closed = True
        self._large -= output.is_large
        if output.is_armed and self._epoll is not None:
            self._epoll.unregister(output.pipe)
            if self._guardian is not None and self.mask is None:
                self._guardian.remove(output.number)
        if self._by_pipe.get(output.pipe) is output:
            del self._by_pipe[output.pipe]
        os.close(output.pipe)
        os.close(output.file)
        self._ended.append(output)

    def _signal_loop(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is readable already
            os.eventfd_write(self._event, 1)

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        assert self._epoll is not None
        retry_at = tell_at = 0.0
        while True:
            if self._is_loop_behind and time.monotonic() >= tell_at:
                tell_at = time.monotonic() + TELL_EVERY_S
                self._is_loop_behind = False
                self._signal_loop()
            wait_s = TELL_EVERY_S if self._is_loop_behind else RETRY_S if self._held else None
            ready = self._epoll.poll(wait_s)
            outputs = [self._by_pipe.get(pipe) for pipe, _ in ready]
            if self._held and time.monotonic() >= retry_at:
                retry_at = time.monotonic() + RETRY_S
                outputs += list(self._held.values())
            for output in outputs:
                if output is None:
                    continue  # closed meanwhile
                with output.lock:
                    if not output.is_closed and self._move(output, PER_TURN_BYTES):
                        self._close(output)
                        self._signal_loop()  # also for what has grown and was not signalled


def open_log_of(path: str) -> int:
    """Open a log to write at its end, and make its directory if it is missing. Raises: OSError."""
    try:
        return open_log(path)  # splice(2) refuses O_APPEND
    except FileNotFoundError:
        # The directory is nearly always there: asking first would cost each start a locked look at its parent.
        make_log_directory(path)
        return open_log(path)


def make_log_directory(path: str) -> None:
    """Make the directory of a log, which the controller may be making at the same time. Raises: OSError."""
    os.makedirs(path.rpartition("/")[0], 0o700, exist_ok=True)  # noqa: PTH103
