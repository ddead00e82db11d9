"""Plans of tasks with lists of items: which copies there are, what they share, and what is refused with which words."""

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import FleetError
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.copies.task_list import Copies, parts_of
from sflow_ctl.plan.deferred import DeferredValues, filled_in
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.results import InputSource
from sflow_ctl.planner.show.text import plan_text
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan
from tests.unit.planner.planning import plan_of


def workflow(foreach: str, more: str = "", script: str = "echo", head: str = "") -> str:
    task = f"    each:\n      foreach: {foreach}\n      script: ['{script}']\n      outputs: {{n: {{type: int}}}}\n"
    return f"{head}workflow:\n  name: w\n  tasks:\n{task}{more}"


def items_of(folder: Path, foreach: str, head: str = "", **context: Any) -> list[Any]:
    return [
        task.item.value
        for task in plan_of(folder, workflow(foreach, head=head), **context).tasks
        if task.item
    ]


def problems(folder: Path, text: str, **context: Any) -> list[str]:
    try:
        plan_of(folder, text, **context)
    except FleetError as error:
        return [f"{one.what}; {one.hint}" if one.hint else one.what for one in error.findings]
    raise AssertionError("it was planned")


def values_of(plan: Plan, name: str, outputs: dict[str, dict[str, Any]] | None = None) -> tuple[str, ...]:
    deferred = DeferredValues(plan, outputs or {}, lambda _: None, EVALUATOR)
    task = next(task for task in plan.tasks if task.name == name)
    return deferred.rendered(task, {}).values


# ---------------------------------------------------------------------- which items


