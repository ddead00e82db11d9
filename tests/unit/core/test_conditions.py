"""Tasks with conditions: what starts them, what skips them, and what a skip means for others and for the run."""

import msgspec
import pytest

from sflow_ctl.core.commands import RenderTexts
from sflow_ctl.core.events import OutputsCollected, SchedulerEvent, StopRequested, TextsRendered
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.core.takeover import Recorded
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.plan.results import PlannedOutput, PlannedWhen
from sflow_ctl.plan.words import OnFailure
from tests.unit.core.driver import Driver, replay
from tests.unit.core.plans import a_plan, a_task, cleared, exited, goodbye, hello

S = TaskState
SCORE = "${{ task.check.outputs.score > 0.9 }}"
WHEN = PlannedWhen(text=SCORE, operands=("task.check.outputs.score",))
NEVER = PlannedWhen(text="false", value=False)


def on(task: PlannedTask, when: PlannedWhen = WHEN) -> PlannedTask:
    return msgspec.structs.replace(task, when=when)


def settled(task: PlannedTask, *names: str) -> PlannedTask:
    return msgspec.structs.replace(
        task, depends_on=tuple(Dependency(task=name, until="settled") for name in names)
    )


def plan(*others: PlannedTask) -> Plan:
    check = msgspec.structs.replace(a_task("check"), outputs=(PlannedOutput(pattern="score {score:g}"),))
    whole = a_plan(check, on(a_task("deploy", "check")), *others)
    return msgspec.structs.replace(whole, task_views={"check": {}})


def checked(score: float, *others: PlannedTask) -> Driver:
    """A run whose task check has completed with this score."""
    run = Driver.joined(plan(*others))
    run.start("check")
    list(run(exited("check")))
    list(run(OutputsCollected(task="check", attempt=1, values={"score": score})))
    return run


def decided(holds: bool, problem: str = "") -> TextsRendered:
    return TextsRendered(task="deploy", attempt=0, what="when", holds=holds, problem=problem)


def test_a_task_runs_when_its_condition_holds() -> None:
    run = checked(0.95)
    assert run.state("deploy") is S.STARTING
    assert run.spawned()[-1] == "deploy#1"


def test_a_task_is_skipped_with_the_values_of_its_condition() -> None:
    run = checked(0.3)
    assert run.state("deploy") is S.SKIPPED
    assert run.why("deploy") == (
        "when: its condition ${{ task.check.outputs.score > 0.9 }} is false: task.check.outputs.score is 0.3"
    )
    list(run(cleared("check"), goodbye()))
    assert run.run.outcome is Outcome.COMPLETED


def test_a_condition_that_is_not_a_boolean_is_an_error_of_its_task() -> None:
    number = PlannedWhen(text="${{ task.check.outputs.score }}")
    run = Driver.joined(plan(on(a_task("other", "check"), number)))
    run.start("check")
    list(run(exited("check")))
    list(run(OutputsCollected(task="check", attempt=1, values={"score": 0.95})))
    assert run.state("other") is S.FAILED
    assert run.why("other").startswith(
        "expression: its condition `when` must be true or false, is float 0.95"
    )


def test_what_needs_a_skipped_task_is_skipped_with_another_word() -> None:
    run = checked(0.3, a_task("after", "deploy"), a_task("last", "after"))
    assert run.states("deploy", "after", "last") == [S.SKIPPED] * 3
    assert run.why("after") == "upstream_skipped: needs deploy, which is skipped"
    assert run.why("last") == "upstream_skipped: needs after, which is skipped"


def test_an_edge_may_take_a_skip_as_an_end() -> None:
    run = checked(0.3, settled(a_task("after"), "deploy"))
    assert run.state("after") is S.STARTING


def test_settled_also_waits_for_a_task_that_runs() -> None:
    run = checked(0.95, settled(a_task("after"), "deploy"))
    assert run.state("after") is S.WAITING
    run.start("deploy")
    run.end("deploy")
    assert run.state("after") is S.STARTING


