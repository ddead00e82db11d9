"""What attempts continue from: which of them look for a checkpoint, and what follows from the answer."""

from typing import Any

import msgspec
import pytest

from protocol.messages.facts import CheckpointFound, InputsChecked, LaunchFailed
from protocol.messages.handover import CheckpointBase, CheckpointChoice, CheckpointRules, RecordedFile
from protocol.messages.orders import CheckInputs, FindCheckpoint, Spawn
from sflow_ctl.core.actions.resume import PriorResult
from sflow_ctl.core.commands import AbandonNode, RecordCheckpoint, Warn
from sflow_ctl.core.events import AgentLost, MessageReceived, OperatorRequest, StopRequested, WakeUp
from sflow_ctl.core.requests import RestartTasks
from sflow_ctl.core.states import TaskState
from sflow_ctl.core.takeover import Recorded
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.again import Retries
from tests.unit.core.driver import Driver
from tests.unit.core.plans import HTTP, a_plan, a_task, exited, hello, leased, rank, started

RULES = CheckpointRules(directory="checkpoints", argument="--resume")
FOUND = CheckpointChoice(
    rule="step", why="it has the highest step", path="/run/t/checkpoints/step_7.pt", step=7
)
NONE = CheckpointChoice(rule="none", why="there is no checkpoint")


def task(rules: CheckpointRules = RULES, **more: Any) -> PlannedTask:
    planned = a_task("t", **{"retries": 3, "interval_s": 0.0, **more})
    return msgspec.structs.replace(
        planned, checkpoint=rules, env={**planned.env, "SFLOW_TASK_OUTPUT_DIR": "/run/t"}
    )


def found(number: int, choice: CheckpointChoice = FOUND, node: int = 0) -> MessageReceived:
    return MessageReceived(
        node=node, message=CheckpointFound(attempt=rank("t", number).attempt, choice=choice)
    )


def failed_once(plan: Plan) -> Driver:
    """Return a run whose task has failed once, and whose next attempt has begun."""
    run = Driver(plan)
    run(hello(0))
    run(started("t"))
    run(exited("t", 1), WakeUp(), now=1.0)
    return run


def env_of(lines: Any) -> dict[str, str]:
    (order,) = lines.orders(Spawn)
    return dict(order.ranks[0].env)


def test_the_first_attempt_looks_for_nothing() -> None:
    run = Driver(a_plan(task()))
    lines = run(hello(0))
    assert not lines.orders(FindCheckpoint)
    env = env_of(lines)
    assert env["RESUME_FROM_CHECKPOINT"] == env["SFLOW_CHECKPOINT_STEP"] == ""
    assert env["SFLOW_CHECKPOINT_DIR"] == "/run/t/checkpoints"


def test_a_retry_starts_when_its_checkpoint_is_known() -> None:
    run = Driver(a_plan(task()))
    run(hello(0))
    run(started("t"))
    lines = run(exited("t", 1), WakeUp(), now=1.0)
    assert lines.orders(FindCheckpoint) == [
        FindCheckpoint(attempt=rank("t", 2).attempt, directory="/run/t", rules=RULES)
    ]
    assert not lines.orders(Spawn)
    lines = run(found(2), now=2.0)
    assert lines.of(RecordCheckpoint) == [RecordCheckpoint(task="t", attempt=2, choice=FOUND)]
    env = env_of(lines)
    assert (env["RESUME_FROM_CHECKPOINT"], env["SFLOW_CHECKPOINT_STEP"]) == (FOUND.path, "7")
    assert run(found(2), now=3.0) == []


def test_what_is_not_clear_fails_the_task_for_good() -> None:
    run = failed_once(a_plan(task()))
    choice = CheckpointChoice(rule="ambiguous", why="two", problem="which one is not clear", hint="say which")
    lines = run(found(2, choice), now=2.0)
    assert lines.of(RecordCheckpoint)
    failed = next(one for one in lines.transitions() if one.new is TaskState.FAILED)
    assert (failed.reason.word, failed.reason.text, failed.reason.hint) == (
        "input_error", "which one is not clear", "say which",
    )  # fmt: skip
    assert not lines.orders(Spawn)
    assert run.task("t").attempt.number == 2