@pytest.mark.parametrize(
    ("foreach", "items"),
    [
        ("[a, {x: 1}, [2, 3], null]", ["a", {"x": 1}, [2, 3], None]),
        ("[a, a]", ["a", "a"]),
        ("{items: [1]}", [1]),
        ("{count: 3}", [0, 1, 2]),
        ("{sequence: {end: 2}}", [0, 1, 2]),
        ("{sequence: {start: 1, end: 10, step: 4}}", [1, 5, 9]),
        ("{sequence: {start: 3, end: 1, step: -1}}", [3, 2, 1]),
        ("{sequence: {start: 5, count: 2}}", [5, 6]),
        ('{sequence: {start: 8, end: 10, format: "%03d"}}', ["008", "009", "010"]),
        ("{items: {a: [1, 2], b: [x, y]}}", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        (
            "{items: {a: [1, 2], b: [x, y]}, product: true}",
            [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")],
        ),
    ],
)
def test_items_of_the_file_are_known_when_planning(tmp_path: Path, foreach: str, items: list[Any]) -> None:
    assert items_of(tmp_path, foreach) == items


def test_items_may_be_made_of_variables(tmp_path: Path) -> None:
    head = "variables: {names: {value: [a, b]}, n: {value: 2}}\n"
    assert items_of(tmp_path, '"${{ names }}"', head) == ["a", "b"]
    assert items_of(tmp_path, '{count: "${{ n }}"}', head) == [0, 1]
    assert items_of(tmp_path, '["${{ n }}", 7]', head) == [2, 7]
    assert items_of(tmp_path, '{items: {x: "${{ names }}", y: [1, 2]}}', head) == [
        {"x": "a", "y": 1},
        {"x": "b", "y": 2},
    ]


def test_a_glob_lists_files_of_the_workspace(tmp_path: Path) -> None:
    asked: list[str] = []

    def glob(pattern: str) -> list[str]:
        asked.append(pattern)
        return ["/ws/data/a.csv", "/ws/data/b.csv"]

    assert items_of(tmp_path, '{glob: "data/*.csv"}', glob=glob) == ["/ws/data/a.csv", "/ws/data/b.csv"]
    assert items_of(tmp_path, '{glob: "/else/*.csv"}', glob=glob) != []
    assert asked == ["/ws/data/*.csv", "/else/*.csv"]


# ---------------------------------------------------------------------- what copies share, and what tells them apart


def test_copies_share_all_but_their_item(tmp_path: Path) -> None:
    text = workflow("{count: 20000, max_items: 20000}", script="echo ${{ item }} $SFLOW_ITEM")
    plan = plan_of(tmp_path, text)
    (part,) = parts_of(plan.tasks)
    assert isinstance(part, Copies)
    assert len(part) == 20000
    last = part[19999]
    assert (last.name, last.replica_index, last.base) == ("each_19999", 19999, "each")
    assert last.argv is part.first.argv
    assert last.environment["SFLOW_ITEM"] == last.environment["SFLOW_ITEM_INDEX"] == "19999"
    assert last.environment["SFLOW_TASK_OUTPUT_DIR"] == "/out/run/each_19999"
    assert plan.task_views == {}, "no expression asks for other tasks"


def test_a_plan_with_items_comes_back_from_its_file(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workflow("[a, {x: [1]}]", script="echo ${{ item }}"))
    content = b"".join(encode_plan(plan))
    assert decode_plan(content) == plan
    assert content.count(b"\n{") == 2, "the first copy, and a line for all"


def test_expressions_of_a_copy_see_its_item(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        workflow(
            "{items: [{a: 5}, {a: 6}], as: one}",
            script="echo ${{ one.a }} ${{ one_index }} ${{ replica.name }}",
        ),
    )
    assert values_of(plan, "each_1") == ("6", "1", "each_1")
    task = plan.tasks[1]
    filled = filled_in(task, DeferredValues(plan, {}, lambda _: None, EVALUATOR).rendered(task, {}))
    assert filled.plan.script == "echo 6 1 each_1"


def test_variables_files_and_conditions_may_use_the_item(tmp_path: Path) -> None:
    more = '      when: ${{ item > 1 }}\n      variables: {v: "${{ item * 2 }}"}\n      files: {f: "x ${{ item }}"}\n'
    plan = plan_of(tmp_path, workflow("[1, 2]", more, script="echo ${{ v }}"))
    deferred = DeferredValues(plan, {}, lambda _: None, EVALUATOR)
    first, second = plan.tasks
    assert (deferred.decided(first)[0], deferred.decided(second)) == (False, (True, {"item": "2"}))
    texts = deferred.rendered(second, {})
    assert texts.files == ("x 2",)
    assert filled_in(second, texts).plan.env["v"] == "4"


def test_only_parts_of_an_item_are_filled_in_at_once(tmp_path: Path) -> None:
    def is_quick(script: str, more: str = "") -> bool:
        foreach = plan_of(tmp_path, workflow("[{a: 1}]", more, script=script)).tasks[0].foreach
        assert foreach is not None
        return foreach.is_quick

    assert is_quick("echo ${{ item.a }} ${{ item_index + 1 }}")
    assert not is_quick("echo")
    assert not is_quick("echo ${{ item.a | string }}")
    assert not is_quick("echo ${{ item.a }}", '      inputs: {x: "${{ item.a }}"}\n')


def test_a_failed_item_ends_no_other_unless_the_file_says_so(tmp_path: Path) -> None:
    assert plan_of(tmp_path, workflow("[1]")).tasks[0].on_failure == "isolate"
    assert plan_of(tmp_path, workflow("[1]", "      on_failure: cancel\n")).tasks[0].on_failure == "cancel"


# ---------------------------------------------------------------------- gathering

AFTER = "    after:\n      script: [x]\n      inputs: {all: {from: each.outputs.n}}\n"
GIVEN = {"each_0": {"n": 1}, "each_2": {"n": 3}}


def gathered(folder: Path, foreach: str) -> Any:
    plan = plan_of(folder, workflow(foreach, AFTER))
    after = next(task for task in plan.tasks if task.name == "after")
    return DeferredValues(plan, GIVEN, lambda _: None, EVALUATOR).rendered(after, {}).inputs[0].value


def test_a_list_of_outputs_is_aligned_with_the_items(tmp_path: Path) -> None:
    assert gathered(tmp_path, "[a, b, c]") == [1, None, 3]
    assert gathered(tmp_path, "{items: [a, b, c], collect: drop}") == [
        {"index": 0, "value": 1},
        {"index": 2, "value": 3},
    ]
    with pytest.raises(
        Exception, match=r"each.outputs.n is missing for item 1, and its list is collect: fail"
    ):
        gathered(tmp_path, "{items: [a, b, c], collect: fail}")


def test_an_input_names_the_task_and_not_all_of_its_copies(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workflow("{count: 500}", AFTER))
    after = next(task for task in plan.tasks if task.name == "after")
    source = InputSource(text="each.outputs.n", tasks=(), output="n", is_list=True, group="each")
    assert after.inputs[0].sources == (source,)
    assert after.depends_on[0].is_group


def test_an_expression_has_the_list_as_well(tmp_path: Path) -> None:
    text = workflow(
        "[a, b, c]", "    after:\n      depends_on: each\n      script: ['${{ task.each.outputs.n }}']\n"
    )
    assert values_of(plan_of(tmp_path, text), "after", GIVEN) == ("[1, None, 3]",)
    dropped = text.replace("[a, b, c]", "{items: [a, b, c], collect: drop}")
    assert values_of(plan_of(tmp_path, dropped), "after", GIVEN)[0].startswith("[{'index': 0, 'value': 1}")
    failing = text.replace("[a, b, c]", "{items: [a, b, c], collect: fail}")
    with pytest.raises(Exception, match='output "n" of task "each" is missing for item 1'):
        values_of(plan_of(tmp_path, failing), "after", GIVEN)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("foreach", "problem"),
    [
        ("{}", "needs exactly one of items, sequence, count, glob, found none"),
        (
            "{items: [1], count: 2}",
            "needs exactly one of items, sequence, count, glob, found items and count",
        ),
        ("{items: [1], product: true}", "has product, which is for items that are a mapping to lists"),
        ("{items: {}}", "are a mapping without lists"),
        ("{sequence: {start: 1}}", "needs exactly one of end and count"),
        ("{sequence: {start: 1, end: 5, step: 0}}", "the step of its sequence is 0"),
        ("{sequence: {start: 5, end: 1}}", "its sequence has no number: 5 to 1 in steps of 1; use step: -1"),
        ('{sequence: {end: 2, format: "%q"}}', 'the format "%q" of its sequence does not fit a number'),
        ("{items: {a: [1, 2], b: [1]}}", "its lists are not equally long: a has 2, b has 1"),
        ("{items: {a: 3, b: [1]}}", "the items called a must be a list, are int 3"),
        ('{items: "${{ 5 }}"}', "its items must be a list, are int 5"),
        ("{count: 10001}", "10001 items are more than its max_items, 10000"),
        ("{items: [1, 2], max_items: 1}", "2 items are more than its max_items, 1"),
        ("{count: -1}", "must be at least 0"),
        ("{items: [1], as: task}", '"task", the name of the item of task "each", has another meaning'),
        ("{items: [1], as: a-b}", '"a-b" of task "each" cannot be the name of an item'),
        ("{items: [1], as: v}", '"v" is a variable, and what expressions of task "each" call its item'),
        ("{items: [1], max_parallel: 0}", "must be at least 1"),
    ],
)
def test_a_wrong_list_is_refused_with_its_place(tmp_path: Path, foreach: str, problem: str) -> None:
    found = problems(tmp_path, workflow(foreach, head="variables: {v: 1}\n"))
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("      replicas: 2\n", "has both foreach and replicas"),
        ("      sweep: {axes: {v: [1, 2]}}\n", "has both foreach and a sweep of its own"),
        ("      resources: {cpus: '${{ item }}'}\n", "uses item in ${{ item }}, and all of its copies"),
        ("      labels: {a: '${{ replica.name }}'}\n", "uses replica in ${{ replica.name }}"),
    ],
)
def test_what_cannot_differ_between_copies_is_refused(tmp_path: Path, more: str, problem: str) -> None:
    found = problems(tmp_path, workflow("[1, 2]", more, head="variables: {v: 1}\n"))
    assert any(problem in one for one in found), found


