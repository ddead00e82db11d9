"""Outputs hold the exit of a task that has succeeded; inputs are checked before an attempt's processes are ordered."""

from typing import Any

import msgspec
import pytest

from protocol.ids import AttemptId
from protocol.messages.facts import InputsChecked, OutputsFound
from protocol.messages.handover import (
    ATTEMPT_MARK,
    ExpectedFile,
    FileSelection,
    FoundOutput,
    OutputRule,
    RecordedFile,
)
from protocol.messages.orders import CheckInputs, FindOutputs, Spawn
from protocol.messages.rank_spec import TaskFile
from sflow_ctl.core.actions.resume import PriorResult
from sflow_ctl.core.commands import CollectOutputs, Warn
from sflow_ctl.core.events import AgentLost, MessageReceived, OutputsCollected, StopRequested
from sflow_ctl.core.states import TaskState
from sflow_ctl.core.takeover import Recorded
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.cells import PlannedForeach, PlannedItem
from sflow_ctl.plan.results import InputSource, PlannedInput
from tests.unit.core.driver import Driver, replay
from tests.unit.core.plans import a_plan, a_task, cleared, exited, goodbye, hello

S = TaskState
RULE = OutputRule(name="ckpt", kind="file", selection=FileSelection(globs=("*.pt",)))
FILE = RecordedFile(path="/run/a/x.pt", bytes=3, mtime_ns=9, sha256="ab")
FOUND = FoundOutput(name="ckpt", kind="file", path=FILE.path, files=(FILE,), count=1, bytes=3, sha256="ab")
SOURCE = InputSource(text="a.outputs.ckpt", tasks=("a",), output="ckpt")
INPUT = PlannedInput(name="ckpt", variable="CKPT", sources=(SOURCE,), type="path")


def giving(task: PlannedTask, *rules: OutputRule) -> PlannedTask:
    env = {**task.env, "SFLOW_WORKFLOW_OUTPUT_DIR": "/run"}
    return msgspec.structs.replace(task, found=rules or (RULE,), env=env)


def taking(task: PlannedTask, *inputs: PlannedInput) -> PlannedTask:
    env = {**task.env, "SFLOW_WORKFLOW_OUTPUT_DIR": "/run"}
    return msgspec.structs.replace(task, inputs=inputs or (INPUT,), env=env)


def found(
    task: str, *outputs: FoundOutput, node: int = 0, attempt: int = 1, **problem: Any
) -> MessageReceived:
    answer = OutputsFound(attempt=AttemptId(task, attempt), outputs=outputs, **problem)
    return MessageReceived(node=node, message=answer)


def checked(task: str, problem: str = "", node: int = 0, attempt: int = 1, hint: str = "") -> MessageReceived:
    answer = InputsChecked(attempt=AttemptId(task, attempt), problem=problem, hint=hint)
    return MessageReceived(node=node, message=answer)


def collected(task: str = "a", attempt: int = 1, **values: Any) -> OutputsCollected:
    return OutputsCollected(task=task, attempt=attempt, values=values or {"ckpt": FILE.path})


def plan(nodes: int = 1, **fields: Any) -> Plan:
    """A task a with an output, and b, which is given it."""
    return a_plan(giving(a_task("a", **fields)), taking(a_task("b", "a")), nodes=nodes)


def ended(**fields: Any) -> Driver:
    """A run whose task a has exited."""
    run = Driver.joined(plan(**fields))
    run.start("a")
    assert run(exited("a")) == ["0: find the outputs of a#1"]
    return run


def handed() -> Driver:
    """A run whose task b has begun, and whose input is checked."""
    run = ended()
    list(run(found("a", FOUND)))
    assert "0: check the inputs of b#1" in list(run(collected()))
    return run


# ---------------------------------------------------------------------- outputs


def test_the_exit_counts_when_outputs_are_found_and_recorded() -> None:
    run = ended()
    assert run.state("a") is S.RUNNING
    (order,) = [one for _, one in run.orders() if isinstance(one, FindOutputs)]
    assert order == FindOutputs(attempt=AttemptId("a", 1), written_by=1, directory="/run/a", rules=(RULE,))
    assert run(found("a", FOUND)).of(CollectOutputs) == [CollectOutputs(task="a", attempt=1)]
    assert run.run.found == {"a": {"ckpt": FOUND}}
    assert "a completed" in run(collected()).moves()


def test_the_start_of_an_attempt_is_dated_by_a_file_of_its_first_rank() -> None:
    run = Driver.joined(plan())
    (order,) = [one for _, one in run.orders() if isinstance(one, Spawn)]
    mark = TaskFile(path=ATTEMPT_MARK, content="1\n", is_in_task_directory=True)
    assert order.ranks[0].files == (mark,)
    assert order.ranks[0].env["SFLOW_OUTPUTS_FILE"] == "/run/a/.sflow_outputs.json"