@pytest.mark.parametrize(("on_failure", "state"), [("continue", S.STARTING), ("isolate", S.SKIPPED)])
def test_settled_is_a_failure_only_where_that_does_not_count(on_failure: str, state: TaskState) -> None:
    first = a_task("a", on_failure=on_failure)  # type: ignore[arg-type]
    run = Driver.joined(a_plan(first, settled(a_task("b"), "a")))
    run.start("a")
    list(run(exited("a", 1), cleared("a")))
    assert run.state("b") is state
    if state is S.SKIPPED:
        assert run.why("b") == "upstream: needs a, which is failed"


def test_a_condition_that_is_known_to_be_false_is_not_evaluated() -> None:
    run = Driver.joined(a_plan(on(a_task("a"), NEVER), a_task("b")))
    assert run.states("a", "b") == [S.SKIPPED, S.STARTING]
    assert run.why("a") == "when: its condition false is false"


def test_a_main_task_may_be_skipped_by_its_condition() -> None:
    run = Driver.joined(a_plan(on(a_task("a", is_main=True), NEVER)))
    assert run.run.outcome is Outcome.COMPLETED


def test_a_task_that_is_tried_again_is_not_decided_again() -> None:
    run = Driver.joined(plan(on(a_task("again", "check", retries=1))))
    run.start("check")
    list(run(exited("check")))
    list(run(OutputsCollected(task="check", attempt=1, values={"score": 0.95})))
    run.start("again")
    list(run(exited("again", 1), cleared("again")))
    lines = run.wake()
    assert not lines.of(RenderTexts)
    assert run.spawned()[-1] == "again#2"


def manual() -> Driver:
    """A run whose task deploy waits for its condition."""
    run = Driver(plan())
    run.renders = False
    list(run(hello()))
    run.start("check")
    list(run(exited("check")))
    lines = run(OutputsCollected(task="check", attempt=1, values={"score": 0.3}))
    assert lines.of(RenderTexts) == [RenderTexts(task="deploy", attempt=0, what="when")]
    list(lines)
    return run


def test_a_run_that_stops_waits_for_no_condition() -> None:
    run = manual()
    list(run(StopRequested(signal="SIGINT")))
    assert run.state("deploy") is S.CANCELLED
    assert run(decided(True)) == []


def test_an_answer_that_comes_twice_counts_once() -> None:
    run = manual()
    assert "deploy starting" in run(decided(True)).moves()
    assert run(decided(False)) == []


def test_a_successor_has_the_condition_evaluated_again() -> None:
    run = manual()
    again = Driver(plan())
    again.renders = False
    rebuilt = again.rebuild(run.journal, Recorded(transitions=100))
    assert RenderTexts(task="deploy", attempt=0, what="when") in rebuilt.again
    assert "deploy skipped" in again(decided(False)).moves()


def test_a_journal_with_conditions_replays() -> None:
    run = checked(0.3, a_task("after", "deploy"))
    list(run(cleared("check"), goodbye()))
    events: list[tuple[float, SchedulerEvent]] = run.journal
    assert replay(run.run.plan, events) == run.commands


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_a_condition_is_evaluated_although_the_run_ends(policy: OnFailure) -> None:
    notify = msgspec.structs.replace(
        on(a_task("notify")), depends_on=(Dependency(task="fails", until="failed"),)
    )
    run = checked(0.3, a_task("fails", on_failure=policy), notify)
    run.start("fails")
    run.renders = False
    assert run(exited("fails", 1)).of(RenderTexts) == [RenderTexts(task="notify", attempt=0, what="when")]
    assert run.state("notify") is S.QUEUED, "it is not over before that is known"
    list(run(msgspec.structs.replace(decided(holds=True), task="notify")))
    assert run.state("notify") is S.STARTING
