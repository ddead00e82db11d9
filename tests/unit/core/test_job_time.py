"""The end of the Slurm job's time: Slurm is asked again before the run stops, and the run follows a changed limit."""

import msgspec
import pytest

from protocol.messages.orders import Stop
from protocol.messages.rank_spec import Stopping
from sflow_ctl.core.actions.job_time import CONFIRM_WITHIN_S, SAME_WITHIN_S
from sflow_ctl.core.commands import AskJobEnd, Command, RecordTransition, SendToAgent, Warn
from sflow_ctl.core.events import JobEndKnown, SchedulerEvent, StopRequested, WakeUp
from sflow_ctl.core.invariants import check_invariants
from sflow_ctl.core.model.run import Margins
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, hello, started

GONE_AT, HEADROOM_S = 180.0, 60.0
STOP_AT = GONE_AT - HEADROOM_S
SLOW = Stopping(grace_s=20.0)


class Run:
    """A task that runs, with a task for the run's end, in a job with a time limit."""

    def __init__(self, gone_at: float | None = GONE_AT, headroom_s: float = HEADROOM_S) -> None:
        plan = a_plan(a_task("a", stopping=SLOW), a_task("last", finally_when="after_stop", timeout_s=600.0))
        self.scheduler = Scheduler(plan, gone_at=gone_at, headroom_s=headroom_s)
        self.tell(hello(), 0.0)
        self.tell(started("a"), 0.0)

    def tell(self, event: SchedulerEvent, now: float) -> list[Command]:
        commands = self.scheduler.handle(event, now)
        check_invariants(self.scheduler.run)
        return commands

    def know(self, gone_at: float | None, now: float) -> list[Command]:
        return self.tell(JobEndKnown(gone_at=gone_at), now)

    def wake(self, now: float) -> list[Command]:
        """At a time at which something is due."""
        due = self.scheduler.next_wakeup()
        assert due is not None
        assert due <= now
        return self.tell(WakeUp(), now)

    @property
    def is_stopping(self) -> bool:
        return self.scheduler.run.outcome is not None


def has_stop(commands: list[Command]) -> bool:
    return any(isinstance(c, SendToAgent) and isinstance(c.message, Stop) for c in commands)


@pytest.fixture
def run() -> Run:
    return Run()


def test_p9_slurm_is_asked_again_before_the_run_stops(run: Run) -> None:
    assert run.scheduler.next_wakeup() == STOP_AT
    assert run.wake(STOP_AT) == [AskJobEnd()]
    assert has_stop(run.know(GONE_AT + SAME_WITHIN_S, STOP_AT + 0.1))  # the same, but for seconds
    cause = run.scheduler.run.cause
    assert cause is not None
    assert cause.text == "the Slurm job's time is nearly over"
    assert run.scheduler.run.outcome is Outcome.TIMEOUT


def test_p9_a_run_stops_in_time_without_an_answer(run: Run) -> None:
    run.wake(STOP_AT)
    assert run.scheduler.next_wakeup() == STOP_AT + CONFIRM_WITHIN_S
    assert has_stop(run.wake(STOP_AT + CONFIRM_WITHIN_S))


def test_p9_a_question_takes_no_more_than_half_of_the_headroom() -> None:
    run = Run(headroom_s=4.0)
    run.wake(GONE_AT - 4.0)
    assert has_stop(run.wake(GONE_AT - 2.0))


def test_public_17_an_extended_job_goes_on_to_its_new_end(run: Run) -> None:
    run.wake(STOP_AT)
    assert run.know(600.0, STOP_AT + 0.1) == []
    assert run.wake(STOP_AT + CONFIRM_WITHIN_S) == []
    assert not run.is_stopping
    new_stop_at = 600.0 - HEADROOM_S
    assert run.wake(new_stop_at) == [AskJobEnd()]
    assert has_stop(run.know(600.0, new_stop_at + 0.1))


def test_public_17_a_job_that_is_extended_early_is_asked_about_at_its_new_end(run: Run) -> None:
    run.know(600.0, 10.0)
    assert run.wake(STOP_AT) == []
    assert run.wake(600.0 - HEADROOM_S) == [AskJobEnd()]


def test_public_17_a_limit_that_is_lifted_stops_nothing(run: Run) -> None:
    run.know(None, 30.0)
    while (due := run.scheduler.next_wakeup()) is not None:
        assert run.wake(due) == []
    assert not run.is_stopping


def test_public_17_a_job_that_gets_a_limit_is_stopped_before_it() -> None:
    run = Run(gone_at=None)
    assert run.scheduler.next_wakeup() is None
    run.know(GONE_AT, 30.0)
    assert run.wake(STOP_AT) == [AskJobEnd()]
    assert has_stop(run.know(GONE_AT, STOP_AT))