@pytest.mark.parametrize(("is_missing", "word"), [(True, "output_missing"), (False, "output_error")])
def test_a_problem_with_an_output_fails_the_task(is_missing: bool, word: str) -> None:
    run = ended()
    lines = run(found("a", problem="its output ckpt is missing", hint="write it", is_missing=is_missing))
    assert "a failed" in lines.moves()
    assert run.why("a") == f"{word}: its output ckpt is missing"
    assert list(lines)


def test_a_task_without_its_output_is_tried_again() -> None:
    run = ended(retries=1)
    assert "a waiting" in run(found("a", problem="it is missing", is_missing=True), cleared("a")).moves()
    list(run.wake())
    run.start("a")
    assert run(exited("a", attempt=2)) == ["0: find the outputs of a#2"]
    assert run(found("a", FOUND, attempt=1)) == [], "of the first attempt"


def test_a_failed_task_has_no_outputs() -> None:
    run = Driver.joined(plan())
    run.start("a")
    lines = run(exited("a", 1))
    assert not lines.orders(FindOutputs)
    assert "a failed" in lines.moves()
    assert list(lines)


def test_what_a_reader_would_not_expect_is_warned_of() -> None:
    run = ended()
    odd = msgspec.structs.replace(FOUND, notes=("is older than the attempt: y.pt",))
    gone = FoundOutput(
        name="n", kind="param", value=3, why="it is not there", is_missing=True, is_default=True
    )
    lines = run(found("a", odd, gone))
    assert [one.text for one in lines.of(Warn)] == [
        "a#1, its output ckpt: what is older than the attempt: y.pt",
        "a#1: it is not there; its default is used",
    ]
    assert list(lines)


def test_the_search_is_repeated_in_a_new_session_until_it_is_answered() -> None:
    run = ended()
    assert len(run(hello(0, "s2")).orders(FindOutputs)) == 1
    list(run(found("a", FOUND)))
    assert not run(hello(0, "s3")).orders(FindOutputs)


def test_outputs_on_a_lost_node_are_lost() -> None:
    run = ended(nodes=2, placement=Placement(nodes=(0,)))
    list(run(AgentLost(node=0, reason="silent")))
    assert run.state("a") is S.LOST
    assert run.why("a") == "node_lost: node localhost-0 was lost before the outputs of the task were found"
    assert not run.run.handovers()


def test_a_forced_end_waits_for_no_search() -> None:
    run = ended()
    list(run(StopRequested(signal="SIGINT")))
    list(run(StopRequested(signal="SIGINT", force=True)))
    assert run.state("a") is S.COMPLETED
    list(run(found("a", FOUND)))
    assert run.run.stale_messages == 1


def test_another_node_may_not_answer_for_outputs() -> None:
    run = ended(nodes=2, placement=Placement(nodes=(0,)))
    assert run(found("a", FOUND, node=1)) == []
    assert run.run.foreign_messages == 1
    assert run.task("a").attempt.finding_on == 0


# ---------------------------------------------------------------------- inputs


def test_processes_are_ordered_when_the_inputs_are_as_they_were() -> None:
    run = handed()
    (order,) = [one for _, one in run.orders() if isinstance(one, CheckInputs)]
    (given,) = order.inputs
    assert (given.name, given.source) == ("ckpt", "a.outputs.ckpt")
    assert given.files == (ExpectedFile(path=FILE.path, bytes=3, mtime_ns=9, sha256="ab"),)
    assert run.states("a", "b") == [S.COMPLETED, S.STARTING]
    (spawn,) = run(checked("b")).orders(Spawn)
    assert spawn.ranks[0].env["CKPT"] == FILE.path
    assert [one.path for one in spawn.ranks[0].files] == [".sflow_inputs.json"]


def test_a_changed_input_fails_the_task_for_good() -> None:
    run = handed()
    lines = run(checked("b", "its input ckpt has changed", hint="run a again"))
    assert "b failed" in lines.moves()
    assert run.why("b") == "input_error: its input ckpt has changed"
    assert run.task("b").last_reason is not None
    assert run.task("b").last_reason.hint == "run a again"  # type: ignore[union-attr]
    assert not lines.orders(Spawn)
    assert list(lines)


def test_every_node_of_an_attempt_checks() -> None:
    both = a_task("b", "a", placement=Placement(nodes=(0, 1)), ranks_per_node=(1, 1))
    run = Driver.joined(
        a_plan(giving(a_task("a", placement=Placement(nodes=(0,)))), taking(both), nodes=2), 0, 1
    )
    run.start("a")
    list(run(exited("a")))
    list(run(found("a", FOUND)))
    assert [node for node, one in _checks(run(collected()), run)] == [0, 1]
    assert run(checked("b", node=1)) == []
    assert len(run(checked("b", node=0)).orders(Spawn)) == 2


