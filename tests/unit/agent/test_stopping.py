"""The agent's core: a task's own stop, step by step, and reports of inactivity."""

from protocol.messages.facts import (
    AgentSuspended,
    Ending,
    RankCleared,
    RankIdle,
    SideCommandEnded,
    SidePurpose,
)
from protocol.messages.orders import Spawn
from protocol.messages.rank_spec import HangPolicy, RankSpec, SideCommand, Stopping
from sflow_agent.core.agent import ORPHAN_GRACE_S
from sflow_agent.core.commands import (
    AgentCommand,
    EndCommand,
    ForgetRank,
    Report,
    RunCommand,
    SignalTree,
    UnwatchActivity,
    WatchActivity,
)
from sflow_agent.core.events import (
    CommandEnded,
    EndRequested,
    IdleChanged,
    Ordered,
    ProcessStarted,
    SuspensionSeen,
    TreeGone,
    WakeUp,
)
from sflow_agent.core.poll_schedule import LONGEST_REST_S, SHORTEST_REST_S, InactivityTimer
from sflow_agent.core.stop_sequence import ONLY_WAIT, SIGKILL
from tests.unit.agent.driver import A, CheckedCore, a_spec, reaped, running, stop

SIGINT = 2
QUIT = SideCommand(argv=("quit",), timeout_s=10.0)
DUMP = SideCommand(argv=("dump",), timeout_s=30.0)
POLITE = Stopping(command=QUIT, signal=SIGINT, grace_s=7.0)
WATCH = HangPolicy(no_output_s=60.0, command=DUMP)


def polite(stopping: Stopping = POLITE, hang: HangPolicy | None = None) -> CheckedCore:
    """A rank with a way to end of its own, and a hang policy if one is given."""
    return running(a_spec(stopping=stopping, hang=hang))


def ask(*, is_forced: bool = False, is_hang: bool = False, grace_s: float = 7.0) -> Ordered:
    """An order to stop it."""
    return stop(grace_s, is_forced=is_forced, is_hang=is_hang)


def ended(purpose: SidePurpose = "stop", problem: str = "") -> CommandEnded:
    return CommandEnded(A, purpose, b"said", problem)


def told(purpose: SidePurpose = "stop", problem: str = "") -> AgentCommand:
    return Report(SideCommandEnded(rank=A, purpose=purpose, output=b"said", problem=problem))


def test_p5_a_grace_that_began_before_a_suspension_has_the_rest_of_its_time_after_it() -> None:
    core = polite(stopping=Stopping(signal=SIGINT, grace_s=7.0))
    assert core.handle(ask(), 1.0) == [SignalTree(A, SIGINT)]
    assert core.handle(SuspensionSeen(60.0), 62.0) == [Report(AgentSuspended(seconds=60.0))]
    assert core.next_wakeup() == 68.0
    assert core.handle(WakeUp(), 67.0) == []
    assert core.handle(WakeUp(), 68.0) == [SignalTree(A, SIGKILL)]


def test_a_command_that_ends_the_task_is_all_that_is_done() -> None:
    core = polite()
    assert core.handle(ask(), 1.0) == [SignalTree(A, ONLY_WAIT), RunCommand(A, "stop")]
    assert core.handle(ended(), 2.0) == [told()]
    assert core.next_wakeup() == 11.0
    core.handle(reaped(has_leftovers=True), 3.0)
    assert core.handle(TreeGone(A, 0), 4.0) == [Report(RankCleared(rank=A)), ForgetRank(A)]
    assert core.next_wakeup() is None


def test_a_tree_that_stays_gets_the_signal_after_the_command_and_is_killed_at_last() -> None:
    core = polite()
    core.handle(ask(), 1.0)
    core.handle(ended(), 2.0)
    assert core.handle(WakeUp(), 11.0) == [SignalTree(A, SIGINT)]
    assert core.handle(WakeUp(), 18.0) == [SignalTree(A, SIGKILL)]


def test_a_command_that_fails_is_followed_by_the_signal_at_once() -> None:
    core = polite()
    core.handle(ask(), 1.0)
    assert core.handle(ended(problem="exited with 7"), 2.0) == [
        told(problem="exited with 7"),
        SignalTree(A, SIGINT),
    ]
    assert core.next_wakeup() == 9.0


def test_a_command_that_does_not_end_is_ended_and_followed_by_the_signal() -> None:
    core = polite()
    core.handle(ask(), 1.0)
    assert core.handle(WakeUp(), 11.0) == [EndCommand(A, "stop"), SignalTree(A, SIGINT)]
    assert core.handle(ended(problem="late"), 11.0) == [told(problem="late")]
    assert core.next_wakeup() == 18.0


def test_a_forced_stop_waits_for_no_command() -> None:
    core = polite()
    core.handle(ask(), 1.0)
    assert core.handle(ask(is_forced=True), 2.0) == [SignalTree(A, SIGKILL)]
    assert core.handle(ended(problem="was killed by SIGKILL"), 2.0) == [told()]
    assert polite().handle(ask(is_forced=True), 1.0) == [SignalTree(A, SIGKILL)]


