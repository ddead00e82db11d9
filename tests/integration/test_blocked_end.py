"""What ends a run whose loop stands still: when a signal is waited with, and what a supervisor takes for deaf."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from protocol.machine.loop_watch import Standstill
from sflow_ctl.runtime.peers.blocked_end import SURE_AFTER_S, WAITS_S, BlockedEnd
from sflow_ctl.runtime.run.signals import SignalInbox
from sflow_ctl.runtime.supervision.supervisor import FIRST, FORWARDED, _is_deaf
from tests.support import wait_until

WHAT = "the run directory has not answered for 9 s (flush of /r/events.jsonl (writer.py:1))"


class EndedError(Exception):
    """The process would have ended with this status."""


class Inbox(SignalInbox):
    """Signals as a test sends them."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[int] = []

    def collect(self) -> list[int]:
        return list(self.came)


class Blocked:
    """A run whose loop stands still."""

    def __init__(self) -> None:
        self.inbox, self.said, self.refused = Inbox(), list[str](), list[str]()
        self.end = BlockedEnd("/r", self.inbox, self.refused.append, list, self.said.append)

    def look(self, at: float, seconds: float) -> None:
        self.end.look(at, Standstill(seconds, "flush of /r/events.jsonl (writer.py:1)"), WHAT)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Blocked:
    def leave(status: int) -> None:
        raise EndedError(status)

    monkeypatch.setattr(os, "_exit", leave)
    return Blocked()


def ends_with(status: int, look: Callable[[], object]) -> None:
    with pytest.raises(EndedError) as caught:
        look()
    assert caught.value.args == (status,)


def test_a_loop_that_stands_still_without_a_signal_is_left_alone(blocked: Blocked) -> None:
    for seconds in (1.0, 100.0, 10_000.0):
        blocked.look(seconds, seconds)
    assert not blocked.said


def test_the_first_signal_is_said_and_waits(blocked: Blocked, capfd: pytest.CaptureFixture[str]) -> None:
    blocked.inbox.came.append(signal.SIGTERM)
    for seconds in (50.0, 51.0, 50.0 + WAITS_S - 0.1):
        blocked.look(seconds, seconds)
    assert blocked.said == [
        f"warning: SIGTERM received, but {WHAT}. The run ends when that answers, without it in 10 s, or at another signal"
    ]
    assert not blocked.refused
    ends_with(143, lambda: blocked.look(50.0 + WAITS_S, 50.0 + WAITS_S))
    assert len(blocked.refused) == 1
    printed = capfd.readouterr().err
    assert printed.startswith(f"sflow-ctl: {WHAT}. The run is ended by SIGTERM, its tasks are stopped.")
    assert printed.endswith("`sflow-ctl run --resume /r` continues it\n")


def test_a_loop_that_has_moved_since_the_signal_is_waited_for_anew(blocked: Blocked) -> None:
    blocked.inbox.came.append(signal.SIGINT)
    blocked.look(10.0, 1.0)
    blocked.look(100.0, WAITS_S - 1)
    assert not blocked.refused
    ends_with(130, lambda: blocked.look(101.0, WAITS_S))


@pytest.mark.parametrize(
    ("second", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGUSR1, 130)]
)
def test_a_second_signal_ends_a_run_that_surely_stands_still(
    blocked: Blocked, second: int, status: int
) -> None:
    blocked.inbox.came += [signal.SIGINT, second]
    blocked.look(10.0, SURE_AFTER_S - 1)
    assert not blocked.refused, "this may be a slow file system"
    ends_with(status, lambda: blocked.look(11.0, SURE_AFTER_S))


def test_a_signal_that_announces_the_end_of_the_time_ends_with_the_status_of_that(blocked: Blocked) -> None:
    blocked.inbox.came += [signal.SIGUSR1, signal.SIGTERM]
    ends_with(124, lambda: blocked.look(11.0, SURE_AFTER_S))


def test_a_signal_counts_once_whose_handler_waits_for_the_loop() -> None:
    """Python notes its number at once, and calls the handler later: after `open`, say, which makes several system calls."""
    inbox = SignalInbox()
    inbox.__enter__()
    try:
        assert inbox._pipe is not None
        os.write(inbox._pipe._write_end, bytes([signal.SIGTERM]))
        assert inbox.collect() == inbox.collect() == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert inbox.collect() == inbox.take() == [signal.SIGTERM]
        os.write(inbox._pipe._write_end, bytes([0, FIRST + FORWARDED.index(signal.SIGHUP)]))
        assert inbox.collect() == [signal.SIGHUP, signal.SIGTERM]
    finally:
        inbox.__exit__(
            EndedError, EndedError(), None
        )  # as after an error it leaves the handlers as they were


def test_a_run_that_closes_is_ended_once_a_signal_has_not_been_taken_for_long(
    blocked: Blocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loop takes signals any longer: the kernel says that one waits for the thread that closes the run."""
    waiting: set[int] = {FIRST + FORWARDED.index(signal.SIGTERM)}
    monkeypatch.setattr(signal, "sigpending", lambda: waiting)
    still = Standstill(100.0, "write of /r/summary.json (directory.py:1)")
    blocked.end.look_after_loop(10.0, still, WHAT)
    waiting.clear()
    blocked.end.look_after_loop(15.0, still, WHAT)
    waiting.add(FIRST + FORWARDED.index(signal.SIGTERM))
    blocked.end.look_after_loop(16.0, still, WHAT)
    blocked.end.look_after_loop(16.0 + WAITS_S - 1, still, WHAT)
    assert not blocked.refused
    ends_with(143, lambda: blocked.end.look_after_loop(16.0 + WAITS_S, still, WHAT))


CHILD = """
import os, signal, sys, time
{prepare}
print("ready", flush=True)
{then}
"""


@pytest.fixture
def child() -> Iterator[Callable[[str, str], int]]:
    """Starts a process that does this and then that; returns its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start(prepare: str, then: str) -> int:
        words = [sys.executable, "-c", CHILD.format(prepare=prepare, then=then)]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == b"ready\n"
        return started[-1].pid

    yield start
    for one in started:
        one.kill()
        one.wait(10)
        assert one.stdout is not None
        one.stdout.close()


HANDLES = "signal.signal(signal.SIGTERM, lambda *_: None)"


def test_only_a_process_that_takes_no_signal_is_deaf(child: Callable[[str, str], int]) -> None:
    """A process that holds signals back takes over a run, and one that is stopped is somebody's intention."""
    holds = child("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])", "time.sleep(60)")
    stopped = child(HANDLES, "time.sleep(60)")
    takes = child(HANDLES, "time.sleep(60)")
    os.kill(stopped, signal.SIGSTOP)
    for pid in (holds, stopped, takes):
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not _is_deaf(takes), "it takes the signal")
    assert not _is_deaf(holds)
    assert not _is_deaf(stopped)
    assert not _is_deaf(2**22 - 1), "one that is gone"
