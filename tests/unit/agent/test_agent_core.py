"""The agent's core by events: starts, ends of trees, reports, and the agent's own end."""

import errno
from collections.abc import Sequence

import msgspec
import pytest

from protocol.ids import ProbeKey, RankId
from protocol.messages.checks import LogCheck, LogPattern, Probe, TcpCheck
from protocol.messages.facts import (
    Ending,
    ExitCause,
    Goodbye,
    LaunchFailed,
    LiveRank,
    ProbeTriggered,
    RankCleared,
    RankExited,
    RankStarted,
)
from protocol.messages.orders import Leave, Refused, Spawn, Stop, Unwatch, Watch, Welcome
from protocol.messages.rank_spec import HangPolicy, Success
from sflow_agent.core.agent import EXIT_OK, EXIT_ORPHANED, LOGS_WITHIN_S, ORPHAN_GRACE_S
from sflow_agent.core.commands import (
    AgentCommand,
    DiagnoseExit,
    Exit,
    FinishLogs,
    ForgetRank,
    GiveUpTree,
    Report,
    SignalTree,
    StartProcess,
    UnwatchCheck,
    UnwatchLog,
    WatchCheck,
    WatchLog,
)
from sflow_agent.core.events import (
    CheckObserved,
    EndRequested,
    ExitDiagnosed,
    FactsAcknowledged,
    FactsSent,
    LogsDelivered,
    Ordered,
    ProcessesReaped,
    ProcessExited,
    ProcessFailed,
    ProcessStarted,
    TreeGone,
    TreeSurvived,
    WakeUp,
)
from sflow_agent.core.rank import DIAGNOSE_WITHIN_S
from sflow_agent.core.stop_sequence import SIGKILL, VERIFY_S
from tests.unit.agent.driver import A, B, CheckedCore, a_spec, reaped, reports, running, stop

READINESS = Probe(kind="readiness", checks=(TcpCheck(port=80),))


SIGTERM = 15


def acknowledge(core: CheckedCore) -> None:
    """Have the controller acknowledge all that was reported."""
    assert core.handle(FactsSent(), 9.0) == []
    assert core.handle(FactsAcknowledged(), 9.0) == []


# ---------------------------------------------------------------------- starting


def test_a_rank_is_started_once_whatever_is_repeated() -> None:
    core = CheckedCore()
    order = Ordered(Spawn(ranks=(a_spec(),)))
    assert core.handle(order, 0.0) == [StartProcess(a_spec())]
    assert core.handle(order, 0.0) == []
    assert core.handle(ProcessStarted(A, 100, 7), 1.0) == [
        Report(RankStarted(rank=A, pid=100, started_at_ns=7))
    ]
    assert core.live() == (LiveRank(A, 100, 7),)
    core.handle(reaped(), 2.0)
    acknowledge(core)
    assert core.handle(order, 3.0) == []
    assert core.next_wakeup() is None


def test_a_failed_start_is_reported_and_forgotten() -> None:
    core = CheckedCore()
    core.handle(Ordered(Spawn(ranks=(a_spec(),))), 0.0)
    assert reports(core.handle(ProcessFailed(A, 2, "no"), 0.0)) == [
        LaunchFailed(rank=A, errno=2, reason="no")
    ]
    assert (core.live(), core.exited(), core.clearing()) == ((), (), ())


# ---------------------------------------------------------------------- ending


def test_an_exit_without_leftovers_is_one_fact() -> None:
    core = running()
    fact = RankExited(rank=A, exit_code=0, runtime_s=3.0, log_bytes=10, cleared=True)
    assert core.handle(reaped(), 3.0) == [Report(fact), ForgetRank(A)]
    assert core.exited() == (fact,)
    assert (core.live(), core.clearing()) == ((), ())
    acknowledge(core)
    assert core.exited() == ()


