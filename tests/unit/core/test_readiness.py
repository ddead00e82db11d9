"""Which nodes must report readiness, which are missing meanwhile, and the effect of a deadline."""

import msgspec

from protocol.ids import AttemptId
from protocol.messages.checks import Probe, TcpCheck
from protocol.messages.facts import ProbeWaiting
from protocol.messages.rank_spec import RankSpec
from sflow_ctl.core.commands import RecordWaiting
from sflow_ctl.core.events import MessageReceived, WakeUp
from sflow_ctl.core.model.readiness import Readiness, probes_of_rank
from sflow_ctl.core.states import Outcome, TaskState
from tests.unit.core.driver import Driver
from tests.unit.core.plans import READINESS, a_plan, a_task, exited, hello, rank, ready, started

EACH = Probe(kind="readiness", checks=(TcpCheck(port=1000),), on_node="each")
FAILURE = Probe(kind="failure", checks=(TcpCheck(port=1001),))
NAMES = [f"n{index}" for index in range(9)]


def spec(*probes: Probe) -> RankSpec:
    return RankSpec(rank=rank("a"), argv=("true",), env={}, log="a/a.log", probes=probes)


def waiting(detail: str, name: str = "a", attempt: int = 1, node: int = 0) -> MessageReceived:
    message = ProbeWaiting(attempt=AttemptId(name, attempt), kind="readiness", detail=detail)
    return MessageReceived(node=node, message=message)


# ---------------------------------------------------------------------- who must say so


def test_probes_go_with_the_first_rank_or_with_the_first_of_each_node() -> None:
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


def running(deadline_s: float | None = None, retries: int = 0) -> Driver:
    task = msgspec.structs.replace(a_task("a", service=True, retries=retries), deadlines_s=(deadline_s,))
    run = Driver(a_plan(task, a_task("b", "a")))
    run(hello(), now=10.0)
    run(started("a"), now=11.0)
    return run


def test_what_a_service_waits_for_is_recorded_once() -> None:
    run = running()
    assert run(waiting("HTTP 503"), now=12.0) == ["a#1 waits: HTTP 503"]
    assert run(waiting("HTTP 503"), now=13.0) == []
    assert run(waiting("HTTP 503", attempt=2), now=13.0) == []
    run(ready("a"), now=14.0)
    assert run(waiting("HTTP 500"), now=15.0) == []


def test_a_deadline_ends_the_attempt_with_what_was_missing() -> None:
    run = running(deadline_s=30.0)
    assert run(waiting("port 1000 is not listening"), now=12.0).of(RecordWaiting)
    assert run.scheduler.next_wakeup() == 40.0
    assert run(WakeUp(), now=40.0) == [
        "a#1 running->stopping not_ready",
        "0: stop a#1 5",
    ]
    text = (
        "was not ready within its deadline of 30 s: port 1000 is not listening "
        "(readiness probe timed out; a longer `timeout` in the probe gives it more time)"
    )
    assert run.why("a") == f"not_ready: {text}"
    run(exited("a", signal=15), now=41.0)
    assert run.state("a") is TaskState.TIMEOUT
    assert run.run.outcome is Outcome.FAILED
    assert run.cause() == f"task a {text}"


def test_a_deadline_counts_for_each_attempt_and_may_be_retried() -> None:
    run = running(deadline_s=30.0, retries=1)
    run(WakeUp(), now=40.0)
    assert run(exited("a", signal=15), now=41.0) == ["a#1 stopping->waiting retry"]
    run(WakeUp(), now=42.0)
    run(started("a", attempt=2), now=43.0)
    assert run(WakeUp(), now=71.9) == []
    assert run.state("a") is TaskState.RUNNING
    run(ready("a", attempt=2), now=71.95)
    assert run(WakeUp(), now=80.0) == []
    assert run.state("a") is TaskState.READY


def test_a_run_at_its_limit_names_who_is_not_ready() -> None:
    services = [a_task(name, service=True) for name in "acde"]
    run = Driver.joined(a_plan(*services, a_task("b", *"acde"), timeout_s=60.0))
    run.start(*"acde")
    assert run(waiting("HTTP 503"), now=1.0).of(RecordWaiting)
    run(WakeUp(), now=60.0)
    assert run.cause() == (
        "the workflow's timeout of 60 s has passed; not ready: a (HTTP 503), c, d and 1 more"
    )


def started_gang() -> Driver:
    run = Driver.joined(a_plan(a_task("a", service=True, ranks_per_node=(2,))))
    run(*(started("a", rank_number=number) for number in (0, 1)))
    return run


def test_a_gang_whose_watched_rank_fails_cannot_become_ready_and_ends() -> None:
    run = started_gang()
    assert run(exited("a", 3, rank_number=0)) == ["a#1 running->stopping exit", "0: stop a#1 5"]
    assert run.why("a") == "exit: rank 0: exit status 3, and its readiness waits for rank 0"


def test_a_gang_whose_other_rank_fails_continues_to_wait() -> None:
    run = started_gang()
    assert run(exited("a", 3, rank_number=1)) == []
    assert run.state("a") is TaskState.RUNNING