def test_what_was_passed_over_is_a_warning() -> None:
    run = failed_once(a_plan(task()))
    choice = msgspec.structs.replace(FOUND, notes=("has no step and has not been looked at: last.pt",))
    lines = run(found(2, choice), now=2.0)
    assert [one.text for one in lines.of(Warn)] == [
        "t#2, its checkpoint: has no step and has not been looked at: last.pt"
    ]
    assert lines.of(RecordCheckpoint)


def test_only_named_kinds_of_attempts_continue() -> None:
    run = Driver(a_plan(task(msgspec.structs.replace(RULES, after=("rerun",)))))
    run(hello(0))
    run(started("t"))
    lines = run(exited("t", 1), WakeUp(), now=1.0)
    assert env_of(lines)["RESUME_FROM_CHECKPOINT"] == ""
    (record,) = lines.of(RecordCheckpoint)
    assert (record.choice.rule, record.choice.why) == ("ignored", "`resume.after` does not name retry")


def test_a_given_start_is_looked_for_by_the_first_attempt() -> None:
    run = Driver(a_plan(task(msgspec.structs.replace(RULES, start="/base.pt"))))
    (order,) = run(hello(0)).orders(FindCheckpoint)
    assert (order.attempt.number, order.base) == (1, CheckpointBase("/base.pt"))
    lines = run(found(1, CheckpointChoice(rule="start", why="it is given", path="/base.pt")), now=1.0)
    assert env_of(lines)["RESUME_FROM_CHECKPOINT"] == "/base.pt"
    assert lines.of(RecordCheckpoint)
    assert run.task("t").checkpoint_base is None
    run(started("t"))
    (order,) = run(exited("t", 1), WakeUp(), now=2.0).orders(FindCheckpoint)
    assert order.base is None


def test_a_resumed_run_continues_and_a_rerun_heeds_what_was_said() -> None:
    before = {"t": PriorResult(TaskState.FAILED, 4)}
    run = Driver(a_plan(task(msgspec.structs.replace(RULES, after=("resume",)))), earlier=before)
    (order,) = run(hello(0)).orders(FindCheckpoint)
    assert (order.attempt.number, order.base) == (5, None)
    said = CheckpointBase("step_3.pt")
    before = {"t": PriorResult(TaskState.FAILED, 4, is_rerun=True, checkpoint_base=said)}
    run = Driver(a_plan(task()), earlier=before)
    (order,) = run(hello(0)).orders(FindCheckpoint)
    assert order.base == said
    assert run(found(5, msgspec.structs.replace(FOUND, newest_ns=99)), now=1.0).of(RecordCheckpoint)
    assert run.task("t").checkpoint_base == CheckpointBase("step_3.pt", 99)
    run(started("t", 5))
    (order,) = run(exited("t", 1, 5), WakeUp(), now=2.0).orders(FindCheckpoint)
    assert (order.attempt.number, order.base) == (6, CheckpointBase("step_3.pt", 99))


def test_a_task_that_had_ended_and_is_started_again_is_a_rerun() -> None:
    rules = msgspec.structs.replace(RULES, after=("rerun",))
    plan = a_plan(task(rules, retries=0, on_failure="continue"), a_task("other"))
    run = Driver(plan)
    run(hello(0))
    run(started("t"))
    run(exited("t", 1), WakeUp(), now=1.0)
    lines = run(OperatorRequest(id="1", by="me", action=RestartTasks(tasks=("t",))), now=2.0)
    assert [one.attempt.number for one in lines.orders(FindCheckpoint)] == [2]
    assert list(lines)