def test_an_exit_is_forgotten_while_others_are_still_to_be_acknowledged() -> None:
    core = running()
    core.handle(reaped(), 3.0)
    core.handle(FactsSent(), 3.0)
    core.handle(Ordered(Spawn(ranks=(a_spec(B),))), 4.0)
    core.handle(ProcessStarted(B, 101, 7), 4.0)
    core.handle(ProcessesReaped((ProcessExited(B, 0, None, 0, False),)), 5.0)
    core.handle(FactsAcknowledged(), 6.0)
    assert [exit.rank for exit in core.exited()] == [B]
    core.handle(FactsAcknowledged(), 7.0)  # of what was sent before
    assert [exit.rank for exit in core.exited()] == [B]
    acknowledge(core)
    assert core.exited() == ()


def test_leftovers_are_ended_and_then_cleared() -> None:
    core = running()
    commands = core.handle(reaped(has_leftovers=True), 1.0)
    assert [fact.cleared for fact in reports(commands) if isinstance(fact, RankExited)] == [False]
    assert commands[-1] == SignalTree(A, SIGTERM)
    assert core.clearing() == (A,)
    acknowledge(core)
    assert len(core.exited()) == 1
    assert core.next_wakeup() == 6.0
    assert core.handle(WakeUp(), 6.0) == [SignalTree(A, SIGKILL)]
    left = ("7 sleep", "8 sleep")
    assert core.handle(TreeGone(A, 2, left), 6.1) == [
        Report(RankCleared(rank=A, ended=2, left=left)),
        ForgetRank(A),
    ]
    assert core.handle(TreeGone(A, 2), 6.2) == []
    assert core.next_wakeup() is None


def test_f31_a_stop_escalates_and_names_survivors() -> None:
    core = running()
    assert core.handle(stop(2.0), 10.0) == [SignalTree(A, SIGTERM)]
    assert core.handle(WakeUp(), 11.0) == []
    assert core.handle(WakeUp(), 12.0) == [SignalTree(A, SIGKILL)]
    assert core.next_wakeup() == 12.0 + VERIFY_S
    assert core.handle(stop(0.0), 13.0) == []
    assert core.handle(WakeUp(), 12.0 + VERIFY_S) == [GiveUpTree(A)]
    assert core.next_wakeup() is None
    survivors = ("7 stuck",)
    cleared = Report(RankCleared(rank=A, survivors=survivors))
    assert core.handle(TreeSurvived(A, survivors), 20.0) == [cleared, ForgetRank(A)]


def test_a_repeated_stop_only_shortens_the_grace() -> None:
    core = running()
    core.handle(stop(10.0), 0.0)
    assert core.handle(stop(20.0), 1.0) == []
    assert core.next_wakeup() == 10.0
    assert core.handle(stop(1.0), 1.0) == []
    assert core.next_wakeup() == 2.0
    assert core.handle(stop(0.0), 1.5) == [SignalTree(A, SIGKILL)]


def test_a_tree_that_is_gone_before_its_main_process_is_reaped_waits_for_that() -> None:
    core = running()
    core.handle(stop(1.0), 0.0)
    assert core.handle(TreeGone(A, 0), 0.1) == []
    assert len(reports(core.handle(reaped(), 0.2))) == 1
    assert core.clearing() == ()


def test_leftovers_of_a_stopped_rank_are_already_being_ended() -> None:
    core = running()
    core.handle(stop(1.0), 0.0)
    assert len(core.handle(reaped(has_leftovers=True), 0.1)) == 1


@pytest.mark.parametrize(
    "event", [stop(1.0, B), TreeGone(B, 0), CheckObserved(B, ProbeKey("readiness", 0), True, "")]
)
def test_events_of_an_unknown_rank_are_ignored(event: Ordered | TreeGone | CheckObserved) -> None:
    assert running().handle(event, 1.0) == []


def test_a_welcome_kills_what_must_not_live() -> None:
    core = running()
    welcome = Ordered(Welcome(session="s", incarnation=1, kill=(A, B)))
    assert core.handle(welcome, 1.0) == [SignalTree(A, SIGKILL)]


# ---------------------------------------------------------------------- logs


def test_watching_needs_a_known_rank() -> None:
    core = running()
    assert core.handle(Ordered(Watch(rank=A, offset=5)), 0.0) == [WatchLog(A, 5)]
    assert core.handle(Ordered(Watch(rank=B, offset=5)), 0.0) == []
    assert core.handle(Ordered(Unwatch(rank=A)), 0.0) == [UnwatchLog(A)]