def test_a_task_in_the_sweep_of_the_workflow_has_no_items(tmp_path: Path) -> None:
    head = "variables: {v: 1}\nsweep: {axes: {v: [1, 2]}}\n"
    (found,) = problems(tmp_path, workflow("[1, 2]", head=head))
    assert 'task "each" has foreach, and is in a sweep; give it sweep: false' in found
    other = "    other: {script: [x]}\n"
    plan = plan_of(tmp_path, workflow("[1, 2]", "      sweep: false\n" + other, head=head))
    assert [task.name for task in plan.tasks][:2] == ["each_0", "each_1"]


def test_a_mistake_in_an_expression_on_the_item_is_found_when_planning(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, workflow("[{a: 1}]", script="echo ${{ item.b.c }}"))
    assert 'task "each_0"' in found


def test_an_item_that_no_variable_can_hold_is_refused(tmp_path: Path) -> None:
    head = f"variables: {{big: {{value: {'x' * 100_001}}}}}\n"
    (found,) = problems(tmp_path, workflow('["${{ big }}"]', head=head))
    assert "item 0 has 100003 bytes as JSON, and may have 100000; pass large values in files" in found


def test_a_plan_says_of_each_copy_which_item_it_has(tmp_path: Path) -> None:
    more = "    - {name: last, depends_on: [each], script: [echo]}\n"
    listed = workflow("{items: [5, 6], max_parallel: 1}").replace(
        "    each:\n      f", "    - name: each\n      f"
    )
    lines = plan_text(plan_of(tmp_path, listed + more)).splitlines()
    assert [line.split()[1:] for line in lines if "foreach:" in line] == [
        ["number", "0", "of", "2", "items:", "5;", "1", "at", "once"],
        ["number", "1", "of", "2", "items:", "6;", "1", "at", "once"],
    ]
    assert "  last  <- each × 2 (Completed)" in lines
    many = plan_text(plan_of(tmp_path, listed.replace("[5, 6]", str([*range(50)])) + more))
    assert "50 items, the first is 0; 1 at once" in many


