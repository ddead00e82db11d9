"""Tasks whose list of items becomes known while the run continues: the plan grows, once, and in a replay in the same way."""

from typing import Any

import msgspec
import pytest

from sflow_ctl.core.commands import ReviseRun
from sflow_ctl.core.events import OutputsCollected, TextsRendered
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.core.takeover import Recorded
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.plan.parts.again import Quorum
from sflow_ctl.plan.parts.cells import LateItems, PlannedForeach
from sflow_ctl.plan.results import InputSource, PlannedInput, PlannedOutput, PlannedWhen
from sflow_ctl.plan.revisions.growing import grown_like, items_in, with_items
from sflow_ctl.plan.words import OnFailure
from tests.unit.core.driver import Driver, replay
from tests.unit.core.plans import a_plan, a_task, cleared, exited, goodbye

S = TaskState
NAMES = "${{ task.list.outputs.names }}"
VALUES = (PlannedOutput(pattern="{n}"),)


def late(name: str, *depends_on: str, items: Any = NAMES, **fields: Any) -> PlannedTask:
    """A task that stands for copies."""
    of_list = {
        key: fields.pop(key) for key in ("max_items", "fails_if_empty", "waits_for_when") if key in fields
    }
    of_foreach = {key: fields.pop(key) for key in ("max_parallel", "collect") if key in fields}
    foreach = PlannedForeach(late=LateItems(items=items, **{"max_items": 10, **of_list}), **of_foreach)
    task = a_task(name, *depends_on, base=name, on_failure="isolate")
    return msgspec.structs.replace(task, foreach=foreach, is_replicated=True, outputs=VALUES, **fields)


def after(name: str, *groups: str, until: Any = "completed") -> PlannedTask:
    depends_on = tuple(Dependency(task=one, until=until, is_group=True) for one in groups)
    return msgspec.structs.replace(a_task(name), depends_on=depends_on)


def plan(*tasks: PlannedTask) -> Plan:
    lister = msgspec.structs.replace(a_task("list"), outputs=VALUES)
    views: dict[str, object] = {task.name: [task.name] if task.foreach else {} for task in (lister, *tasks)}
    return msgspec.structs.replace(a_plan(lister, *tasks), task_views=views)


def grown(names: Any, *tasks: PlannedTask) -> Driver:
    """A run whose list has completed with these names."""
    run = Driver.joined(plan(*tasks))
    run.start("list")
    list(run(exited("list")))
    return finish(run, "list", {"names": names})


def finish(run: Driver, task: str, values: dict[str, Any]) -> Driver:
    run(OutputsCollected(task=task, attempt=1, values=values)).of(ReviseRun)
    return run


def complete(run: Driver, *tasks: str) -> None:
    for task in tasks:
        run.start(task)
        list(run(exited(task)))
        finish(run, task, {"n": task})


def test_the_plan_grows_by_a_copy_for_each_item() -> None:
    run = grown(["a", "b"], late("each", "list"), after("last", "each"))
    assert run.state("each") is S.COMPLETED
    assert run.why("each") == "expanded: each has 2 items"
    assert [task.plan.name for task in run.run.tasks] == ["list", "each", "last", "each_0", "each_1"]
    assert run.run.plan.revision == 2
    assert items_in(run.run.plan, "each") == ["a", "b"]
    assert run.spawned()[-2:] == ["each_0#1", "each_1#1"]
    assert run.run.task_named("each_1").plan.environment.get("SFLOW_ITEM", "b") == "b"


def test_what_depends_on_the_task_waits_for_all_copies() -> None:
    run = grown(["a", "b"], late("each", "list"), after("last", "each"))
    complete(run, "each_0")
    assert run.state("last") is S.WAITING
    complete(run, "each_1")
    assert run.state("last") is S.STARTING