# ---------------------------------------------------------------------- probes


def test_a_probe_triggers_once_and_is_watched_no_longer() -> None:
    core = CheckedCore()
    core.handle(Ordered(Spawn(ranks=(a_spec(A, READINESS),))), 0.0)
    commands = core.handle(ProcessStarted(A, 100, 7), 0.0)
    assert commands[-1] == WatchCheck(A, ProbeKey("readiness", 0))
    fact = ProbeTriggered(attempt=A.attempt, kind="readiness", detail="d")
    seen = CheckObserved(A, ProbeKey("readiness", 0), True, "d")
    assert core.handle(seen, 1.0) == [Report(fact), UnwatchCheck(A, ProbeKey("readiness", 0))]
    assert core.handle(seen, 2.0) == []
    assert core.triggered() == (fact,)
    assert core.handle(reaped(), 3.0)[1:] == [ForgetRank(A)]
    assert core.triggered() == ()
    assert core.handle(seen, 4.0) == []


def test_delay_and_threshold_are_kept() -> None:
    probe = Probe(
        kind="failure",
        checks=(LogCheck(pattern=LogPattern(pattern="x")),),
        delay_s=2.0,
        interval_s=5.0,
        threshold=3,
    )
    core = running(a_spec(A, probe))
    seen = CheckObserved(A, ProbeKey("failure", 0), True, "x")
    assert core.handle(seen, 1.0) == []
    assert core.next_wakeup() == 2.0
    assert core.handle(WakeUp(), 1.5) == []
    assert core.handle(WakeUp(), 2.0) == []
    assert core.next_wakeup() == 7.0
    assert core.handle(CheckObserved(A, ProbeKey("failure", 0), False, ""), 8.0) == []
    assert core.next_wakeup() is None
    assert core.handle(seen, 9.0) == []
    assert core.handle(WakeUp(), 14.0) == []
    assert len(reports(core.handle(WakeUp(), 19.0))) == 1
    assert core.next_wakeup() is None


def test_probes_end_with_their_rank() -> None:
    core = running(a_spec(A, Probe(kind="readiness", checks=(TcpCheck(port=1),), delay_s=5.0)))
    core.handle(CheckObserved(A, ProbeKey("readiness", 0), True, ""), 1.0)
    core.handle(reaped(has_leftovers=True), 2.0)
    commands = core.handle(CheckObserved(A, ProbeKey("readiness", 0), False, ""), 2.0)  # the last look
    assert UnwatchCheck(A, ProbeKey("readiness", 0)) in commands
    assert core.next_wakeup() == 7.0
    assert core.handle(WakeUp(), 5.0) == []
    assert core.handle(CheckObserved(A, ProbeKey("readiness", 0), True, ""), 5.5) == []


def test_a_ready_rank_that_has_ended_with_leftovers_sees_nothing_more() -> None:
    core = running(a_spec(A, READINESS))
    seen = CheckObserved(A, ProbeKey("readiness", 0), True, "")
    core.handle(seen, 1.0)
    core.handle(reaped(has_leftovers=True), 2.0)
    assert core.handle(seen, 3.0) == []


# ---------------------------------------------------------------------- the end


def test_leaving_ends_ranks_then_logs_then_itself() -> None:
    core = running()
    assert core.handle(Ordered(Leave(grace_s=1.0)), 0.0) == [SignalTree(A, SIGTERM)]
    assert core.handle(Ordered(Spawn(ranks=(a_spec(B),))), 0.1) == []
    commands = core.handle(reaped(), 0.5)
    assert commands[-1] == FinishLogs()
    assert core.handle(LogsDelivered(), 0.6) == [Report(Goodbye()), Exit(EXIT_OK)]
    assert core.ending_because == "the run is over"


def test_logs_that_cannot_be_handed_over_do_not_hold_the_agent_for_ever() -> None:
    core = CheckedCore()
    assert core.handle(Ordered(Leave()), 0.0) == [FinishLogs()]
    assert core.next_wakeup() == LOGS_WITHIN_S
    assert core.handle(WakeUp(), 1.0) == []
    assert core.handle(WakeUp(), LOGS_WITHIN_S) == [Report(Goodbye()), Exit(EXIT_OK)]


