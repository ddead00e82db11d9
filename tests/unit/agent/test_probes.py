"""How often a check was positive, alone and among several, and the missing checks meanwhile."""

import msgspec
import pytest

from protocol.ids import ProbeKey
from protocol.messages.checks import Check, ExecCheck, HttpCheck, LogCheck, LogPattern, Probe, TcpCheck
from protocol.messages.facts import ProbeTriggered, ProbeWaiting
from protocol.messages.orders import Spawn, Stop
from protocol.messages.rank_spec import RankSpec
from sflow_agent.core.agent import AgentCore
from sflow_agent.core.commands import AgentCommand, Report, SignalTree, UnwatchCheck, WatchCheck
from sflow_agent.core.events import (
    CheckObserved,
    Ordered,
    ProcessesReaped,
    ProcessExited,
    ProcessStarted,
    WakeUp,
)
from sflow_agent.core.probes import OUTLIVES_S, ProbeState, find_check, missing_text
from tests.unit.agent.driver import A, CheckedCore, a_spec, running

HTTP = HttpCheck(method="GET", url="http://n0/")
PORT = TcpCheck(port=80)
LOG = LogCheck(pattern=LogPattern(pattern="up", count=2), task="other")


def state(*checks: Check, needs_all: bool = True, threshold: int = 1, delay_s: float = 0.0) -> ProbeState:
    probe = Probe(
        kind="readiness",
        checks=checks,
        needs_all=needs_all,
        threshold=threshold,
        interval_s=5.0,
        delay_s=delay_s,
    )
    return ProbeState.begin(probe, 0.0)


def single(threshold: int = 1, delay_s: float = 0.0) -> ProbeState:
    probe = Probe(kind="readiness", checks=(HTTP,), threshold=threshold, delay_s=delay_s)
    return ProbeState.begin(probe, 0.0)


# ---------------------------------------------------------------------- counting


def test_checks_count_one_by_one_and_only_in_a_row() -> None:
    probe = single(threshold=3)
    results = [True, True, False, True, True, True]
    assert [
        probe.observe(ProbeKey("readiness", 0), holds, "", float(second), is_poll=True)
        for second, holds in enumerate(results)
    ] == [False] * 5 + [True]
    assert probe.next_check is None


def test_a_check_before_the_delay_is_over_does_not_count() -> None:
    probe = single(delay_s=10.0)
    assert not probe.observe(ProbeKey("readiness", 0), True, "early", 9.0, is_poll=True)
    assert probe.next_check is None
    assert probe.observe(ProbeKey("readiness", 0), True, "in time", 10.0, is_poll=True)
    assert probe.detail == "in time"


def test_all_parts_must_hold_at_the_same_time() -> None:
    probe = state(HTTP, PORT)
    assert not probe.observe(ProbeKey("readiness", 0), True, "HTTP 200", 1.0, is_poll=True)
    assert not probe.observe(ProbeKey("readiness", 0), False, "HTTP 503", 2.0, is_poll=True)
    assert not probe.observe(ProbeKey("readiness", 1), True, "port 80 is listening", 3.0)
    assert probe.observe(ProbeKey("readiness", 0), True, "HTTP 200", 4.0, is_poll=True)
    assert probe.detail == "HTTP 200; port 80 is listening"
    assert not probe.observe(ProbeKey("readiness", 0), True, "HTTP 200", 5.0, is_poll=True)


def test_any_part_is_enough() -> None:
    probe = state(HTTP, PORT, needs_all=False)
    assert probe.observe(ProbeKey("readiness", 1), True, "port 80 is listening", 3.0)
    assert probe.detail == "port 80 is listening"


def test_the_threshold_counts_for_each_part() -> None:
    probe = state(HTTP, PORT, threshold=2)
    assert not probe.observe(ProbeKey("readiness", 1), True, "listening", 0.0)
    assert probe.next_check == 5.0
    assert not probe.wake(5.0)
    assert probe.next_check is None
    assert not probe.observe(ProbeKey("readiness", 0), True, "HTTP 200", 6.0, is_poll=True)
    assert probe.observe(ProbeKey("readiness", 0), True, "HTTP 200", 11.0, is_poll=True)


def test_a_condition_is_found_by_its_key() -> None:
    readiness, failure = state(HTTP, PORT).probe, Probe(kind="failure", checks=(LOG,))
    assert readiness.keys() == (ProbeKey("readiness", 0), ProbeKey("readiness", 1))
    assert find_check((readiness, failure), ProbeKey("readiness", 1)) == (readiness, PORT)
    assert find_check((readiness, failure), ProbeKey("failure", 0)) == (failure, LOG)


