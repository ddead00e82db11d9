"""Who must say that an attempt is ready, what is missing meanwhile, and what a deadline does."""

import msgspec

from protocol.ids import AttemptId
from protocol.messages.checks import Probe, TcpCheck
from protocol.messages.facts import ProbeWaiting
from protocol.messages.orders import Stop
from protocol.messages.rank_spec import RankSpec
from sflow_ctl.core.commands import Command, RecordTransition, RecordWaiting, SendToAgent
from sflow_ctl.core.events import MessageReceived, WakeUp
from sflow_ctl.core.model.readiness import Readiness, probes_of_rank
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import Outcome, TaskState, Transition
from tests.unit.core.plans import READINESS, a_plan, a_task, exited, hello, rank, ready, started

EACH = Probe(kind="readiness", checks=(TcpCheck(port=1000),), on_node="each")
FAILURE = Probe(kind="failure", checks=(TcpCheck(port=1001),))
NAMES = [f"n{index}" for index in range(9)]


def spec(*probes: Probe) -> RankSpec:
    return RankSpec(rank=rank("a"), argv=("true",), env={}, log="a/a.log", probes=probes)


def waiting(detail: str, name: str = "a", attempt: int = 1, node: int = 0) -> MessageReceived:
    message = ProbeWaiting(attempt=AttemptId(name, attempt), kind="readiness", detail=detail)
    return MessageReceived(node=node, message=message)


def transitions(commands: list[Command]) -> list[Transition]:
    return [command.transition for command in commands if isinstance(command, RecordTransition)]


# ---------------------------------------------------------------------- who must say so


def test_probes_go_with_the_first_rank_and_those_of_every_node_with_the_first_of_each() -> None:
    probes = (EACH, FAILURE)
    assert probes_of_rank(probes, is_first=True, is_first_on_node=True) == probes
    assert probes_of_rank(probes, is_first=False, is_first_on_node=True) == (EACH,)
    assert probes_of_rank(probes, is_first=False, is_first_on_node=False) == ()


def test_every_node_that_watches_must_have_seen_it() -> None:
    readiness = Readiness.of([(4, spec(EACH)), (5, spec(EACH)), (5, spec()), (6, spec(FAILURE))])
    assert readiness.total == 2
    assert not readiness.seen(5)
    assert not readiness.seen(5)  # said again, in a hello
    assert not readiness.seen(6)
    assert readiness.seen(4)


def test_one_node_waits_in_its_own_words() -> None:
    readiness = Readiness.of([(3, spec(READINESS))])
    assert readiness.text(NAMES) == ""
    assert readiness.waits(3, "HTTP 503")
    assert not readiness.waits(3, "HTTP 503")
    assert not readiness.waits(4, "HTTP 503")
    assert readiness.text(NAMES) == "HTTP 503"


def test_several_nodes_are_counted_and_the_first_are_named() -> None:
    readiness = Readiness.of([(node, spec(EACH)) for node in range(9)])
    for node in range(5):
        readiness.seen(node)
    assert readiness.text(NAMES) == "ready on 5 of 9 nodes"
    assert not readiness.waits(2, "late news of a node that is ready")
    for node in range(8, 4, -1):
        readiness.waits(node, "port 1 is not listening")
    assert readiness.text(NAMES) == (
        "ready on 5 of 9 nodes (n5: port 1 is not listening; n6: port 1 is not listening; "
        "n7: port 1 is not listening; ...)"
    )


# ---------------------------------------------------------------------- in the scheduler


def running(deadline_s: float | None = None, retries: int = 0) -> Scheduler:
    task = msgspec.structs.replace(a_task("a", service=True, retries=retries), deadline_s=deadline_s)
    scheduler = Scheduler(a_plan(task, a_task("b", "a")))
    scheduler.handle(hello(), 10.0)
    scheduler.handle(started("a"), 11.0)
    return scheduler


