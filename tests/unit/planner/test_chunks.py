"""Plans of tasks with chunks of items, or in a random order: who gets which, what a copy sees, and what is refused."""

from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from protocol.messages.handover import FoundOutput, OutputRule
from sflow_agent.handover.entries import entries_of
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.deferred import DeferredValues, filled_in
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.cells import PlannedForeach, item_of
from sflow_ctl.plan.parts.inputs import resolved
from sflow_ctl.plan.parts.items import WrongItemsError, grouped, order_of, ungrouped
from sflow_ctl.plan.results import InputSource, PlannedInput
from sflow_ctl.plan.revisions.growing import items_in, with_items
from sflow_ctl.plan.task_views import Chunks, TaskViews
from sflow_ctl.plan.words import Collect
from sflow_ctl.planner.show.text import plan_text
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan
from tests.unit.planner.planning import plan_of
from tests.unit.planner.test_foreach import problems


def workflow(
    foreach: str, more: str = "", fields: str = "script: echo", outputs: str = "{n: {type: int}}"
) -> str:
    task = f"    each:\n      foreach: {foreach}\n      {fields}\n      outputs: {outputs}\n"
    return f"workflow:\n  name: w\n  tasks:\n{task}{more}"


AT_LEAST_4 = "script: echo\n      success: {min_count: 4}"
PAIRED = """\
    next:
      foreach: {{count: {}, chunk: 3}}
      script: echo
      depends_on: [{{task: each, items: same}}]
"""


def chunks_of(plan: Plan) -> list[tuple[tuple[int, ...] | None, Any]]:
    return [(task.item.positions, task.item.value) for task in plan.tasks if task.item]


def test_each_copy_has_the_next_items_and_the_last_one_the_rest(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workflow("{items: [a, b, c, d, e], chunk: 2}"))
    assert chunks_of(plan) == [((0, 1), ["a", "b"]), ((2, 3), ["c", "d"]), ((4,), ["e"])]
    assert [task.name for task in plan.tasks] == ["each_0", "each_1", "each_2"]
    assert items_in(plan, "each") == ["a", "b", "c", "d", "e"]
    assert decode_plan(b"".join(encode_plan(plan))) == plan


def test_a_seed_decides_which_items_are_together(tmp_path: Path) -> None:
    first, second = (
        chunks_of(plan_of(tmp_path, workflow(f"{{count: 9, chunk: 4, shuffle: {seed}}}")))
        for seed in ("true", "{seed: 3}")
    )
    assert first != second
    assert first == chunks_of(plan_of(tmp_path, workflow("{count: 9, chunk: 4, shuffle: {seed: 0}}")))
    for chunks in (first, second):
        assert [len(positions or ()) for positions, _ in chunks] == [4, 4, 1]
        assert sorted(one for positions, _ in chunks for one in positions or ()) == list(range(9))
        assert all(list(positions or ()) == values for positions, values in chunks)


def test_without_chunks_only_the_order_of_start_is_random(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workflow("{count: 5, shuffle: true}"))
    items = [task.item for task in plan.tasks if task.item]
    assert [one.value for one in items] == [0, 1, 2, 3, 4]
    assert [order_of(5, 0)[one.turn] for one in items if one.turn is not None] == [0, 1, 2, 3, 4]
    assert decode_plan(b"".join(encode_plan(plan))) == plan


def test_a_late_list_has_the_same_chunks(tmp_path: Path) -> None:
    more = "    list:\n      script: echo\n      outputs: {names: {type: list}}\n"
    plan = plan_of(tmp_path, workflow("{items: '${{ task.list.outputs.names }}', chunk: 2}", more))
    grown = with_items(plan, "each", ["a", "b", "c"])
    assert chunks_of(grown) == [((0, 1), ["a", "b"]), ((2,), ["c"])]
    assert items_in(grown, "each") == ["a", "b", "c"]
    assert decode_plan(b"".join(encode_plan(grown))) == grown