@pytest.mark.parametrize("is_port_first", [True, False])
def test_ports_and_checkpoint_are_both_awaited(is_port_first: bool) -> None:
    run = Driver(a_plan(task(msgspec.structs.replace(RULES, start="/base.pt"), ports=(HTTP,))))
    assert len(run(hello(0)).orders(FindCheckpoint)) == 1
    answers = [leased("t", 1, http=7), found(1)]
    first, second = answers if is_port_first else reversed(answers)
    lines = run(first, now=1.0)
    assert len(lines.of(RecordCheckpoint)) == (not is_port_first)
    assert not lines.orders(Spawn)
    lines = run(second, now=2.0)
    assert len(lines.of(RecordCheckpoint)) == is_port_first
    assert env_of(lines)["SFLOW_PORT_HTTP"] == "7"


def test_a_stopped_run_waits_for_no_search() -> None:
    run = failed_once(a_plan(task()))
    lines = run(StopRequested(signal="SIGINT"), now=2.0)
    assert "t cancelled" in lines.moves()
    assert list(lines)
    assert run(found(2), now=3.0) == []
    assert run.scheduler.run.stale_messages == 1


def test_a_lost_node_ends_the_search() -> None:
    run = failed_once(a_plan(task(), nodes=2))
    lines = run(AgentLost(node=0, reason="silent"), now=2.0)
    assert "t waiting" in lines.moves() or "t lost" in lines.moves()
    assert list(lines)
    assert not run.scheduler.run.seekers()


def test_the_search_is_ordered_again_in_a_new_session() -> None:
    run = failed_once(a_plan(task()))
    lines = run(hello(0, session="2"), now=2.0)
    assert [one.attempt.number for one in lines.orders(FindCheckpoint)] == [2]
    assert run(found(2), now=3.0).of(RecordCheckpoint)
    assert not run(hello(0, session="3"), now=4.0).orders(FindCheckpoint)


def test_another_node_may_not_answer() -> None:
    run = failed_once(a_plan(task(), nodes=2))
    run(hello(1))
    assert run(found(2, node=1), now=2.0) == []
    assert run.scheduler.run.foreign_messages == 1
    assert run.task("t").attempt.is_seeking


def test_a_successor_makes_the_same_choice() -> None:
    run = failed_once(a_plan(task()))
    assert run(found(2), now=2.0).of(RecordCheckpoint)
    again = Driver(a_plan(task()))
    rebuilt = again.rebuild(run.journal, Recorded(transitions=100))
    assert [one for one in rebuilt.lost if isinstance(one, RecordCheckpoint)] == [
        RecordCheckpoint(task="t", attempt=2, choice=FOUND)
    ]
    assert again.task("t").attempt.checkpoint == FOUND


# ---------------------------------------------------------------------- nodes with other files

FILES = (RecordedFile(path=FOUND.path, bytes=5, mtime_ns=9, sha256="ab"),)


def moving(rules: CheckpointRules = RULES) -> PlannedTask:
    """A task that is started elsewhere after a fault of its node."""
    anywhere = Placement(nodes=(0, 1), is_flexible=True, node_count=1)
    retries = Retries(count=3, infra_count=3, interval_s=0.0, avoids_nodes=True)
    return msgspec.structs.replace(task(rules, placement=anywhere), retries=retries)


def on_another_node(*, was_shared: bool, is_shared: bool, plan: Plan | None = None) -> Driver:
    """Return a run whose task has failed on node 0, and whose second attempt has its place on node 1."""
    run = Driver(plan or a_plan(moving(), nodes=2))
    run(hello(0, shares_run_directory=was_shared))
    run(hello(1, "s2", shares_run_directory=is_shared))
    assert run.task("t").attempt.node == 0
    run(MessageReceived(node=0, message=LaunchFailed(rank=rank("t"), errno=2, reason="no such program")))
    run(WakeUp(), now=1.0)
    assert run.task("t").attempt.node == 1
    return run


def carried(number: int, node: int, files: tuple[RecordedFile, ...] = FILES) -> MessageReceived:
    message = CheckpointFound(attempt=rank("t", number).attempt, choice=FOUND, files=files)
    return MessageReceived(node=node, message=message)