def test_a_result_for_a_check_that_the_probe_does_not_have_is_ignored() -> None:
    probe = state(HTTP, PORT, needs_all=False)
    assert not probe.observe(ProbeKey("readiness", 2), True, "from the wire", 1.0)
    assert not probe.observe(ProbeKey("readiness", -1), True, "from the wire", 1.0)


# ---------------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (PORT, "port 80 is not listening"),
        (TcpCheck(port=80, host="n1"), "n1:80 has not accepted a connection"),
        (LOG, '"up" is not in the log of other 2 times'),
        (HTTP, "http://n0/ has not answered"),
        (ExecCheck(argv=("nvidia-smi", "-L")), "nvidia-smi has not exited with 0"),
    ],
)
def test_every_unseen_check_has_a_sentence(check: Check, text: str) -> None:
    assert missing_text(check) == text


def test_missing_checks_are_named_for_all_and_any() -> None:
    probe = state(HTTP, PORT, LOG)
    probe.observe(ProbeKey("readiness", 1), True, "listening", 1.0)
    probe.observe(ProbeKey("readiness", 0), False, "HTTP 503", 1.0, is_poll=True)
    assert probe.missing() == '1 of 3 conditions: HTTP 503, "up" is not in the log of other 2 times'
    assert (
        state(HTTP, PORT, needs_all=False).missing()
        == "http://n0/ has not answered, and port 80 is not listening"
    )
    twice = single(threshold=2)
    twice.observe(ProbeKey("readiness", 0), True, "HTTP 200 OK", 1.0, is_poll=True)
    assert twice.missing() == "HTTP 200 OK, 1 of 2 times in a row"


def told(commands: list[AgentCommand]) -> list[str]:
    return [
        command.message.detail
        for command in commands
        if isinstance(command, Report) and isinstance(command.message, ProbeWaiting)
    ]


def failed(core: AgentCore, detail: str, now: float) -> list[str]:
    return told(core.handle(CheckObserved(A, ProbeKey("readiness", 0), False, detail, is_poll=True), now))


def test_missing_checks_are_reported_after_a_second_and_once_a_second_at_most() -> None:
    core = running(a_spec(A, single().probe))
    assert failed(core, "refused", 0.5) == []
    assert core.next_wakeup() == 1.0
    assert told(core.handle(WakeUp(), 1.0)) == ["refused"]
    assert failed(core, "refused", 1.5) == []
    assert core.next_wakeup() is None
    assert failed(core, "HTTP 503", 1.6) == []
    assert failed(core, "HTTP 500", 1.7) == []
    assert core.next_wakeup() == 2.0
    assert told(core.handle(WakeUp(), 2.0)) == ["HTTP 500"]
    assert failed(core, "HTTP 503", 3.5) == []
    assert core.next_wakeup() == 3.5
    assert told(core.handle(WakeUp(), 3.5)) == ["HTTP 503"]


def test_outdated_news_is_not_reported() -> None:
    core = running(a_spec(A, single().probe))
    core.handle(WakeUp(), 1.0)
    failed(core, "HTTP 503", 1.1)
    failed(core, "http://n0/ has not answered", 1.2)
    assert told(core.handle(WakeUp(), 2.0)) == []


def test_a_probe_that_triggers_in_time_reports_nothing_missing() -> None:
    core = running(a_spec(A, single().probe))
    seen = core.handle(CheckObserved(A, ProbeKey("readiness", 0), True, "HTTP 200 OK", is_poll=True), 0.5)
    fact = ProbeTriggered(attempt=A.attempt, kind="readiness", detail="HTTP 200 OK")
    assert seen == [Report(fact), UnwatchCheck(A, ProbeKey("readiness", 0))]
    assert core.next_wakeup() is None
    assert running(a_spec(A, Probe(kind="failure", checks=(TcpCheck(port=1),)))).next_wakeup() is None