def test_a_repeated_stop_runs_the_command_once_and_may_shorten_the_grace() -> None:
    core = polite()
    core.handle(ask(), 1.0)
    assert core.handle(ask(grace_s=3.0), 2.0) == []
    assert core.handle(ended(problem="no"), 3.0)[-1] == SignalTree(A, SIGINT)
    assert core.next_wakeup() == 6.0


def test_without_a_grace_the_command_still_has_its_time() -> None:
    core = polite(Stopping(command=QUIT, grace_s=0.0))
    assert core.handle(ask(grace_s=0.0), 1.0) == [SignalTree(A, ONLY_WAIT), RunCommand(A, "stop")]
    assert core.handle(WakeUp(), 11.0) == [EndCommand(A, "stop"), SignalTree(A, SIGKILL)]


def test_an_agent_on_its_own_runs_no_commands_and_waits_no_longer_than_it_may() -> None:
    core = polite()
    assert core.handle(EndRequested("alone"), 1.0) == [Report(Ending(reason="alone")), SignalTree(A, SIGINT)]
    assert core.next_wakeup() == 1.0 + ORPHAN_GRACE_S
    core = polite()
    core.handle(ask(), 1.0)
    assert core.handle(EndRequested("alone"), 2.0) == [Report(Ending(reason="alone")), SignalTree(A, SIGINT)]
    assert core.next_wakeup() == 2.0 + ORPHAN_GRACE_S


def test_leftover_processes_get_the_signal_and_no_command() -> None:
    core = polite()
    assert SignalTree(A, SIGINT) in core.handle(reaped(has_leftovers=True), 1.0)
    assert core.handle(ask(), 2.0) == []


def test_a_hang_is_looked_into_before_the_task_is_ended() -> None:
    core = polite(hang=WATCH)
    assert core.handle(ask(is_hang=True), 1.0) == [UnwatchActivity(A), RunCommand(A, "hang")]
    assert core.handle(ended("hang", "exited with 1"), 2.0) == [
        told("hang", "exited with 1"),
        SignalTree(A, ONLY_WAIT),
        RunCommand(A, "stop"),
    ]
    assert core.next_wakeup() == 12.0


def test_looking_into_a_hang_takes_no_longer_than_its_time() -> None:
    core = polite(Stopping(), WATCH)
    core.handle(ask(is_hang=True), 1.0)
    assert core.next_wakeup() == 31.0
    assert core.handle(WakeUp(), 31.0) == [EndCommand(A, "hang"), SignalTree(A, 15)]


def test_a_task_that_ends_while_its_hang_is_looked_into_is_only_cleared() -> None:
    core = polite(hang=WATCH)
    core.handle(ask(is_hang=True), 1.0)
    core.handle(reaped(has_leftovers=True), 2.0)  # the command that looks is part of the tree
    assert SignalTree(A, SIGINT) in core.handle(ended("hang"), 3.0)


def test_inactivity_is_in_every_hello_until_there_is_activity() -> None:
    core = CheckedCore()
    spec = RankSpec(rank=A, argv=("true",), env={}, log="a/a.log", hang=WATCH)
    core.handle(Ordered(Spawn(ranks=(spec,))), 0.0)
    assert core.handle(ProcessStarted(A, 100, 7), 0.0)[-1] == WatchActivity(A)
    quiet = RankIdle(rank=A, kind="output", is_quiet=True)
    assert core.handle(IdleChanged(A, "output", True), 60.0) == [Report(quiet)]
    assert core.quiet() == (quiet,)
    life = RankIdle(rank=A, kind="output", is_quiet=False)
    assert core.handle(IdleChanged(A, "output", False), 61.0) == [Report(life)]
    assert core.quiet() == ()


def test_inactivity_of_an_ending_task_is_not_reported() -> None:
    core = polite(hang=WATCH)
    core.handle(ask(), 1.0)
    assert core.handle(IdleChanged(A, "output", True), 2.0) == []
    core.handle(reaped(has_leftovers=False), 3.0)
    assert core.handle(IdleChanged(A, "output", True), 4.0) == []


def test_inactivity_begins_at_the_limit() -> None:
    silence = InactivityTimer(limit_s=4.0, since=0.0)
    assert not silence.observe(False, 3.9)
    assert silence.observe(False, 4.0)
    assert silence.is_quiet
    assert not silence.observe(False, 5.0)
    assert silence.observe(True, 6.0)
    assert not silence.is_quiet
    assert not silence.observe(False, 9.9)
    assert silence.observe(False, 10.0)
    assert [InactivityTimer(limit_s, 0.0).rest_s for limit_s in (0.1, 10.0, 3600.0)] == [
        SHORTEST_REST_S,
        0.5,
        LONGEST_REST_S,
    ]


def test_p5_time_in_which_nothing_was_looked_at_is_not_inactivity() -> None:
    silence = InactivityTimer(limit_s=600.0, since=0.0)
    assert not silence.observe(True, 5.0)
    assert not silence.observe(False, 10.0)
    assert not silence.observe(False, 4000.0), "the machine was paused"
    looks = [4000.0 + 5.0 * number for number in range(1, 130)]
    changes = [now for now in looks if silence.observe(False, now)]
    assert len(changes) == 1
    assert 4000 + 580 < changes[0] <= 4000 + 600