def _checks(lines: Any, run: Driver) -> list[tuple[int, CheckInputs]]:
    list(lines)
    return [(node, one) for node, one in run.orders() if isinstance(one, CheckInputs)]


def test_the_check_is_repeated_in_a_new_session() -> None:
    run = handed()
    assert len(run(hello(0, "s2")).orders(CheckInputs)) == 1
    assert run(checked("b")).orders(Spawn)
    assert not run(hello(0, "s3")).orders(CheckInputs)


def test_a_run_that_stops_waits_for_no_check() -> None:
    run = handed()
    assert "b cancelled" in run(StopRequested(signal="SIGINT")).moves()
    assert run(checked("b")) == []
    assert not run.run.handovers()


def test_a_missing_input_is_an_input_error_of_its_task() -> None:
    run = ended()
    gone = FoundOutput(name="ckpt", kind="file", is_missing=True)
    list(run(found("a", gone)))
    list(run(OutputsCollected(task="a", attempt=1, values={})))
    assert run.why("b") == 'input_error: its input "ckpt" has no value: a.outputs.ckpt is missing'


def test_inputs_without_files_need_no_check() -> None:
    number = PlannedInput(name="n", variable="INPUT_N", value=3)
    run = Driver.joined(a_plan(taking(a_task("b"), number)))
    (spawn,) = [one for _, one in run.orders() if isinstance(one, Spawn)]
    assert spawn.ranks[0].env["INPUT_N"] == "3"


# ---------------------------------------------------------------------- later controllers


def test_a_journal_with_outputs_and_inputs_replays() -> None:
    run = handed()
    list(run(checked("b")))
    run.start("b")
    run.end("b")
    list(run(cleared("b"), goodbye()))
    again = replay(run.run.plan, run.journal)
    assert again == run.commands


def test_a_successor_asks_again_for_outputs_that_were_not_found() -> None:
    run = ended()
    again = Driver(plan())
    again.rebuild(run.journal, Recorded(transitions=100))
    assert again.task("a").attempt.finding_on == 0
    assert len(again(hello(0, "s2")).orders(FindOutputs)) == 1


def test_a_resumed_run_finds_what_was_left_and_runs_nothing_for_it() -> None:
    prior = PriorResult(S.RUNNING, 1, is_done=True, exit_code=0, has_outputs_left=True)
    run = Driver(plan(), earlier={"a": prior})
    (order,) = run(hello()).orders(FindOutputs)
    assert (order.attempt, order.written_by) == (AttemptId("a", 2), 1)
    assert run(found("a", FOUND, attempt=2)).of(CollectOutputs) == [CollectOutputs(task="a", attempt=2)]
    assert "a completed" in run(collected(attempt=2)).moves()
    list(run(checked("b")))
    assert run.spawned() == ["b#1"]


def test_a_resumed_run_has_the_records_of_kept_tasks() -> None:
    prior = PriorResult(S.COMPLETED, 1, is_done=True, outputs={"ckpt": FILE.path}, found=(FOUND,))
    run = Driver(plan(), earlier={"a": prior})
    (order,) = run(hello()).orders(CheckInputs)
    assert order.inputs[0].files[0].sha256 == "ab"


# ---------------------------------------------------------------------- several items at once


def chunk() -> PlannedTask:
    item = PlannedItem(value=["x", "y", "z"], positions=(0, 1, 2))
    rule = OutputRule(name="n", kind="param")
    task = giving(a_task("a", on_failure="isolate"), rule)
    return msgspec.structs.replace(task, foreach=PlannedForeach(chunk=3), item=item)


@pytest.mark.parametrize(("lacking", "done"), [((1,), 2), ((0, 1, 2), 0)])
def test_results_of_a_failed_chunk_are_kept_item_by_item(lacking: tuple[int, ...], done: int) -> None:
    run = Driver.joined(a_plan(chunk()))
    run.start("a")
    run(exited("a", code=1))
    (order,) = [one for _, one in run.orders() if isinstance(one, FindOutputs)]
    assert (order.items, order.has_failed) == ((0, 1, 2), True)
    values = [None if index in lacking else index for index in range(3)]
    lines = run(found("a", FoundOutput(name="n", kind="param", value=values, lacking=lacking)))
    if done:
        assert lines.of(CollectOutputs) == [CollectOutputs(task="a", attempt=1)]
        lines = run(collected(n=values))
        assert run.run.outputs == {"a": {"n": values}}
    assert "a failed" in lines.moves()
    assert (f"{done} of its 3 items have outputs" in run.why("a")) == bool(done)
    assert bool(run.run.found) == bool(done)


def test_a_failed_chunk_without_outputs_fails_as_its_exit_says() -> None:
    run = Driver.joined(a_plan(chunk()))
    run.start("a")
    run(exited("a", code=1))
    lines = run(found("a", problem="its output n is missing", is_missing=True))
    assert "a failed" in lines.moves()
    assert "exit status 1" in run.why("a")
    assert not run.run.found