def test_a_copy_sees_its_list_and_inputs_that_use_the_item_are_lists(tmp_path: Path) -> None:
    fields = "script: 'echo ${{ item }} ${{ item_index }}'\n      inputs: {x: {value: '${{ item.x }}', type: int}, same: 5}"
    plan = plan_of(
        tmp_path, workflow("{items: [{x: 1}, {x: 2}, {x: 3}], chunk: 2, chunk_parallel: 4}", fields=fields)
    )
    task = plan.tasks[1]
    assert task.environment["SFLOW_ITEM"] == '[{"x":3}]'
    assert task.environment["SFLOW_ITEM_INDEX"] == "[2]"
    assert task.environment["SFLOW_CHUNK_PARALLEL"] == "4"
    deferred = DeferredValues(plan, {}, lambda _: None, EVALUATOR)
    done = filled_in(plan.tasks[0], deferred.rendered(plan.tasks[0], {}))
    assert done.plan.env["INPUT_X"] == "[1,2]"
    assert done.plan.env["INPUT_SAME"] == "5"
    assert done.plan.script == "echo [{'x': 1}, {'x': 2}] [0, 1]"
    document = msgspec.json.decode(done.files[-1].content)
    assert document["inputs"]["x"]["is_per_item"]
    assert "is_per_item" not in document["inputs"]["same"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (workflow("{count: 3, chunk: 0}"), "must be at least 1, is 0"),
        (workflow("{count: 3, chunk_parallel: 2}"), "has chunk_parallel, and no chunk"),
        (workflow("{count: 3, chunk: 2}", outputs="{f: {path: x.pt}}"), "is one for a whole chunk of items"),
        (
            workflow("{count: 3, chunk: 2}", outputs="[{pattern: 'n = {n:d}'}]"),
            "is one for a whole chunk of items",
        ),
        (
            workflow("{count: 3, chunk: 2}", fields="result: {n: 'n = (\\d+)'}\n      script: echo"),
            "has result",
        ),
        (workflow("{count: 3, chunk: 2}", fields=AT_LEAST_4), "4 copies must complete, and there are 3"),
        (workflow("{count: 4, chunk: 2}", PAIRED.format(4)), "have other items together"),
        (workflow("{count: 4, chunk: 3}", PAIRED.format(5)), "have 5 items where those have 4"),
    ],
)
def test_what_cannot_be_divided_by_item_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    found = problems(tmp_path, text)
    assert any(problem in one for one in found), found


def test_a_chunk_that_no_variable_can_hold_is_refused() -> None:
    with pytest.raises(WrongItemsError, match="chunk 0 has 120007 bytes as JSON, and may have 100000"):
        grouped(PlannedForeach(chunk=2), ["a" * 60_000, "b" * 60_000])


def test_a_quorum_counts_items(tmp_path: Path) -> None:
    fields = "script: echo\n      success: {min_ratio: 0.8}"
    (quorum,) = {
        task.quorum for task in plan_of(tmp_path, workflow("{count: 10, chunk: 4}", fields=fields)).tasks
    }
    assert quorum is not None
    assert quorum.needed == 8


# ---------------------------------------------------------------------- lists over all items


