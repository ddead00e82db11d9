"""Deferred values are evaluated outside of the scheduler: what it does meanwhile, and with what comes back."""

import msgspec
import pytest

from protocol.messages.checks import LogCheck, LogPattern, Probe
from protocol.messages.orders import Lease, Spawn
from protocol.messages.rank_spec import Success
from sflow_ctl.core.commands import AnswerRequest, FinishRun, RenderTexts
from sflow_ctl.core.events import OperatorRequest, SchedulerEvent, StopRequested, TextsRendered
from sflow_ctl.core.rendering import MAX_AT_ONCE
from sflow_ctl.core.requests import StopTasks
from sflow_ctl.core.takeover import Recorded
from sflow_ctl.plan.deferred import DeferredValues, Evaluator, RenderedTexts
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import DeferredExpression, PlannedTask
from sflow_ctl.plan.parts.filled_size import MAX_FILLED
from sflow_ctl.plan.results import PlannedFile
from tests.unit.core.driver import Driver
from tests.unit.core.plans import HTTP, a_plan, a_task, hello, leased

EXPRESSION = "${{ 6 * 7 }}"


def late(name: str, *after: str, script: str = EXPRESSION, **fields: object) -> PlannedTask:
    """Return a task with a deferred expression."""
    task = a_task(name, *after, **fields)  # type: ignore[arg-type]
    deferred = (DeferredExpression(placeholder=EXPRESSION, names={}),)
    return msgspec.structs.replace(task, script=script, env={"ANSWER": EXPRESSION}, deferred=deferred)


def texts(name: str, *values: str, attempt: int = 1, problem: str = "") -> TextsRendered:
    found = None if problem else RenderedTexts(values=values)
    return TextsRendered(task=name, attempt=attempt, texts=found, problem=problem)


def manual(*tasks: PlannedTask) -> Driver:
    """Return a driver that leaves it to the test to answer."""
    driver = Driver(a_plan(*tasks))
    driver.renders = False
    driver(hello())
    return driver


def test_processes_are_ordered_once_the_values_are_known() -> None:
    run = manual(late("a"), a_task("b"))
    assert run.states("a", "b") == ["starting", "starting"]
    assert run.spawned() == ["b#1"]
    (order,) = run(texts("a", "42")).orders(Spawn)
    assert order.ranks[0].env["ANSWER"] == "42"
    assert run(texts("a", "43")) == []  # said twice


def test_a_value_that_cannot_be_evaluated_fails_its_task_alone() -> None:
    run = manual(late("a", on_failure="isolate"), a_task("b"))
    problem = "an expression computes too much: it takes more than 300000 steps"
    assert run(texts("a", problem=problem)).moves() == ["a failed"]
    assert run.why("a") == f"expression: {problem}"
    assert run.state("b") == "starting"


FAILS: dict[str, dict[str, object]] = {
    "script": {"script": f"echo {EXPRESSION}"},
    "variables.X": {"env": {"Y": "1", "X": EXPRESSION}},
    "operator": {"script": "true", "argv": ("bash", "-c", EXPRESSION)},
    "probes": {
        "probes": (Probe(kind="readiness", checks=(LogCheck(pattern=LogPattern(pattern=EXPRESSION)),)),)
    },
    "success": {"success": Success(require=(EXPRESSION,))},
    "files.f/g": {
        "deferred": (),
        "files": (PlannedFile(path="f/g", content=EXPRESSION, mode=0o644, names={}),),
    },
    "": {},  # nothing of it has the expression
}


@pytest.mark.parametrize(("field", "fields"), FAILS.items())
def test_an_expression_that_fails_names_its_field(field: str, fields: dict[str, object]) -> None:
    task = msgspec.structs.replace(late("a"), **{"env": {}, "script": "", **fields})
    plan = a_plan(task)

    def fails(_text: str, _names: object) -> str:
        raise ExpressionError("it fails")

    values = DeferredValues(plan, {}, lambda _: None, Evaluator(text=fails, template=fails, value=fails))
    with pytest.raises(ExpressionError) as error:
        values.rendered(task, {})
    assert error.value.field == field


