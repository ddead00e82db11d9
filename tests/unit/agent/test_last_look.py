"""The agent's core: the last look at a readiness probe after a good exit, and looks for listening ports."""

import pytest

from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.checks import HttpCheck, LogCheck, LogPattern, Probe, TcpCheck
from protocol.messages.facts import ProbeTriggered, ProbeWaiting, RankExited
from protocol.messages.orders import Spawn, Stop
from protocol.messages.rank_spec import RankSpec, Success
from sflow_agent.core.commands import (
    AgentCommand,
    DiagnoseExit,
    LookForListeners,
    LookOnce,
    Report,
    SignalTree,
)
from sflow_agent.core.events import (
    CheckObserved,
    ListenerSeen,
    Ordered,
    ProcessesReaped,
    ProcessExited,
    ProcessStarted,
    WakeUp,
)
from sflow_agent.core.probes import LISTENER_LOOKS_S, OUTLIVES_S
from sflow_agent.core.rank import LAST_LOOK_MARGIN_S
from tests.unit.agent.driver import CheckedCore

A = RankId(AttemptId("a", 1), 0)
LOG, PORT = LogCheck(pattern=LogPattern(pattern="up")), TcpCheck(port=80)
FIRST, SECOND = ProbeKey("readiness", 0), ProbeKey("readiness", 1)


def running(*checks: LogCheck | TcpCheck | HttpCheck, success: Success | None = None, threshold: int = 1,
            needs_all: bool = True) -> CheckedCore:  # fmt: skip
    core = CheckedCore()
    probe = Probe(kind="readiness", checks=checks, threshold=threshold, needs_all=needs_all, timeout_s=7.0)
    spec = RankSpec(rank=A, argv=("true",), env={}, log="a/a.log", probes=(probe,), success=success)
    core.handle(Ordered(Spawn(ranks=(spec,))), 0.0)
    core.handle(ProcessStarted(A, 100, 7), 0.0)
    return core


def exited(status: int = 0, *, has_leftovers: bool = False) -> ProcessesReaped:
    return ProcessesReaped((ProcessExited(A, status, None, 10, has_leftovers),))


def saw(is_true: bool, key: ProbeKey = FIRST, detail: str = "seen") -> CheckObserved:
    return CheckObserved(A, key, is_true, detail)


def facts(commands: list[AgentCommand]) -> list[type]:
    return [type(command.message) for command in commands if isinstance(command, Report)]


def test_clusters_f1_a_good_exit_waits_for_a_last_look_at_every_check() -> None:
    core = running(LOG, PORT)
    assert core.handle(exited(), 1.0) == [LookOnce(A, FIRST), LookOnce(A, SECOND)]
    assert [live.rank for live in core.live()] == [A]
    assert core.exited() == ()
    assert facts(core.handle(saw(True), 1.1)) == []
    assert facts(core.handle(saw(True, SECOND), 1.2)) == [ProbeTriggered, RankExited]


def test_clusters_f1_what_is_still_missing_is_said_before_the_exit() -> None:
    core = running(LOG, PORT)
    core.handle(exited(), 1.0)
    core.handle(saw(True), 1.1)
    commands = core.handle(saw(False, SECOND, "port 80 is not listening"), 1.2)
    assert facts(commands) == [ProbeWaiting, RankExited]
    detail = "1 of 2 conditions: port 80 is not listening"
    assert Report(ProbeWaiting(attempt=A.attempt, kind="readiness", detail=detail)) in commands


def test_clusters_f1_one_of_several_conditions_is_enough_where_any_is() -> None:
    core = running(LOG, PORT, needs_all=False)
    core.handle(exited(), 1.0)
    assert facts(core.handle(saw(True), 1.1)) == [ProbeTriggered, RankExited]
    assert core.handle(saw(False, SECOND), 1.2) == []


def test_clusters_f1_a_look_is_one_result_but_a_log_counts_in_full() -> None:
    core = running(PORT, threshold=2)
    core.handle(exited(), 1.0)
    assert facts(core.handle(saw(True), 1.0)) == [ProbeWaiting, RankExited]
    core = running(LOG, threshold=2)
    core.handle(exited(), 1.0)
    assert facts(core.handle(saw(True), 1.0)) == [ProbeTriggered, RankExited]


def test_clusters_f1_what_it_left_behind_is_ended_after_the_look() -> None:
    """A daemon may be the server."""
    core = running(PORT)
    assert core.handle(exited(has_leftovers=True), 1.0) == [LookOnce(A, FIRST)]
    commands = core.handle(saw(True), 1.0)
    assert facts(commands) == [ProbeTriggered, RankExited]
    assert SignalTree(A, 15) in commands


def test_clusters_f1_a_look_that_does_not_end_is_given_up() -> None:
    core = running(LOG)
    core.handle(exited(), 1.0)
    limit = 1.0 + 7.0 + LAST_LOOK_MARGIN_S
    assert RankExited not in facts(core.handle(WakeUp(), limit - 0.1))
    assert facts(core.handle(WakeUp(), limit)) == [ProbeWaiting, RankExited]
    assert core.handle(saw(True), 14.0) == []


def test_clusters_f1_a_stop_ends_the_look() -> None:
    core = running(LOG)
    core.handle(exited(has_leftovers=True), 1.0)
    commands = core.handle(Ordered(Stop(attempt=A.attempt, grace_s=3.0)), 2.0)
    assert facts(commands) == [RankExited]
    assert SignalTree(A, 15) in commands


def test_clusters_f1_success_is_checked_after_the_look() -> None:
    core = running(LOG, success=Success(require=("done",)))
    core.handle(exited(), 1.0)
    commands = core.handle(saw(True), 1.0)
    assert facts(commands) == [ProbeTriggered]
    assert DiagnoseExit(A, 0, None, 0) in commands


def test_clusters_f1_after_a_bad_exit_nothing_is_looked_at() -> None:
    assert DiagnoseExit(A, 1, None, 0) in running(LOG).handle(exited(1), 1.0)


# ---------------------------------------------------------------------- listening ports


def test_clusters_f1_a_ready_rank_is_looked_at_for_ports_ever_more_rarely() -> None:
    core = running(LOG)
    core.handle(saw(True), 9.0)
    now = 9.0 + OUTLIVES_S
    assert LookForListeners(A) not in core.handle(WakeUp(), now)
    for pause_s in (*LISTENER_LOOKS_S, 60.0, 60.0):
        now += pause_s
        assert core.next_wakeup() == now
        assert core.handle(WakeUp(), now) == [LookForListeners(A)]
    core.handle(ListenerSeen(A), now)
    assert core.next_wakeup() is None
    (end,) = (c.message for c in core.handle(exited(), now) if isinstance(c, Report))
    assert isinstance(end, RankExited)
    assert end.has_listened


@pytest.mark.parametrize("check", [PORT, HttpCheck(method="GET", url="http://localhost:80/")])
def test_clusters_f1_a_probe_of_a_port_says_enough(check: TcpCheck | HttpCheck) -> None:
    core = running(check)
    core.handle(saw(True), 10.0)
    assert core.next_wakeup() is None