@pytest.mark.parametrize(("was_shared", "is_shared"), [(False, True), (True, False), (False, False)])
def test_a_node_with_other_files_is_asked_and_they_are_carried(*, was_shared: bool, is_shared: bool) -> None:
    run = on_another_node(was_shared=was_shared, is_shared=is_shared)
    assert run.task("t").attempt.seeking_on == 0
    lines = run(carried(2, node=0), now=2.0)
    assert lines.of(RecordCheckpoint)
    (check,) = lines.orders(CheckInputs)
    assert [one.path for given in check.inputs for one in given.files] == [FOUND.path]
    assert not lines.orders(Spawn)
    lines = run(MessageReceived(node=1, message=InputsChecked(attempt=rank("t", 2).attempt)), now=3.0)
    assert env_of(lines)["RESUME_FROM_CHECKPOINT"] == FOUND.path


def test_nodes_with_the_same_files_are_not_asked_about_each_other() -> None:
    run = on_another_node(was_shared=True, is_shared=True)
    assert run.task("t").attempt.seeking_on == 1
    lines = run(found(2, node=1), now=2.0)
    assert lines.of(RecordCheckpoint)
    assert env_of(lines)["RESUME_FROM_CHECKPOINT"] == FOUND.path


def test_files_that_cannot_be_carried_are_an_error_not_a_fresh_start() -> None:
    run = on_another_node(was_shared=False, is_shared=True)
    problem = msgspec.structs.replace(FOUND, problem="its files have 12 GiB, and the limit is 10 GiB")
    assert run(found(2, problem, node=0), now=2.0).of(RecordCheckpoint)
    ended = run.task("t")
    assert (ended.state, ended.last_reason and ended.last_reason.word) == (TaskState.FAILED, "input_error")


def test_without_any_there_the_own_node_is_asked() -> None:
    strict = a_plan(moving(msgspec.structs.replace(RULES, must_exist=True)), nodes=2)
    run = on_another_node(was_shared=False, is_shared=True, plan=strict)
    (order,) = run(found(2, NONE, node=0), now=2.0).orders(FindCheckpoint)
    assert order.rules.must_exist
    assert not order.is_for_another
    assert run.task("t").attempt.seeking_on == 1


def test_a_node_that_is_lost_while_it_looks_is_passed_over() -> None:
    run = on_another_node(was_shared=False, is_shared=True)
    lines = run(AgentLost(node=0, reason="silent"), now=2.0)
    assert lines.of(AbandonNode)
    (order,) = lines.orders(FindCheckpoint)
    assert not order.is_for_another
    lines = run(found(2, NONE, node=1), now=3.0)
    assert lines.of(RecordCheckpoint)
    assert [one.text for one in lines.of(Warn) if "begins anew" in one.text]


def test_another_node_that_shares_answers_for_a_lost_one() -> None:
    plan = msgspec.structs.replace(
        moving(), placement=Placement(nodes=(0, 1), is_flexible=True, node_count=1)
    )
    run = Driver(a_plan(plan, nodes=3))
    run(hello(0), hello(1, "s2", shares_run_directory=False), hello(2, "s3"))
    run(started("t"))
    assert run(AgentLost(node=0, reason="silent"), now=2.0).of(AbandonNode)
    run.wake()
    assert (run.task("t").attempt.node, run.task("t").attempt.seeking_on) == (1, 2)


def test_a_resumed_run_asks_each_directory_because_earlier_places_are_not_known() -> None:
    run = Driver(a_plan(task(), nodes=4), earlier={"t": PriorResult(TaskState.FAILED, 3)})
    others = [hello(1, "s2"), hello(2, "s3", shares_run_directory=False), hello(3, "s4")]
    run(*others, hello(0, shares_run_directory=False))
    asked = []
    while run.task("t").attempt.is_seeking:
        asked.append(run.task("t").attempt.seeking_on)
        lines = run(found(4, NONE, node=asked[-1] or 0), now=1.0 + len(asked))
    assert lines.of(RecordCheckpoint)
    assert asked == [0, 1, 2]