def test_logs_delivered_while_nothing_ends_mean_nothing() -> None:
    assert CheckedCore().handle(LogsDelivered(), 0.0) == []


def test_an_orphaned_agent_does_not_wait_for_logs() -> None:
    core = running()
    assert core.handle(EndRequested("nobody"), 0.0) == [
        Report(Ending(reason="nobody")),
        SignalTree(A, SIGTERM),
    ]
    assert core.next_wakeup() == ORPHAN_GRACE_S
    core.handle(WakeUp(), ORPHAN_GRACE_S)
    core.handle(WakeUp(), ORPHAN_GRACE_S + VERIFY_S)
    core.handle(TreeSurvived(A, ("7 stuck",)), 8.0)
    assert core.handle(WakeUp(), 8.0) == [Report(Goodbye(survivors=("7 stuck",))), Exit(EXIT_ORPHANED)]


def test_a_refused_agent_ends_with_the_reason_it_was_given_first() -> None:
    core = CheckedCore()
    core.handle(Ordered(Refused(code="c", reason="other version")), 0.0)
    core.handle(EndRequested("SIGTERM received"), 0.1)
    assert core.ending_because == "refused by the controller: other version"


# ---------------------------------------------------------------------- ends that are looked into

FULL = ExitCause(word="disk_full", text="No space left on device")


def failed(rank: RankId = A, *, has_leftovers: bool = False) -> ProcessesReaped:
    return ProcessesReaped((ProcessExited(rank, 3, None, 10, has_leftovers),))


def told(commands: Sequence[AgentCommand]) -> list[RankExited]:
    return [c.message for c in commands if isinstance(c, Report) and isinstance(c.message, RankExited)]


def test_a_bad_exit_is_reported_with_its_cause() -> None:
    core = running()
    assert core.handle(failed(), 1.0) == [DiagnoseExit(A, 3, None)]
    assert core.exited() == ()
    assert core.live() == (LiveRank(A, 100, 7),)  # a controller that asks must not take it for lost
    report, _ = core.handle(ExitDiagnosed(A, FULL), 1.1)
    expected = RankExited(rank=A, exit_code=3, runtime_s=1.0, log_bytes=10, cause=FULL)
    assert report == Report(expected)
    assert core.exited() == (expected,)
    assert core.live() == ()
    acknowledge(core)
    assert core.handle(ExitDiagnosed(A, FULL), 1.2) == []


def test_a_good_exit_is_looked_into_only_for_its_success() -> None:
    (exit,) = told(running().handle(reaped(), 1.0))
    assert exit.cause is None
    core = CheckedCore()
    asking = msgspec.structs.replace(a_spec(), success=Success(require=("done",)))
    core.handle(Ordered(Spawn(ranks=(asking,))), 0.0)
    core.handle(ProcessStarted(A, 100, 7), 0.0)
    assert core.handle(reaped(), 1.0) == [DiagnoseExit(A, 0, None)]
    assert core.next_wakeup() is None  # however long it takes
    missing = ExitCause(word="success", text="x")
    (exit,) = told(core.handle(ExitDiagnosed(A, missing), 1000.0))
    assert (exit.exit_code, exit.cause) == (0, missing)


def test_a_status_that_is_a_success_is_not_looked_into() -> None:
    core = CheckedCore()
    core.handle(Ordered(Spawn(ranks=(msgspec.structs.replace(a_spec(), success_exit_codes=(0, 3)),))), 0.0)
    core.handle(ProcessStarted(A, 100, 7), 0.0)
    assert told(core.handle(failed(), 1.0))[0].cause is None


def test_leftovers_are_ended_meanwhile_and_reported_after_the_exit() -> None:
    core = running()
    assert core.handle(failed(has_leftovers=True), 1.0) == [DiagnoseExit(A, 3, None), SignalTree(A, SIGTERM)]
    assert core.clearing() == ()
    assert core.handle(TreeGone(A, 2), 1.5) == []
    commands = core.handle(ExitDiagnosed(A, FULL), 2.0)
    assert [type(c.message) for c in commands if isinstance(c, Report)] == [RankExited, RankCleared]
    assert core.next_wakeup() is None