@pytest.mark.parametrize(
    "foreach", ['{count: "${{ task.a.outputs.n }}0"}', '{sequence: {end: "${{ task.a.outputs.n }}"}}']
)
def test_numbers_that_are_known_late_are_one_expression(tmp_path: Path, foreach: str) -> None:
    more = "    a: {script: x, outputs: {n: {type: int}}}\n"
    (problem,) = problems(tmp_path, workflow(foreach, more))
    assert "is known only while the run continues; write items: ${{ range(FIRST, LAST + 1) }}" in problem
    plan = plan_of(tmp_path, workflow('{count: "${{ task.a.outputs.n }}"}', more))
    (late,) = [task.foreach.late for task in plan.tasks if task.foreach]
    assert late is not None
    assert late.items == "${{ range(task.a.outputs.n) }}"


# ---------------------------------------------------------------------- copies in pairs

PAIRED = "    next:\n      foreach: ITEMS\n      script: ['echo']\n      FIELD\n"


def paired(field: str, items: str = "[x, y]", script: str = "echo") -> str:
    return workflow("[a, b]", PAIRED.replace("ITEMS", items).replace("FIELD", field), script)


@pytest.mark.parametrize(
    "field", ["depends_on: [{task: each, items: same}]", "inputs: {n: {from: each.outputs.n, items: same}}"]
)
def test_a_copy_waits_for_the_copy_of_the_same_item(tmp_path: Path, field: str) -> None:
    plan = plan_of(tmp_path, paired(field))
    again = decode_plan(b"".join(encode_plan(plan)))
    assert list(again.tasks) == list(plan.tasks)
    for one in (plan, again):
        needs = {task.name: [each.task for each in task.depends_on] for task in one.tasks}
        assert needs == {"each_0": [], "each_1": [], "next_0": ["each_0"], "next_1": ["each_1"]}
        sources = {task.name: [each.sources[0].tasks for each in task.inputs] for task in one.tasks}
        if "inputs" in field:
            assert (sources["next_0"], sources["next_1"]) == ([("each_0",)], [("each_1",)])
    assert "next_1  <- each_1 (Completed)" in plan_text(plan)


def test_copies_that_are_planned_one_by_one_are_paired_as_well(tmp_path: Path) -> None:
    field = "success: {files: [out.txt]}\n      inputs: {n: {from: each.outputs.n, items: same}}"
    plan = plan_of(tmp_path, paired(field))
    assert not any(isinstance(part, Copies) and part.first.base == "next" for part in parts_of(plan.tasks))
    task = plan.tasks[3]
    assert ([one.task for one in task.depends_on], task.inputs[0].sources[0].tasks) == (
        ["each_1"],
        ("each_1",),
    )


def test_many_pairs_are_one_line_of_the_plan(tmp_path: Path) -> None:
    text = paired("depends_on: [{task: each, items: same}]", "{count: 40}").replace("[a, b]", "{count: 40}")
    assert "next × 40  <- each, the same item (Completed)" in plan_text(plan_of(tmp_path, text))


def test_one_input_of_all_items_waits_for_all_of_them(tmp_path: Path) -> None:
    both = "inputs: {n: {from: each.outputs.n, items: same}, all: {from: each.outputs.n}}"
    plan = plan_of(tmp_path, paired(both))
    assert [(one.task, one.is_group) for one in plan.tasks[2].depends_on] == [("each", True)]
    assert plan.tasks[3].inputs[0].sources[0].tasks == ("each_1",)


@pytest.mark.parametrize(
    ("items", "field", "problem"),
    [
        ("[x]", "depends_on: [{task: each, items: same}]", "and have 1 items where those have 2"),
        (
            "[x, y]",
            "depends_on: [{task: w, items: same}]\n    w: {script: [x]}",
            'task "next" has items: same, which is between two tasks with foreach, and task "w" has none',
        ),
        (
            "[x, y]",
            "inputs: {n: {value: 3, items: same}}",
            "which is between two tasks with foreach, and this input has none",
        ),
        (
            "[x, y]",
            "inputs: {n: {from: each.outputs.n, items: same, type: list}}",
            "wanted list, and each.outputs.n is a int",
        ),
        (
            "[x, y]",
            "depends_on: [{task: far, items: same}]\n    far: {foreach: '${{ task.each.outputs.n }}', script: [x]}",
            "whose list is known only when other tasks have completed",
        ),
    ],
)
def test_copies_without_a_partner_are_refused(tmp_path: Path, items: str, field: str, problem: str) -> None:
    assert any(problem in one for one in problems(tmp_path, paired(field, items)))