@st.composite
def results(draw: st.DrawFn) -> tuple[PlannedForeach, list[list[int | None] | None], int]:
    """Draw chunks of items, and what each has: its items' positions, null where one has failed; None where all is lost."""
    foreach = PlannedForeach(chunk=draw(st.integers(1, 7)), seed=draw(st.sampled_from([None, 0, 1, 2])))
    count = draw(st.integers(1, 25))
    chunks: list[list[int | None] | None] = []
    for group in grouped(foreach, list(range(count))):
        positions = item_of(foreach, group).positions or ()
        lost = draw(st.sets(st.sampled_from(positions)))
        chunks.append(draw(st.sampled_from([None, [None if one in lost else one for one in positions]])))
    return foreach, chunks, count


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(drawn=results(), collect=st.sampled_from(["gap", "drop", "fail"]))
def test_lists_are_aligned_for_all_sizes_orders_and_failures(
    drawn: tuple[PlannedForeach, list[list[int | None] | None], int], collect: Collect
) -> None:
    foreach, chunks, count = drawn
    groups = [item_of(foreach, one) for one in grouped(foreach, list(range(count)))]
    assert ungrouped(groups) == list(range(count))
    names = [f"each_{index}" for index in range(len(groups))]
    positions = {name: one.positions or () for name, one in zip(names, groups, strict=True)}
    rule = OutputRule(name="n", kind="param", type="int")
    outputs: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, FoundOutput]] = {}
    for name, values in zip(names, chunks, strict=True):
        if values is not None:
            value, lacking, problem = entries_of(rule, values, tuple(positions[name]), has_failed=True)
            assert not problem
            outputs[name] = {"n": value}
            found[name] = {"n": FoundOutput(name="n", kind="param", value=value, lacking=lacking)}
    there = {one for values in chunks for one in values or () if one is not None}
    gap = [index if index in there else None for index in range(count)]
    expected = gap if collect == "gap" else [{"index": one, "value": one} for one in sorted(there)]
    views = TaskViews(
        {"each": names},
        outputs,
        {},
        lambda _: None,
        collect={"each": collect},
        chunks=Chunks(positions, found),
    )
    source = InputSource(
        text="each.outputs.n", tasks=(), output="n", is_list=True, group="each", collect=collect
    )
    given = PlannedInput(name="all", variable="ALL", sources=(source,), type="list", is_required=False)
    if collect == "fail" and len(there) < count:
        with pytest.raises(ExpressionError):
            views["each"].outputs["n"]
        if outputs:
            with pytest.raises(ExpressionError):
                resolved(given, outputs, found, views)
        return
    assert outputs == {} or views["each"].outputs["n"] == (gap if collect == "fail" else expected)
    whole = resolved(given, outputs, found, views)
    assert whole.is_absent == (not outputs)
    assert whole.is_absent or whole.value == (gap if collect == "fail" else expected)


def test_what_is_too_large_for_messages_is_taken_entry_by_entry() -> None:
    record = FoundOutput(name="n", kind="param", path="/run/each_0/n.json", is_large=True, lacking=(1,))
    views = TaskViews(
        {"each": ["each_0", "each_1"]},
        {"each_0": {"n": record.path}, "each_1": {"n": [7]}},
        {},
        lambda _: None,
        chunks=Chunks({"each_0": (0, 2), "each_1": (1,)}, {"each_0": {"n": record}}),
    )
    source = InputSource(text="each.outputs.n", tasks=(), output="n", is_list=True, group="each")
    given = PlannedInput(name="all", variable="ALL", sources=(source,), type="list")
    value = resolved(
        given, {"each_0": {"n": record.path}, "each_1": {"n": [7]}}, {"each_0": {"n": record}}, views
    )
    (large,) = value.large
    assert value.value == [large.placeholder, 7, None]
    assert (large.path, large.entry) == ("/run/each_0/n.json", 0)
    with pytest.raises(ExpressionError, match="too large for expressions"):
        views["each"].outputs["n"]


def test_a_limit_of_the_time_without_a_place_is_planned_and_shown(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "workflow: {name: w, tasks: [{name: a, script: [x], queue_timeout: 1m}]}")
    assert plan.tasks[0].retries.queue_s == 60
    assert "60 s without a free place at most" in plan_text(plan)


def test_names_that_differ_only_in_case_are_warned_of(tmp_path: Path) -> None:
    tasks = "[{name: Train, script: [x]}, {name: train, script: [x]}, {name: b, script: [x]}]"
    (warning,) = plan_of(tmp_path, f"workflow: {{name: w, tasks: {tasks}}}").warnings
    assert warning.code == "name-case"
    assert warning.what == 'the names of tasks "Train" and "train" differ only in case'