def test_leftovers_may_outlast_the_look() -> None:
    core = running()
    core.handle(failed(has_leftovers=True), 1.0)
    (exit,) = told(core.handle(ExitDiagnosed(A, FULL), 1.2))
    assert not exit.cleared
    assert core.clearing() == (A,)
    assert core.handle(TreeGone(A, 1), 1.5) == [Report(RankCleared(rank=A, ended=1)), ForgetRank(A)]


def test_a_look_that_takes_too_long_is_not_waited_for() -> None:
    core = running()
    core.handle(failed(), 1.0)
    assert core.next_wakeup() == 1.0 + DIAGNOSE_WITHIN_S
    (exit,) = told(core.handle(WakeUp(), 1.0 + DIAGNOSE_WITHIN_S))
    assert exit.cause is None
    assert core.next_wakeup() is None
    assert core.handle(ExitDiagnosed(A, FULL), 20.0) == []


def test_a_stop_does_not_wait_for_the_look() -> None:
    core = running()
    core.handle(failed(), 1.0)
    commands = core.handle(Ordered(Stop(attempt=A.attempt, grace_s=5.0)), 1.1)
    assert [type(command) for command in commands] == [Report, ForgetRank]
    assert told(commands)[0].was_asked is False
    core = running()
    core.handle(failed(has_leftovers=True), 1.0)
    commands = core.handle(Ordered(Stop(attempt=A.attempt, grace_s=0.0)), 1.1)
    assert told(commands)
    assert commands[-1] == SignalTree(A, SIGKILL)


def test_a_stopped_rank_is_not_diagnosed() -> None:
    core = running()
    core.handle(Ordered(Stop(attempt=A.attempt, grace_s=5.0)), 1.0)
    (exit,) = told(core.handle(failed(), 2.0))
    assert exit.was_asked


def test_a_leaving_agent_reports_withheld_exits() -> None:
    core = running()
    core.handle(failed(), 1.0)
    commands = core.handle(Ordered(Leave()), 1.1)
    assert told(commands)
    assert FinishLogs() in commands


def test_ux_7_a_failure_whose_output_had_no_room_is_put_down_to_the_disk() -> None:
    """What it had to say about it is lost."""
    core = running()
    text = "its log could not be written"
    end = ProcessExited(A, 1, None, 10, False, lost_output=text)
    assert core.handle(ProcessesReaped((end,)), 1.0) == [DiagnoseExit(A, 1, None)]
    (exit,) = told(core.handle(ExitDiagnosed(A, None), 1.1))
    assert exit.cause is not None
    assert (exit.exit_code, exit.cause.word, exit.cause.text) == (1, "disk_full", text)


def test_a_rank_whose_order_came_too_late_is_reported_and_never_starts() -> None:
    core = CheckedCore()
    withdrawn = Ordered(Spawn(ranks=(a_spec(A),), is_withdrawn=True))
    report = LaunchFailed(rank=A, errno=errno.EINTR, reason="it was stopped before it began")
    assert core.handle(withdrawn, 0.0) == [Report(report)]
    assert core.handle(Ordered(Spawn(ranks=(a_spec(A),))), 1.0) == []
    assert core.live() == ()


def test_a_rank_that_runs_is_stopped_and_not_withdrawn() -> None:
    core = running()
    assert core.handle(Ordered(Spawn(ranks=(a_spec(A),), is_withdrawn=True)), 0.0) == []
    assert core.handle(stop(2.0), 1.0) == [SignalTree(A, SIGTERM)]


def test_a_process_that_sigkill_did_not_end_may_exit_late() -> None:
    """Its activity was watched until its stop began, and nothing of it is known any more."""
    core = running(a_spec(A, hang=HangPolicy(no_output_s=5.0)))
    core.handle(stop(0.0), 10.0)
    core.handle(WakeUp(), 10.0 + VERIFY_S)
    core.handle(TreeSurvived(A, ("7 stuck",)), 16.0)
    late = core.handle(ProcessesReaped((ProcessExited(A, None, 9, 0, False),)), 60.0)
    assert [type(command) for command in late] == [Report]
