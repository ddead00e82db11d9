"""The agent's core: processes of job steps whose `srun` another agent has, and SIGTERM within a Slurm job."""

from protocol.ids import AttemptId, RankId
from protocol.machine.marks import RANK_BITS
from protocol.messages.facts import RankCleared, RankExited, Terminated
from protocol.messages.orders import EndStep, Leave, Spawn, Stop
from protocol.messages.rank_spec import RankSpec
from sflow_agent.core.agent import ORPHAN_GRACE_S
from sflow_agent.core.commands import AdoptStep, FinishLogs, GiveUpTree, Report, SignalTree
from sflow_agent.core.events import (
    EndRequested,
    Ordered,
    ProcessesReaped,
    ProcessExited,
    ProcessStarted,
    TerminationSeen,
    TreeGone,
    TreeSurvived,
    WakeUp,
)
from sflow_agent.core.stop_sequence import ALL_STEPS, ONLY_WAIT, SIGKILL, VERIFY_S
from sflow_agent.limits import run_mark, step_mark, with_step_mark
from tests.unit.agent.driver import CheckedCore

SRUN, PART = RankId(AttemptId("a", 1), 0), RankId(AttemptId("a", 1), 1)
SIGUSR1, SIGTERM = 10, 15


def end_step(grace_s: float = 5.0, patience_s: float = 0.0) -> Ordered:
    return Ordered(EndStep(part=PART, mark_of=SRUN, signal=SIGUSR1, grace_s=grace_s, patience_s=patience_s))


def test_clusters_f4_a_part_gets_the_tasks_signal_its_grace_and_sigkill() -> None:
    core = CheckedCore(is_in_job=True)
    assert core.handle(end_step(), 1.0) == [AdoptStep(PART, SRUN), SignalTree(PART, SIGUSR1)]
    assert core.clearing() == (PART,)
    assert core.next_wakeup() == 6.0
    assert core.handle(WakeUp(), 6.0) == [SignalTree(PART, SIGKILL)]
    assert core.handle(WakeUp(), 6.0 + VERIFY_S) == [GiveUpTree(PART)]
    survived = core.handle(TreeSurvived(PART, ("7 stuck",)), 11.0)
    assert survived == [Report(RankCleared(rank=PART, survivors=("7 stuck",)))]
    assert core.clearing() == ()
    assert core.next_wakeup() is None


def test_clusters_f4_a_part_waits_for_the_tasks_own_command_elsewhere() -> None:
    core = CheckedCore(is_in_job=True)
    assert core.handle(end_step(patience_s=10.0), 1.0)[1:] == [SignalTree(PART, ONLY_WAIT)]
    assert core.handle(end_step(patience_s=20.0), 2.0) == []
    assert core.handle(WakeUp(), 11.0) == [SignalTree(PART, SIGUSR1)]
    core.handle(end_step(patience_s=10.0), 12.0)
    assert core.handle(end_step(grace_s=0.0), 12.0) == [SignalTree(PART, SIGKILL)]


def test_clusters_f5_an_order_that_is_repeated_when_all_is_gone_is_answered_again() -> None:
    core = CheckedCore(is_in_job=True)
    for _ in range(2):
        core.handle(end_step(), 1.0)
        assert core.handle(TreeGone(PART, 3), 1.0) == [Report(RankCleared(rank=PART, ended=3))]


def test_clusters_f5_an_agent_that_leaves_ends_all_steps_of_the_run_first() -> None:
    core = CheckedCore(is_in_job=True)
    assert core.handle(Ordered(Leave(grace_s=5.0)), 1.0) == [
        AdoptStep(ALL_STEPS, None),
        SignalTree(ALL_STEPS, SIGTERM),
    ]
    assert core.handle(TreeGone(ALL_STEPS, 0), 1.0) == [FinishLogs()]
    assert CheckedCore().handle(Ordered(Leave(grace_s=5.0)), 1.0) == [FinishLogs()], "not in a job"


def test_clusters_f5_without_a_controller_parts_have_the_orphans_grace() -> None:
    core = CheckedCore(is_in_job=True)
    core.handle(end_step(grace_s=60.0), 1.0)
    core.handle(EndRequested("alone"), 2.0)
    assert core.next_wakeup() == 2.0 + ORPHAN_GRACE_S


def test_clusters_f13_in_a_job_sigterm_is_reported_and_the_controller_decides() -> None:
    core = CheckedCore(is_in_job=True)
    assert core.handle(TerminationSeen(), 1.0) == [Report(Terminated())]
    assert core.ending_because is None
    local = CheckedCore()
    local.handle(TerminationSeen(), 1.0)
    assert local.ending_because == "SIGTERM received"


def test_clusters_f4_a_stopped_step_shows_the_signal_that_ended_it() -> None:
    for was_asked, expected in ((True, (None, SIGTERM)), (False, (143, None))):
        core = CheckedCore(is_in_job=True)
        spec = RankSpec(
            rank=SRUN, argv=("srun", "bash", "-c", "true"), launch_kind="step", env={}, log="a/a.log"
        )
        core.handle(Ordered(Spawn(ranks=(spec,))), 0.0)
        core.handle(ProcessStarted(SRUN, 100, 7), 0.0)
        if was_asked:
            core.handle(Ordered(Stop(attempt=SRUN.attempt, grace_s=5.0)), 1.0)
        commands = core.handle(ProcessesReaped((ProcessExited(SRUN, 143, None, 10, False),)), 2.0)
        if not was_asked:
            commands += core.handle(WakeUp(), 60.0)  # nobody has diagnosed it
        ends = [c.message for c in commands if isinstance(c, Report) and isinstance(c.message, RankExited)]
        assert [(end.exit_code, end.signal) for end in ends] == [expected]


def test_clusters_f5_marks_tell_runs_and_ranks_apart() -> None:
    marks = {step_mark(run, rank) for run in ("r1", "r2") for rank in ("a#1", "a#2", "b#1")}
    assert len(marks) == 6
    assert all(0 < mark < 1 << 62 for mark in marks)
    assert step_mark("r1", "a#1") >> RANK_BITS == run_mark("r1") != run_mark("r2")
    assert with_step_mark("one\ntwo", 5).splitlines()[1] == "two", "lines count as in the file"