def test_every_part_is_watched_until_the_probe_triggers() -> None:
    core = CheckedCore()
    spec = RankSpec(rank=A, argv=("true",), env={}, log="a/a.log", probes=(state(HTTP, PORT).probe,))
    core.handle(Ordered(Spawn(ranks=(spec,))), 0.0)
    keys = [ProbeKey("readiness", 0), ProbeKey("readiness", 1)]
    started = core.handle(ProcessStarted(A, 100, 7), 0.0)
    assert [command for command in started if isinstance(command, WatchCheck)] == [
        WatchCheck(A, key) for key in keys
    ]
    core.handle(CheckObserved(A, ProbeKey("readiness", 0), True, "x", is_poll=True), 0.1)
    commands = core.handle(CheckObserved(A, ProbeKey("readiness", 1), True, "y"), 0.2)
    assert commands[1:] == [UnwatchCheck(A, key) for key in keys]


def test_nothing_is_asked_any_more_of_a_rank_that_is_being_ended() -> None:
    core = running(a_spec(A, single().probe))
    commands = core.handle(Ordered(Stop(attempt=A.attempt, grace_s=5.0)), 0.5)
    assert commands == [UnwatchCheck(A, ProbeKey("readiness", 0)), SignalTree(A, 15)]
    assert core.handle(CheckObserved(A, ProbeKey("readiness", 0), True, "", is_poll=True), 0.6) == []
    assert core.next_wakeup() == 5.5


# ---------------------------------------------------------------------- ready by a log line

OWN_LINE = LogCheck(pattern=LogPattern(pattern="startup complete"))
SEEN = CheckObserved(A, ProbeKey("readiness", 0), True, "startup complete")


def printing(*checks: Check, needs_all: bool = True, codes: tuple[int, ...] = (0,)) -> AgentCore:
    probe = Probe(kind="readiness", checks=checks, needs_all=needs_all)
    core = CheckedCore()
    spec = RankSpec(rank=A, argv=("x",), env={}, log="a/a.log", probes=(probe,), success_exit_codes=codes)
    core.handle(Ordered(Spawn(ranks=(spec,))), 0.0)
    core.handle(ProcessStarted(A, 100, 7), 0.0)
    return core


def facts(commands: list[AgentCommand]) -> list[str]:
    return [type(command.message).__name__ for command in commands if isinstance(command, Report)]


def exit_of(code: int) -> ProcessesReaped:
    return ProcessesReaped((ProcessExited(A, code, None, 10, False),))


def test_clusters_f8_a_log_line_counts_once_the_process_has_outlived_it() -> None:
    core = printing(OWN_LINE)
    assert facts(core.handle(SEEN, 1.0)) == []
    assert facts(core.handle(WakeUp(), 1.0 + OUTLIVES_S / 2)) in ([], ["ProbeWaiting"])
    assert facts(core.handle(WakeUp(), 1.0 + OUTLIVES_S)) == ["ProbeTriggered"]


def test_clusters_f8_a_process_that_fails_after_its_line_was_never_ready() -> None:
    core = printing(OWN_LINE)
    core.handle(SEEN, 1.0)
    core.handle(exit_of(98), 1.05)
    assert facts(core.handle(WakeUp(), 1.0 + OUTLIVES_S)) == []
    assert core.triggered() == ()


@pytest.mark.parametrize("code", [0, 3])
def test_clusters_f8_a_process_that_completes_after_its_line_was_ready(code: int) -> None:
    core = printing(OWN_LINE, codes=(0, 3))
    core.handle(SEEN, 1.0)
    assert facts(core.handle(exit_of(code), 1.05)) == ["ProbeTriggered", "RankExited"]


def test_clusters_f8_a_port_beside_the_line_is_looked_at_again() -> None:
    core = printing(OWN_LINE, PORT)
    port = ProbeKey("readiness", 1)
    core.handle(SEEN, 1.0)
    core.handle(CheckObserved(A, port, True, "listens"), 1.0)
    core.handle(CheckObserved(A, port, False, "gone"), 1.05)
    assert "ProbeTriggered" not in facts(core.handle(WakeUp(), 1.2))
    core.handle(CheckObserved(A, port, True, "listens"), 2.0)
    assert facts(core.handle(WakeUp(), 2.0 + OUTLIVES_S)) == ["ProbeTriggered"]


def test_clusters_f8_a_port_alone_and_the_log_of_another_task_count_at_once() -> None:
    assert facts(
        printing(OWN_LINE, PORT, needs_all=False).handle(
            CheckObserved(A, ProbeKey("readiness", 1), True, "listens"), 1.0
        )
    ) == ["ProbeTriggered"]
    other = msgspec.structs.replace(OWN_LINE, task="other")
    assert facts(printing(other).handle(SEEN, 1.0)) == ["ProbeTriggered"]
