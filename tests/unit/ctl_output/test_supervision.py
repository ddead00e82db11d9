"""What a supervisor makes of a controller's end, and how a controller counts signals: pure parts of `runtime/supervision`."""

import os
import signal
import socket
import sys
from types import FrameType

import pytest

from sflow_ctl.report.resumed import Takeover, takeover_text
from sflow_ctl.runtime.supervision.lifeline import Lifeline, SignalArrivals
from sflow_ctl.runtime.supervision.supervisor import CRASHES, RESTARTS, _Supervisor, begins_run


def supervisor(kept: list[int]) -> _Supervisor:
    made = _Supervisor([], frozenset())
    made._kept = kept
    return made


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT])
def test_a_controller_that_was_killed_is_replaced(number: signal.Signals) -> None:
    death = supervisor([7])._death(-number)
    assert death is not None
    assert (death.signal, death.descriptors) == (number, (7,))
    assert number in CRASHES


@pytest.mark.parametrize("status", [0, 1, 3, 70, 130, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP])
def test_an_exit_and_the_users_own_signals_end_the_run(status: int) -> None:
    assert supervisor([7])._death(status) is None


def test_a_controller_that_has_handed_nothing_over_is_not_replaced() -> None:
    assert supervisor([])._death(-signal.SIGKILL) is None


def test_the_limit_is_three_in_a_minute() -> None:
    made = supervisor([7])
    assert all(made._death(-signal.SIGKILL) for _ in range(RESTARTS))
    made._restarts = [at - 61 for at in made._restarts]
    assert made._death(-signal.SIGKILL) is not None


@pytest.mark.parametrize(
    ("words", "begins"),
    [("run w.yaml", True), ("--debug run", True), ("run --dry-run", False), ("plan run", False), ("", False)],
)
def test_only_a_run_is_supervised(words: str, begins: bool) -> None:
    assert begins_run(words.split()) == begins


@pytest.mark.parametrize(
    ("received", "meant"),
    [
        ("d", 1),  # by kill of the controller
        ("s", 1),  # of the supervisor
        ("ds", 1),  # a terminal's Ctrl-C
        ("sd", 1),
        ("dsds", 2),
        ("ddss", 2),
        ("ssd", 2),  # twice of the supervisor, then a terminal's that the supervisor is late with
    ],
)
def test_a_signal_counts_as_often_as_it_was_meant(received: str, meant: int) -> None:
    arrivals = SignalArrivals()
    news = [arrivals.is_news(is_forwarded=one == "s") for one in received]
    assert sum(news) == meant


@pytest.mark.parametrize("moment", range(6))
def test_a_signal_counts_once_whose_second_handler_runs_in_the_middle_of_the_first(moment: int) -> None:
    """Seen once under load: a task was killed without its grace. Python runs handlers where functions are called."""
    arrivals, news, moments = SignalArrivals(), list[bool](), 0

    def interrupt(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal moments
        if moments == moment:
            sys.setprofile(None)
            news.append(arrivals.is_news(is_forwarded=True))
        moments += 1

    sys.setprofile(interrupt)
    news.append(arrivals.is_news(is_forwarded=False))
    sys.setprofile(None)
    assert sum(news) == 1


def test_a_takeover_is_said_in_a_sentence() -> None:
    takeover = Takeover(
        incarnation=2, signal="SIGKILL", killed_wall_ns=10**18, tasks=1, took_s=0.44, missing=("n3",)
    )
    text = takeover_text(takeover)
    assert text.startswith("the controller was killed (SIGKILL) at ")
    assert text.endswith("; incarnation 2 took over 1 task in 0.4 s, without n3")


def test_a_supervisor_that_is_dying_is_dead() -> None:
    """The kernel closes its socket, and signals its controller, before it stops being the parent."""
    its, own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its, own:
        line = object.__new__(Lifeline)
        line.supervisor, line._socket = os.getppid(), own
        assert line.is_supervised
        its.close()
        assert not line.is_supervised
