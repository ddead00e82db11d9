"""Lists of probes: a rank is ready when each entry has been true once, and fails when any entry is true."""

from protocol.ids import ProbeKey, ProbeKind
from protocol.messages.checks import LogCheck, LogPattern, Probe, TcpCheck
from protocol.messages.facts import ProbeTriggered
from sflow_agent.core.commands import Report, UnwatchCheck
from sflow_agent.core.events import CheckObserved, WakeUp
from sflow_agent.core.probes import OUTLIVES_S, ProbeState, find_check
from tests.unit.agent.driver import A, a_spec, running

FIRST, SECOND = ProbeKey("readiness", 0), ProbeKey("readiness", 1)


def ports(kind: ProbeKind = "readiness", threshold: int = 1) -> Probe:
    """Two probes of a port each; the second has its own times."""
    second = Probe(
        kind=kind, checks=(TcpCheck(port=2),), delay_s=5.0, timeout_s=7.0, threshold=threshold, part=1
    )
    return Probe(kind=kind, checks=(TcpCheck(port=1),), also=(second,))


def test_each_entry_of_a_list_must_have_been_true_once() -> None:
    state = ProbeState.begin(ports(), 0.0)
    assert not state.observe(FIRST, True, "port 1", 1.0)
    assert [part.detail for part in state.take_news()] == ["port 1"]
    assert not state.take_news()
    assert not state.observe(FIRST, False, "port 1 is closed", 2.0)  # it stays true
    assert state.missing() == "1 of 2 probes: port 2 is not listening"
    assert not state.observe(SECOND, True, "port 2", 3.0)  # before its delay
    assert state.next_check == 5.0
    assert state.wake(5.0)
    assert state.detail == "port 1; port 2"
    assert not state.observe(SECOND, True, "port 2", 6.0)


def test_any_entry_of_a_list_fails() -> None:
    state = ProbeState.begin(ports("failure"), 0.0)
    assert state.observe(ProbeKey("failure", 0), True, "port 1", 1.0)
    assert state.detail == "port 1"


def test_each_entry_has_its_own_threshold() -> None:
    state = ProbeState.begin(ports(threshold=2), 0.0)
    state.observe(FIRST, True, "port 1", 1.0)
    assert not state.observe(SECOND, True, "port 2", 6.0, is_poll=True)
    assert state.observe(SECOND, True, "port 2", 7.0, is_poll=True)


def test_a_check_is_found_with_the_times_of_its_entry() -> None:
    probe = ports()
    assert find_check((probe,), FIRST) == (probe, TcpCheck(port=1))
    part, check = find_check((probe,), SECOND)
    assert (part.timeout_s, check) == (7.0, TcpCheck(port=2))
    assert probe.keys() == (FIRST, SECOND)
    assert ProbeState.begin(probe, 0.0).longest_check_s == 60.0


def test_the_last_look_takes_what_is_missing_only() -> None:
    log = Probe(kind="readiness", checks=(LogCheck(pattern=LogPattern(pattern="up")),), threshold=3)
    state = ProbeState.begin(Probe(kind="readiness", checks=(TcpCheck(port=1),), also=(log,)), 0.0)
    state.observe(FIRST, True, "port 1", 1.0)
    assert state.open_keys() == [SECOND]
    assert state.look_last(SECOND, True, '"up"')


def test_a_log_line_of_an_entry_is_confirmed_by_the_end_of_its_process() -> None:
    log = Probe(kind="readiness", checks=(LogCheck(pattern=LogPattern(pattern="up")),))
    state = ProbeState.begin(Probe(kind="readiness", checks=(TcpCheck(port=1),), also=(log,)), 0.0)
    state.observe(FIRST, True, "port 1", 1.0)
    assert not state.observe(SECOND, True, '"up"', 2.0)
    assert state.next_check == 2.0 + OUTLIVES_S
    assert state.process_completed()


def test_each_entry_is_reported_when_it_has_been_true() -> None:
    core = running(a_spec(A, ports()))
    seen = core.handle(CheckObserved(A, FIRST, True, "port 1"), 1.0)
    first = ProbeTriggered(attempt=A.attempt, kind="readiness", detail="port 1")
    assert seen == [Report(first), UnwatchCheck(A, FIRST)]
    assert core.triggered() == (first,)  # for a hello
    core.handle(CheckObserved(A, SECOND, True, "port 2"), 2.0)
    second = ProbeTriggered(attempt=A.attempt, kind="readiness", part=1, detail="port 2")
    news = [one for one in core.handle(WakeUp(), 5.0) if one != Report(first)]
    assert news[:2] == [Report(second), UnwatchCheck(A, SECOND)]
    assert core.triggered() == (first, second)


def test_the_first_entry_of_failure_probes_ends_the_checks_of_all() -> None:
    core = running(a_spec(A, ports("failure")))
    keys = [ProbeKey("failure", 0), ProbeKey("failure", 1)]
    seen = core.handle(CheckObserved(A, keys[0], True, "port 1"), 1.0)
    fact = ProbeTriggered(attempt=A.attempt, kind="failure", detail="port 1")
    assert seen == [Report(fact), *(UnwatchCheck(A, key) for key in keys)]


def test_an_entry_that_is_true_after_a_pause_is_reported_before_the_others() -> None:
    core = running(a_spec(A, ports()))
    core.handle(CheckObserved(A, SECOND, True, "port 2"), 2.0)
    news = core.handle(WakeUp(), 5.0)
    fact = ProbeTriggered(attempt=A.attempt, kind="readiness", part=1, detail="port 2")
    assert news[:2] == [Report(fact), UnwatchCheck(A, SECOND)]