def test_nothing_runs_for_an_empty_list_and_dependants_run() -> None:
    run = grown([], late("each", "list"), after("last", "each"))
    assert run.why("each") == "expanded: each has 0 items"
    assert run.state("last") is S.STARTING
    complete(run, "last")
    list(run(cleared("list"), cleared("last"), goodbye()))
    assert run.run.outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("names", "fields", "problem"),
    [
        (5, {}, "its items must be a list, are int 5"),
        ({"a": [1]}, {}, "its items must be a list, are str"),
        ([1, 2, 3], {"max_items": 2}, "3 items are more than its max_items, 2"),
        ([], {"fails_if_empty": True}, "its list has no items, and on_empty is fail"),
        ([1], {"quorum": Quorum(needed=1, min_count=3)}, "3 copies must complete, and its list has 1 items"),
    ],
)
def test_a_list_that_cannot_be_is_an_error_of_its_task(names: Any, fields: Any, problem: str) -> None:
    run = grown(names, late("each", "list", **fields), after("last", "each"))
    assert run.state("each") is S.FAILED
    assert problem in run.why("each")
    assert run.why("each").startswith("input_error")
    assert run.state("last") is S.SKIPPED
    assert run.run.plan.revision == 1


def test_copies_that_would_have_the_name_of_another_task_are_refused() -> None:
    run = grown(["a"], late("each", "list"), a_task("each_0"))
    assert "a copy would be called each_0, as another task is" in run.why("each")


def test_a_list_may_be_made_of_the_outputs_of_copies() -> None:
    zipped = {"x": "${{ task.each.outputs.n }}", "y": NAMES}
    second = msgspec.structs.replace(
        late("more", items=zipped), depends_on=(Dependency(task="each", until="completed", is_group=True),)
    )
    run = grown(["a", "b"], late("each", "list"), second)
    complete(run, "each_0", "each_1")
    assert items_in(run.run.plan, "more") == [{"x": "each_0", "y": "a"}, {"x": "each_1", "y": "b"}]


def test_only_so_many_copies_run_at_once() -> None:
    run = grown(["a", "b", "c"], late("each", "list", max_parallel=2))
    assert run.spawned()[-2:] == ["each_0#1", "each_1#1"]
    complete(run, "each_1")
    assert run.spawned()[-1] == "each_2#1"


def test_a_condition_on_the_task_is_decided_once() -> None:
    when = PlannedWhen(text="${{ task.list.outputs.names | length > 5 }}")
    run = grown(["a"], late("each", "list", when=when, waits_for_when=True), after("last", "each"))
    assert run.state("each") is S.SKIPPED
    assert run.state("last") is S.SKIPPED
    holds = PlannedWhen(text="${{ task.list.outputs.names | length == 1 }}")
    run = grown(["a"], late("each", "list", when=holds, waits_for_when=True))
    assert run.spawned()[-1] == "each_0#1"


def test_a_condition_on_items_is_decided_for_each() -> None:
    run = grown(["a", "b"], late("each", "list", when=PlannedWhen(text='${{ item == "b" }}')))
    assert run.state("each_0") is S.SKIPPED
    assert run.spawned()[-1] == "each_1#1"


def test_outputs_are_aligned_with_the_items() -> None:
    source = InputSource(text="each.outputs.n", tasks=(), output="n", is_list=True, group="each")
    given = PlannedInput(name="all", variable="ALL", sources=(source,))
    env = {"SFLOW_WORKFLOW_OUTPUT_DIR": "/run"}
    last = msgspec.structs.replace(after("last", "each"), inputs=(given,), env=env)
    quorum = Quorum(needed=1, min_ratio="1/2")
    run = grown(["a", "b", "c"], late("each", "list", quorum=quorum), last)
    complete(run, "each_0", "each_2")
    run.start("each_1")
    list(run(exited("each_1", 1)))
    assert run.state("last") is S.STARTING
    filled = run.run.task_named("last").attempt.filled
    assert filled is not None
    assert filled.env["ALL"] == '["each_0",null,"each_2"]'


def test_an_answer_that_comes_again_changes_nothing() -> None:
    run = grown(["a"], late("each", "list"))
    list(run(TextsRendered(task="each", attempt=0, what="items", items=["a", "b"])))
    assert items_in(run.run.plan, "each") == ["a"]


def test_a_successor_lets_the_plan_grow_in_the_same_way() -> None:
    whole = plan(late("each", "list"), after("last", "each"))
    run = Driver.joined(whole)
    run.start("list")
    list(run(exited("list")))
    finish(run, "list", {"names": ["a", "b"]})
    assert replay(whole, run.journal) == run.commands
    after_it = Driver(whole)
    assert after_it.rebuild(run.journal, Recorded(transitions=100)).lost == []
    assert after_it.run.plan == run.run.plan


