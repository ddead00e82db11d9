"""When an exit counts: after its log and its outputs have arrived, for exits in facts and in hellos."""

import msgspec

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import RankExited, SideCommandEnded
from sflow_ctl.core.actions.exit_gate import LOG_WAIT_S
from sflow_ctl.core.events import (
    AgentJoined,
    LogArrived,
    MessageReceived,
    OutputsCollected,
    StopRequested,
    WakeUp,
)
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from sflow_ctl.plan.results import PlannedOutput
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, hello, rank, started

S = TaskState
RATE = PlannedOutput(pattern="rate = {rate:g}")
VALUES = OutputsCollected(task="a", attempt=1, values={"rate": 5.5})


def with_outputs(task: PlannedTask) -> PlannedTask:
    return msgspec.structs.replace(task, outputs=(RATE,))


def with_log(event: MessageReceived) -> MessageReceived:
    assert isinstance(event.message, RankExited)
    return msgspec.structs.replace(event, message=msgspec.structs.replace(event.message, log_bytes=9))


def elsewhere(event: AgentJoined) -> AgentJoined:
    """The node does not share the run directory."""
    return msgspec.structs.replace(
        event, hello=msgspec.structs.replace(event.hello, shares_run_directory=False)
    )


def test_an_exit_counts_when_the_outputs_are_collected() -> None:
    run = Driver(a_plan(with_outputs(a_task("a")), a_task("b", "a")))
    run(hello(), started("a"))
    assert run(exited("a")) == ["collect outputs of a#1"]
    assert run(VALUES).moves() == ["a completed", "b queued", "b starting"]
    assert run.run.outputs == {"a": {"rate": 5.5}}


def test_r1_an_exit_in_a_hello_has_its_outputs_collected() -> None:
    run = Driver(a_plan(with_outputs(a_task("a")), a_task("b", "a")))
    run(hello(), started("a"))
    message = exited("a").message
    assert isinstance(message, RankExited)
    again = hello(0, "s2", exited=(message,))
    assert run(again)[1:] == ["collect outputs of a#1"]
    assert run(exited("a")) == [], "the same exit, as a fact"
    assert "b starting" in run(VALUES).moves()
    assert run.run.outputs["a"] == {"rate": 5.5}


def test_r1_an_agent_that_has_forgotten_an_acknowledged_exit_does_not_lose_the_task() -> None:
    for is_cleared in (True, False):
        run = Driver(a_plan(with_outputs(a_task("a")), a_task("b", "a")))
        run(hello(), started("a"))
        assert run(exited("a", cleared=is_cleared)) == ["collect outputs of a#1"]
        assert run(hello(0, "s2")).moves() == []
        assert run(hello(0, "s3", incarnation=2)).moves() == [], "nor one that was restarted"
        assert run(VALUES).moves()[0] == "a completed"


def test_a_streamed_log_is_waited_for_before_the_outputs_are_read() -> None:
    run = Driver(a_plan(with_outputs(a_task("a"))))
    run(elsewhere(hello()), started("a"))
    assert run(with_log(exited("a"))) == ["await log of a#1"]
    assert run(LogArrived(rank=rank("a"))) == ["collect outputs of a#1"]
    assert run(LogArrived(rank=rank("a"))) == [], "said again"
    assert "a completed" in run(VALUES).moves()


def test_a_log_that_does_not_arrive_is_waited_for_within_a_limit() -> None:
    run = Driver(a_plan(a_task("a"), a_task("b", "a")))
    run(elsewhere(hello()), started("a"))
    assert run(with_log(exited("a"))) == ["await log of a#1"]
    assert run(WakeUp(), now=LOG_WAIT_S - 0.1) == []
    commands = run(WakeUp(), now=LOG_WAIT_S)
    assert commands[0] == "warn: a#1: its log did not arrive completely within 30 s"
    assert commands.moves() == ["a completed", "b queued", "b starting"]


def test_an_exit_is_known_when_its_node_is_lost_meanwhile() -> None:
    run = Driver(a_plan(a_task("a"), a_task("b", "a", placement=Placement(nodes=(1,))), nodes=2))
    run(elsewhere(hello()), hello(1, "s2"), started("a"))
    assert run(with_log(exited("a", cleared=False))) == ["await log of a#1"]
    assert run.lose(0, "silent").moves()[0] == "a completed"


def test_a_task_whose_exit_waits_to_count_is_not_stopped_any_more() -> None:
    timed = msgspec.structs.replace(with_outputs(a_task("a")), timeout_s=5.0)
    run = Driver(a_plan(timed))
    run(hello(), started("a"))
    assert run(exited("a")) == ["collect outputs of a#1"]
    assert run(WakeUp(), now=5.0) == []
    assert run(StopRequested(signal="SIGINT"), now=6.0) == []
    assert run(VALUES, now=7.0).moves() == ["a completed"]
    assert run.run.outcome is Outcome.INTERRUPTED


def test_a_forced_end_waits_for_no_log_and_no_outputs() -> None:
    for reported, waits in ((exited("a"), "collect outputs"), (with_log(exited("a")), "await log")):
        run = Driver(a_plan(with_outputs(a_task("a"))))
        run(elsewhere(hello()), started("a"))
        assert run(reported) == [f"{waits} of a#1"]
        assert run(StopRequested(signal="SIGINT", force=True)).moves() == ["a completed"]


def test_r21_outputs_of_a_gang_are_read_once_when_its_last_rank_has_exited() -> None:
    ranks = 48
    run = Driver(a_plan(with_outputs(a_task("a", ranks_per_node=(ranks,)))))
    run(hello(), *(started("a", rank_number=number) for number in range(ranks)))
    exits = [with_log(exited("a", rank_number=number)) for number in range(ranks)]
    assert run(*exits) == [f"await log of {rank('a', 1, number)}" for number in range(ranks)]
    logs = [LogArrived(rank=rank("a", 1, number)) for number in range(ranks)]
    assert run(*logs) == ["collect outputs of a#1"]
    assert "a completed" in run(VALUES).moves()


def test_a_failed_attempt_has_no_outputs_to_collect() -> None:
    run = Driver(a_plan(with_outputs(a_task("a"))))
    run(hello(), started("a"))
    assert run(exited("a", 3)).moves() == ["a failed"]


def test_values_of_another_attempt_are_counted_as_stale() -> None:
    run = Driver(a_plan(with_outputs(a_task("a"))))
    run(hello(), started("a"))
    for task, attempt in (("a", 7), ("none", 1)):
        assert run(OutputsCollected(task=task, attempt=attempt, values={"rate": 1})) == []
    assert run.run.stale_messages == 2
    assert run.run.outputs == {}


def test_names_that_the_plan_does_not_have_are_counted() -> None:
    run = Driver(a_plan(a_task("a")))
    run(hello())
    foreign = RankId(AttemptId("../../x", 1), 0)
    facts = (
        RankExited(rank=foreign, exit_code=0, log_bytes=5),
        SideCommandEnded(rank=foreign, purpose="stop", output=b"", problem=""),
    )
    for fact in facts:
        assert run(MessageReceived(node=0, message=fact)) == []
    assert run(LogArrived(rank=foreign)) == []
    assert run.run.foreign_messages == 1


def test_public_n5_a_dependant_has_the_reason_of_a_missing_output() -> None:
    from sflow_ctl.plan.deferred import _described

    problems = {"a": ["m.csv: no column step, there are x"], "b": []}
    said = _described({"a": {}, "b": {"rate": 1}}, problems)
    assert said == "outputs of a: none (m.csv: no column step, there are x); outputs of b: rate"
    assert _described({}, {}) == "no task has outputs"
