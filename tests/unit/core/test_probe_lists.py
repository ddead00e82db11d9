"""Lists of readiness probes in the scheduler: each entry its own deadline, and its own ranks that must see it."""

from msgspec.structs import replace

from protocol.ids import AttemptId
from protocol.messages.checks import LogCheck, LogPattern, Probe, TcpCheck
from protocol.messages.facts import ProbeTriggered
from sflow_ctl.core.events import MessageReceived, WakeUp
from sflow_ctl.core.model.readiness import probes_of_rank, ranks_needed
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.parts.again import Restart
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, started

PORT = TcpCheck(port=1000)
LINE = LogCheck(pattern=LogPattern(pattern="up", count=2))


def a_list(*checks: TcpCheck | LogCheck) -> Probe:
    """Readiness probes of one check each."""
    first, *others = (
        Probe(kind="readiness", checks=(check,), part=part) for part, check in enumerate(checks)
    )
    return replace(first, also=tuple(others))


def seen(part: int, rank: int = 0, attempt: int = 1) -> MessageReceived:
    """One entry of the list has been true."""
    fact = ProbeTriggered(
        attempt=AttemptId("a", attempt), rank=rank, kind="readiness", part=part, detail=f"seen {part}"
    )
    return MessageReceived(node=0, message=fact)


def running(
    *deadlines_s: float | None, retries: int = 0, is_final: bool = False, restart: Restart | None = None
) -> Driver:
    task = a_task("a", retries=retries, restart=restart, probes=(a_list(PORT, PORT),))
    plan = replace(a_plan(replace(task, deadlines_s=deadlines_s), a_task("b", "a")), late_is_final=is_final)
    run = Driver.joined(plan)
    run(started("a"), now=1.0)
    return run


def test_a_task_is_ready_when_each_entry_has_been_true() -> None:
    run = running(None, None)
    assert run(seen(1)) == []
    assert run(seen(1)) == []  # said again, in a hello
    assert run(seen(7)) == []  # from the wire
    assert run(seen(0))[0] == "a#1 running->ready ready"
    assert run.why("a") == "ready: seen 0; seen 1"


def test_each_entry_has_its_own_deadline() -> None:
    run = running(9.0, 90.0)
    run(seen(0), now=8.0)
    assert run(WakeUp(), now=9.0) == []
    run(seen(1), now=89.0)
    run(started("b"), now=89.0)
    assert run(WakeUp(), now=90.0) == []
    assert run.state("a") is TaskState.READY


def test_the_entry_that_is_late_is_named() -> None:
    run = running(90.0, 9.0)
    run(seen(0), now=8.0)
    assert run(WakeUp(), now=9.0) == ["a#1 running->stopping not_ready", "0: stop a#1 5"]
    assert "not ready within the deadline of readiness probe 2 of 2, 9 s" in run.why("a")
    assert "readiness probe timed out" in run.why("a")


def test_an_entry_without_deadline_does_not_prolong_the_others() -> None:
    run = running(None, 9.0)
    assert run(WakeUp(), now=9.0) == ["a#1 running->stopping not_ready", "0: stop a#1 5"]


def test_deadlines_count_anew_for_each_attempt() -> None:
    run = running(9.0, 9.0, retries=1)
    run(seen(0), now=8.0)
    run(WakeUp(), now=9.0)
    assert run(exited("a", signal=15), now=9.5) == ["a#1 stopping->waiting retry"]
    run(WakeUp(), now=10.5)
    run(started("a", attempt=2), now=10.5)
    assert run(seen(1, attempt=2)) == []  # the first entry must be true again


def test_strict_has_no_retry_after_a_missed_deadline() -> None:
    run = running(9.0, None, retries=3, is_final=True)
    run(WakeUp(), now=9.0)
    run(exited("a", signal=15), now=9.5)
    assert run.state("a") is TaskState.TIMEOUT
    assert run.run.outcome is Outcome.FAILED


def test_strict_has_no_restart_after_a_missed_deadline() -> None:
    run = running(9.0, None, is_final=True, restart=Restart())
    run(WakeUp(), now=9.0)
    run(exited("a", signal=15), now=9.5)
    assert run.state("a") is TaskState.TIMEOUT


# ---------------------------------------------------------------------- gangs


def test_a_log_entry_of_a_gang_watches_every_rank() -> None:
    probe = a_list(PORT, LINE)
    own = replace(probe.parts[1], checks=(LogCheck(pattern=LogPattern(pattern="up", count=1)),))
    (first,) = probes_of_rank((probe,), is_first=True, is_first_on_node=True, world_size=4)
    assert first.parts == (replace(first, also=first.also), own)
    assert [part.part for part in first.parts] == [0, 1]
    for on_node in (True, False):
        assert probes_of_rank((probe,), is_first=False, is_first_on_node=on_node, world_size=4) == (own,)
    assert ranks_needed((probe,), 4) == {1: 2}
    assert ranks_needed((probe,), 1) == {}


def gang(ranks: int = 3) -> Driver:
    run = Driver.joined(a_plan(a_task("a", ranks_per_node=(ranks,), probes=(a_list(PORT, LINE),))))
    run(*(started("a", rank_number=number) for number in range(ranks)))
    return run


def test_a_gang_is_ready_when_any_of_its_ranks_have_the_line() -> None:
    run = gang()
    assert run(seen(0)) == []
    assert run(seen(1, rank=2)) == []
    assert run(seen(1, rank=1))[0] == "a#1 running->ready ready"


def test_a_gang_cannot_become_ready_when_too_few_ranks_are_left_for_an_entry() -> None:
    run = gang()
    run(seen(0))
    run(seen(1, rank=0))
    assert run(exited("a", 3, rank_number=1)) == []
    assert run(exited("a", 3, rank_number=2)) == ["a#1 running->stopping exit", "0: stop a#1 5"]
