"""Items, conditions, blocks and loops of programs: the files that they become, and real runs of them."""

import sys
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import SpecError
from sflow_ctl.api import Workflow, expression, last

MODULE = """
from pathlib import Path

from sflow_ctl.api import task

@task
def square(number: int) -> int:
    if number == 1:
        raise ValueError("this one fails")
    return number * number

@task
def shift(value: int, by: int, name: str) -> str:
    return f"{name}{value + by}"

@task
def total(values: list) -> int:
    return sum(one for one in values if one is not None)

@task
def halve(number: int) -> int:
    return number // 2
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a user, in a folder of its own."""
    (tmp_path / "flow_of_tests.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flow_of_tests", raising=False)
    import flow_of_tests  # type: ignore[import-not-found]

    return flow_of_tests


def again(workflow: Workflow) -> Workflow:
    """The same workflow, by way of its file."""
    read = Workflow.from_yaml(workflow.to_yaml())
    assert read.document() == workflow.document()
    return read


def test_a_function_is_mapped_over_lists(module: Any, tmp_path: Path) -> None:
    workflow = Workflow("squares")
    squares = workflow.map(
        module.square.options(success={"min_ratio": 0.5}),
        {"number": [0, 1, 2, 3]},
        foreach={"max_parallel": 2},
    )
    workflow.call(module.total, values=squares.output())
    workflow.set_outputs(squares=squares.output(), shown=f"the squares are {squares.output()}")
    run = again(workflow).run(workspace=tmp_path)
    assert run.status().outcome == "completed", run.logs()
    assert run.workflow_outputs()["squares"] == [0, None, 4, 9]
    assert run.outputs()["total"] == {"result": 13}


def test_mapped_tasks_are_paired_item_by_item(module: Any, tmp_path: Path) -> None:
    workflow = Workflow("pairs")
    base = workflow.input("base", int, default=5)
    squares = workflow.map(module.square, {"number": [2, 3]})
    shifted = workflow.map(module.shift, {"name": ["a", "b"]}, value=squares.each(), by=base)
    workflow.set_outputs(all=shifted.output())
    assert shifted["inputs"]["value"] == {"from": "square.outputs.result", "items": "same", "type": "int"}
    run = again(workflow).run(workspace=tmp_path, inputs={"base": 10})
    assert run.workflow_outputs() == {"all": ["a14", "b19"]}, run.logs()
    with pytest.raises(SpecError, match="is used in a text"):
        str(squares.each())


def test_a_list_may_be_an_output(module: Any, tmp_path: Path) -> None:
    workflow = Workflow("late")
    names = workflow.task(
        "names", """echo '{"n": [2, 3]}' > "$SFLOW_OUTPUTS_FILE" """, outputs={"n": {"type": "list"}}
    )
    squares = workflow.map(module.square, {"number": names.output("n")})
    workflow.set_outputs(all=squares.output())
    run = again(workflow).run(workspace=tmp_path)
    assert run.workflow_outputs() == {"all": [4, 9]}, run.logs()


def test_a_block_is_repeated_until_its_output_says_so(module: Any, tmp_path: Path) -> None:
    workflow = Workflow("halves")
    halving = workflow.block("halving", number=int, limit={"type": "int", "default": 3})
    half = halving.call(module.halve, number=halving.input("number"))
    halving.outputs["half"] = half.output()
    halving.outputs["is_small"] = expression("half < limit", half=half.output(), limit=halving.input("limit"))
    search = workflow.repeat(
        "search",
        halving,
        number=40,
        max_iterations=10,
        until=last.output("is_small"),
        carry={"number": last.output("half")},
    )
    once = workflow.use("once", halving, number=search.output("half"))
    workflow.task(
        "small",
        "echo small",
        when=expression("half < 9 and half > 0", half=search.output("half")),
        depends_on=search,
    )
    workflow.set_outputs(found=search.output("half"), next=once.output("half"))
    run = again(workflow).run(workspace=tmp_path)
    assert run.status().outcome == "completed", run.logs()
    assert run.workflow_outputs() == {"found": 2, "next": 1}
    assert run["small"].state == "completed"
    assert [one.name for one in run.instances("task=search_*")] == [f"search_{n}.halve" for n in range(4)]