@pytest.mark.parametrize(
    ("where", "field", "place"),
    [
        ("w.yaml:4:7  workflow.tasks[0]", "script", "; in w.yaml:4:7  workflow.tasks[0].script"),
        ("", "script", ""),
    ],
)
def test_the_reason_names_file_line_and_field(where: str, field: str, place: str) -> None:
    run = manual(msgspec.structs.replace(late("a", on_failure="isolate"), where=where), a_task("b"))
    run(msgspec.structs.replace(texts("a", problem="it fails"), field=field))
    assert run.why("a") == f"expression: it fails{place}"


def test_a_value_that_makes_an_order_too_large_fails_its_task_before_it_is_filled_in() -> None:
    run = manual(late("a", script=EXPRESSION * 1000, on_failure="isolate"), a_task("b"))
    run(texts("a", "x" * 1_000_000))
    assert run.state("a") == "failed"
    assert f"may have {MAX_FILLED}; the longest value has 1000000: {EXPRESSION}" in run.why("a")


def test_a_task_that_is_stopped_meanwhile_never_starts() -> None:
    run = manual(late("a", on_failure="continue"), a_task("b"))
    lines = run(OperatorRequest(id="r", by="op", action=StopTasks(tasks=("a",))))
    assert lines.of(AnswerRequest)
    assert run.state("a") == "cancelled"
    assert run(texts("a", "42")) == []
    assert not run.run.rendering


@pytest.mark.parametrize("answers", [True, False])
def test_a_run_that_is_stopped_meanwhile_ends_without_the_values(answers: bool) -> None:
    run = manual(late("a"))
    assert run(StopRequested(signal="SIGINT")).moves() == ["a cancelled"]
    if answers:
        run(texts("a", "42"))
    assert run.leave()


def test_ports_of_an_agent_that_is_restarted_meanwhile_are_leased_and_filled_in_anew() -> None:
    run = manual(late("a", ports=(HTTP,)))
    run(leased("a", 1, http=7))
    assert "a" in [run.run.tasks[index].plan.name for index in run.run.rendering]
    run(hello(0, "s2", incarnation=2))
    assert run(texts("a", "42")).orders(Lease)
    assert run(leased("a", 2, http=8)).of(RenderTexts) == [RenderTexts(task="a", attempt=1)]
    assert run(texts("a", "43")).orders(Spawn)[0].ranks[0].env["ANSWER"] == "43"


def test_so_many_tasks_are_rendered_at_once_and_no_other_task_waits_for_them() -> None:
    tasks = [late(f"t{number}") for number in range(MAX_AT_ONCE + 2)]
    run = manual(*tasks, a_task("last"))
    assert len(run.run.rendering) == MAX_AT_ONCE
    assert run.states(f"t{MAX_AT_ONCE}", "last") == ["queued", "starting"]
    assert run(texts("t0", "42")).of(RenderTexts) == [RenderTexts(task=f"t{MAX_AT_ONCE}", attempt=1)]


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_successor_has_the_values_evaluated_that_its_journal_does_not_have(is_answered: bool) -> None:
    plan = a_plan(late("a"))
    before = manual(late("a"))
    journal: list[tuple[float, SchedulerEvent]] = list(before.journal)
    if is_answered:  # the values are long, or secret
        journal.append((1.0, TextsRendered(task="a", attempt=1)))
    after = Driver(plan)
    again = after.rebuild(journal, Recorded(transitions=1)).again
    assert again == ([] if is_answered else [RenderTexts(task="a", attempt=1)])
    lines = after(texts("a", "42")) if not is_answered else after(hello(0, "s2"))
    assert lines.orders(Spawn)[0].ranks[0].env["ANSWER"] == "42"


def test_a_successor_continues_with_a_task_whose_values_are_secret() -> None:
    """They cannot be evaluated again, and its processes have had them."""
    secret = "${{ task.gone.outputs.x }}"
    task = msgspec.structs.replace(
        late("a"), env={"X": secret}, deferred=(DeferredExpression(placeholder=secret, names={}),)
    )
    before = Driver(a_plan(task))
    before.renders = False
    before(hello())
    after = Driver(a_plan(task))
    after.rebuild([*before.journal, (1.0, TextsRendered(task="a", attempt=1))], Recorded(transitions=1))
    assert after.state("a") == "starting"
    after.start("a")
    assert after.end("a").moves() == ["a completed"]
    assert after.leave() == FinishRun(outcome=after.run.outcome, cause=None)  # type: ignore[arg-type]