def test_public_17_a_shortened_job_is_stopped_within_its_new_time(run: Run) -> None:
    """What is left is less than the headroom: grace, and the task at the end, have what there is."""
    commands = run.know(90.0, 50.0)
    assert has_stop(commands)
    assert run.scheduler.run.outcome is Outcome.TIMEOUT
    run.tell(exited("a", signal=15), 60.0)
    run.tell(started("last"), 60.0)
    assert run.scheduler.run.task_named("last").state is TaskState.RUNNING
    assert has_stop(run.wake(90.0 - Margins().finals_s))
    assert [c.text for c in run.wake(90.0 - Margins().force_s) if isinstance(c, Warn)] == [
        "the run did not end within its time that the Slurm job has left; killed: last"
    ]


def test_public_17_a_job_that_is_shortened_a_little_stops_earlier(run: Run) -> None:
    run.know(GONE_AT - 30.0, 10.0)
    assert run.wake(STOP_AT - 30.0) == [AskJobEnd()]
    assert has_stop(run.know(GONE_AT - 30.0, STOP_AT - 30.0))


def test_public_17_a_job_that_is_extended_while_the_run_stops_gives_it_that_time(run: Run) -> None:
    run.tell(StopRequested(signal="SIGTERM"), 100.0)
    run.tell(exited("a", signal=15), 100.0)
    run.tell(started("last"), 100.0)
    run.know(600.0, 110.0)
    for due in (GONE_AT - Margins().finals_s, GONE_AT - Margins().force_s):
        assert not has_stop(run.wake(due))
    assert has_stop(run.wake(600.0 - Margins().finals_s))


def test_public_17_a_job_that_is_shortened_while_the_run_stops_limits_it(run: Run) -> None:
    run.tell(StopRequested(signal="SIGTERM"), 10.0)
    run.know(40.0, 11.0)
    commands = run.wake(40.0 - Margins().force_s)
    assert has_stop(commands)
    assert any(isinstance(c, Warn) for c in commands)


def test_p5_a_run_that_was_suspended_over_its_end_asks_before_it_stops(run: Run) -> None:
    """The time of a suspension does not count against the job's limit, but it does for this clock."""
    assert run.wake(1000.0) == [AskJobEnd()]
    assert not run.is_stopping
    assert run.know(1130.0, 1000.1) == []
    assert run.wake(1000.0 + CONFIRM_WITHIN_S) == []
    assert not run.is_stopping
    assert run.wake(1130.0 - HEADROOM_S) == [AskJobEnd()]


def test_p5_a_suspension_that_counted_stops_the_run_at_once(run: Run) -> None:
    run.wake(1000.0)
    assert has_stop(run.know(GONE_AT, 1000.1))


def test_an_outcome_is_not_changed_by_an_answer(run: Run) -> None:
    run.tell(StopRequested(signal="SIGINT"), 10.0)
    assert not [c for c in run.know(12.0, 11.0) if isinstance(c, RecordTransition)]
    assert run.scheduler.run.outcome is Outcome.INTERRUPTED


def saving(*tasks: PlannedTask) -> Plan:
    """A plan whose tasks have time to save."""
    return msgspec.structs.replace(a_plan(*tasks), stop_before_end_s=100.0)


def test_tasks_have_time_to_save_before_the_end_of_the_job() -> None:
    server = a_task("server", service=True, stopping=SLOW)
    plan = saving(a_task("a", "server", stopping=Stopping(signal=10)), server)
    driver = Driver(plan, gone_at=GONE_AT, headroom_s=HEADROOM_S)
    driver(hello())
    driver.serve("server")
    driver.start("a")
    assert driver.scheduler.next_wakeup() == GONE_AT - 100.0
    driver(WakeUp(), now=GONE_AT - 100.0).of(AskJobEnd)
    (order,) = driver(WakeUp(), now=GONE_AT - 95.0).orders(Stop)
    assert (order.attempt.task, order.grace_s) == ("a", 70.0)
    (order,) = driver(exited("a", 0), now=GONE_AT - 40.0).orders(Stop)
    assert (order.attempt.task, order.grace_s) == ("server", 20.0)
    assert driver.state("a") == "timeout"  # saved, not done: a resume runs it again
    driver.end("server", 0)
    assert driver.leave().outcome is Outcome.TIMEOUT


def test_a_job_that_is_cancelled_gives_tasks_their_own_grace() -> None:
    plan = saving(a_task("a", stopping=SLOW))
    driver = Driver(plan, gone_at=GONE_AT, headroom_s=HEADROOM_S)
    driver(hello())
    driver.start("a")
    (order,) = driver(StopRequested(signal="SIGTERM"), now=10.0).orders(Stop)
    assert order.grace_s == 20.0