def test_a_successor_asks_again_for_a_list_that_was_not_answered() -> None:
    run = Driver.joined(plan(late("each", "list")))
    run.renders = False
    run.start("list")
    list(run(exited("list"), OutputsCollected(task="list", attempt=1, values={"names": ["a"]})))
    again = Driver(plan(late("each", "list")))
    again.renders = False
    rebuilt = again.rebuild(run.journal, Recorded(transitions=100))
    assert [getattr(one, "what", "") for one in rebuilt.again] == ["items"]


def test_items_that_a_journal_could_not_have_are_evaluated_again() -> None:
    run = Driver.joined(plan(late("each", "list")))
    run.renders = False
    run.start("list")
    list(run(exited("list"), OutputsCollected(task="list", attempt=1, values={"names": ["a", "b"]})))
    run(TextsRendered(task="each", attempt=0, what="items")).of(ReviseRun)
    assert items_in(run.run.plan, "each") == ["a", "b"]


def test_another_plan_of_the_run_has_the_same_copies() -> None:
    whole = plan(late("each", "list"), after("last", "each"))
    run = grown(["a", "b"], late("each", "list"), after("last", "each"))
    again = grown_like(whole, run.run.plan)
    assert [task.name for task in again.tasks] == ["list", "each", "last", "each_0", "each_1"]
    assert again.revision == whole.revision
    assert again.task_views["each"] == ["each_0", "each_1"]
    assert grown_like(plan(a_task("each")), run.run.plan).tasks[-1].name == "each", "it has no list any more"


# ---------------------------------------------------------------------- copies in pairs


def paired(name: str, other: str, *, is_other_late: bool = True) -> PlannedTask:
    """A task that stands for copies, each of which waits for the copy of another task at its position."""
    task = late(name, "list", *([other] if is_other_late else ()))
    assert task.foreach is not None
    assert task.foreach.late is not None
    of_list = msgspec.structs.replace(task.foreach.late, pairs=((other, "completed"),))
    return msgspec.structs.replace(task, foreach=msgspec.structs.replace(task.foreach, late=of_list))


def needs(plan: Plan) -> dict[str, list[str]]:
    return {task.name: [one.task for one in task.depends_on] for task in plan.tasks if task.item is not None}


def test_a_late_copy_waits_for_the_copy_of_the_same_item() -> None:
    run = grown(["a", "b"], paired("third", "next"), paired("next", "each"), late("each", "list"))
    assert run.spawned()[-2:] == ["each_0#1", "each_1#1"]
    complete(run, "each_1")
    assert run.spawned()[-1] == "next_1#1"
    complete(run, "next_1")
    assert run.spawned()[-1] == "third_1#1"
    assert run.state("next_0") is S.WAITING
    assert needs(run.run.plan)["third_1"] == ["third", "list", "next", "next_1"]


def test_lists_of_other_lengths_have_no_pairs() -> None:
    other = msgspec.structs.replace(late("each", "list", items="${{ task.list.outputs.names[:1] }}"))
    run = grown(["a", "b"], other, paired("next", "each"), after("last", "next"))
    why = "its list has 2 items, and that of each has 1, with whose copies its own are paired"
    assert why in run.why("next")
    assert run.state("last") is S.SKIPPED


def test_another_plan_has_the_same_pairs_in_whatever_order_its_tasks_are() -> None:
    tasks = (paired("third", "next"), paired("next", "each"), late("each", "list"))
    run = grown(["a", "b"], *tasks)
    assert needs(grown_like(plan(*tasks), run.run.plan)) == needs(run.run.plan)


def test_a_list_that_gets_shorter_takes_its_partners_with_it() -> None:
    run = grown(["a", "b"], paired("third", "next"), paired("next", "each"), late("each", "list"))
    shorter = with_items(run.run.plan, "each", ["a"])
    assert sorted(needs(shorter)) == ["each_0", "next_0", "third_0"]
    assert needs(with_items(run.run.plan, "each", [])) == {}


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_copies_that_come_while_the_run_ends_run_if_their_task_would(policy: OnFailure) -> None:
    each = late("each", "list")
    waits = Dependency(task="fails", until="failed")
    each = msgspec.structs.replace(each, depends_on=(*each.depends_on, waits))
    run = grown(["a", "b"], a_task("fails", on_failure=policy), each, after("last", "each"))
    run.start("fails")
    list(run(exited("fails", 1)))
    assert run.state("each") is S.COMPLETED
    complete(run, "each_0", "each_1", "last")
    assert run.states("each_0", "each_1", "last") == [S.COMPLETED] * 3