def test_what_a_service_waits_for_is_recorded_once() -> None:
    scheduler = running()
    assert scheduler.handle(waiting("HTTP 503"), 12.0) == [
        RecordWaiting(task="a", attempt=1, text="HTTP 503")
    ]
    assert scheduler.handle(waiting("HTTP 503"), 13.0) == []
    assert scheduler.handle(waiting("HTTP 503", attempt=2), 13.0) == []
    scheduler.handle(ready("a"), 14.0)
    assert scheduler.handle(waiting("HTTP 500"), 15.0) == []


def test_a_deadline_ends_the_attempt_with_what_was_missing() -> None:
    scheduler = running(deadline_s=30.0)
    scheduler.handle(waiting("port 1000 is not listening"), 12.0)
    assert scheduler.next_wakeup() == 40.0
    commands = scheduler.handle(WakeUp(), 40.0)
    (stopping,) = [t for t in transitions(commands) if t.task == "a"]
    text = "was not ready within its deadline of 30 s: port 1000 is not listening"
    assert (stopping.new, stopping.reason.word, stopping.reason.text) == (
        TaskState.STOPPING,
        "not_ready",
        text,
    )
    assert SendToAgent(node=0, message=Stop(attempt=AttemptId("a", 1), grace_s=5.0)) in commands
    scheduler.handle(exited("a", signal=15), 41.0)
    assert scheduler.run.task_named("a").state is TaskState.TIMEOUT
    assert scheduler.run.outcome is Outcome.FAILED
    assert scheduler.run.cause is not None
    assert scheduler.run.cause.text == f"task a {text}"


def test_a_deadline_counts_for_each_attempt_and_may_be_retried() -> None:
    scheduler = running(deadline_s=30.0, retries=1)
    scheduler.handle(WakeUp(), 40.0)
    (retry,) = transitions(scheduler.handle(exited("a", signal=15), 41.0))
    assert (retry.new, retry.reason.word) == (TaskState.WAITING, "retry")
    scheduler.handle(WakeUp(), 42.0)
    scheduler.handle(started("a", attempt=2), 43.0)
    scheduler.handle(WakeUp(), 71.9)
    assert scheduler.run.task_named("a").state is TaskState.RUNNING
    scheduler.handle(ready("a", attempt=2), 71.95)
    scheduler.handle(WakeUp(), 80.0)
    assert scheduler.run.task_named("a").state is TaskState.READY


def test_a_run_at_its_limit_names_who_is_not_ready() -> None:
    services = [a_task(name, service=True) for name in "acde"]
    scheduler = Scheduler(a_plan(*services, a_task("b", *"acde"), timeout_s=60.0))
    scheduler.handle(hello(), 0.0)
    for name in "acde":
        scheduler.handle(started(name), 0.5)
    scheduler.handle(waiting("HTTP 503"), 1.0)
    scheduler.handle(WakeUp(), 60.0)
    assert scheduler.run.cause is not None
    assert scheduler.run.cause.text == (
        "the workflow's time limit of 60 s is over, and not ready are a: HTTP 503; c; d and 1 more"
    )


def test_a_gang_whose_watched_rank_fails_cannot_become_ready_and_ends() -> None:
    gang = a_task("a", service=True, ranks_per_node=(2,))
    scheduler = Scheduler(a_plan(gang))
    scheduler.handle(hello(), 0.0)
    for number in (0, 1):
        scheduler.handle(started("a", rank_number=number), 0.5)
    scheduler.handle(exited("a", 3, rank_number=0), 1.0)
    task = scheduler.run.task_named("a")
    assert task.state is TaskState.STOPPING
    assert task.attempt.verdict is not None
    assert task.attempt.verdict.reason.text == "rank 0: exit status 3, and its readiness waits for rank 0"


def test_a_gang_whose_other_rank_fails_goes_on_waiting() -> None:
    gang = a_task("a", service=True, ranks_per_node=(2,))
    scheduler = Scheduler(a_plan(gang))
    scheduler.handle(hello(), 0.0)
    for number in (0, 1):
        scheduler.handle(started("a", rank_number=number), 0.5)
    scheduler.handle(exited("a", 3, rank_number=1), 1.0)
    assert scheduler.run.task_named("a").state is TaskState.RUNNING