def test_an_included_block_is_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib.yaml").write_text(
        'version: "0.1"\nworkflow: {blocks: {say: {inputs: {w: str}, tasks: {s: {script: "echo ${{ block.inputs.w }}"}}}}}\n'
    )
    (tmp_path / "main.yaml").write_text(
        'version: "0.1"\ninclude: {lib: lib.yaml}\nworkflow: {name: m, tasks: [{name: t, block: lib.say, with: {w: hi}}]}\n'
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    workflow = Workflow.from_yaml("../main.yaml")
    workflow.use("again", "lib.say", w="ho")
    run = workflow.run()
    assert run.status().outcome == "completed"
    assert run.logs("again.s") == "ho\n"
    assert again(workflow).check() == []


def test_blocks_of_a_file_and_of_a_program_are_together() -> None:
    text = 'version: "0.1"\nworkflow:\n  name: w\n  blocks: {FORM}\n  tasks: [{name: t, block: a}]\n'
    inner = "tasks: [{name: x, script: y}]"
    for form in (f"{{a: {{{inner}}}}}", f"[{{name: a, {inner}}}]"):
        workflow = Workflow.from_yaml(text.replace("{FORM}", form))
        workflow.block("b").task("x", "y")
        workflow.use("u", "b")
        assert again(workflow).check() == []
        with pytest.raises(SpecError, match='there is a block "a" already'):
            workflow.block("a")


def test_what_cannot_be_is_said_where_it_is_written(module: Any) -> None:
    workflow = Workflow("w")
    wrong: tuple[tuple[Any, str], ...] = (
        ({"number": [1, "x"]}, "number of item 1 is 'x'"),
        ({"number": 5}, "which is not a list"),
        ({"number": "abc"}, "which is not a list"),
        ({}, "is mapped over no list"),
        ({"numbers": [1]}, "square has no parameter numbers"),
    )
    for given, said in wrong:
        with pytest.raises(SpecError, match=said):
            workflow.map(module.square, given)
    with pytest.raises(SpecError, match="value has 1, by has 2"):
        workflow.map(module.shift, {"value": [1], "by": [1, 2]}, name="x")
    made = workflow.map(module.shift, {"value": [1], "by": [1, 2]}, name="x", foreach={"product": True})
    assert made["foreach"] == {"items": {"value": [1], "by": [1, 2]}, "product": True}
    with pytest.raises(SpecError, match='block "b" has no input "m"'):
        workflow.block("b", n=int).input("m")
    with pytest.raises(SpecError, match="does not use score"):
        expression("1 > 0", score=made.output())
    assert str(expression("a > 1 or b.a == 'a'", a=made.output())) == (
        "${{ task.shift.outputs.result > 1 or b.a == 'a' }}"
    )


def test_a_function_is_mapped_over_chunks_in_a_random_order(module: Any, tmp_path: Path) -> None:
    workflow = Workflow("squares")
    squares = workflow.map(
        module.square,
        {"number": [0, 1, 2, 3, 4]},
        chunk=2,
        chunk_parallel=2,
        shuffle=7,
        foreach={"max_parallel": 1},
    )
    squares["success"] = {"min_count": 4}
    workflow.set_outputs(all=squares.output())
    assert squares["foreach"] == {
        "items": {"number": [0, 1, 2, 3, 4]},
        "chunk": 2,
        "chunk_parallel": 2,
        "shuffle": {"seed": 7},
        "max_parallel": 1,
    }
    run = again(workflow).run(workspace=tmp_path)
    assert run.status().outcome == "completed", run.logs()
    assert run.workflow_outputs()["all"] == [0, None, 4, 9, 16]
