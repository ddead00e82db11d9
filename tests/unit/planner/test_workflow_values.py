"""Inputs that are given when a workflow is started, and outputs of a whole run: planned, refused, resolved."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from protocol.errors import Finding, FleetError
from protocol.messages.handover import FoundOutput
from sflow_ctl.core.commands import FinishRun
from sflow_ctl.core.states import Outcome
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.deferred import DeferredValues
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.pipeline import build_plan
from sflow_ctl.runtime.handover.run_outputs import RunOutput, resolve_outputs, with_outputs
from tests.unit.planner.planning import CONTEXT

INPUTS = "inputs: {n: int, words: {type: list, default: [a]}, name: {required: false}, data: {type: path, required: false}}"
TASKS = """\
  tasks:
    train:
      replicas: 3
      script: [train]
      outputs: {loss: {type: float}}
    pick:
      script: ['pick ${{ workflow.inputs.n + 1 }} ${{ workflow.inputs.words | length }}']
      depends_on: [train]
      outputs: {best: {type: int}, file: {path: x}}
"""


def planned(folder: Path, *given: str, head: str = INPUTS, outputs: str = "", tasks: str = TASKS) -> Plan:
    path = folder / "w.yaml"
    lines = f"  {head}\n" if head else ""
    lines += f"  outputs: {outputs}\n" if outputs else ""
    path.write_text(f'version: "0.1"\nworkflow:\n  name: w\n{lines}{tasks}')
    return build_plan(load_documents([path], [f"inputs.{one}" for one in given]), replace(CONTEXT))


def refused(folder: Path, *given: str, **parts: str) -> list[Finding]:
    with pytest.raises(FleetError) as error:
        planned(folder, *given, **parts)
    return list(error.value.findings)


def script_of(folder: Path, *given: str) -> str:
    return planned(folder, *given).tasks[-1].script


# ---------------------------------------------------------------------- inputs


def test_given_values_have_the_declared_type(tmp_path: Path) -> None:
    assert script_of(tmp_path, "n=4") == "pick 5 1"
    assert script_of(tmp_path, "n=4", 'words=["a", "b", "c"]') == "pick 5 3"


def test_a_value_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('["a", "b"]\n')
    assert script_of(tmp_path, "n=4", f"words=@{tmp_path}/words.json") == "pick 5 2"


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("x y", "x y"),
        ('{"a": [1]}', {"a": [1]}),
        ("@@at", "@at"),
    ],
)
def test_without_a_type_a_text_is_the_value_that_it_looks_like(
    tmp_path: Path, given: str, value: Any
) -> None:
    tasks = TASKS.replace("workflow.inputs.words | length", "[workflow.inputs.name]")
    assert planned(tmp_path, "n=1", f"name={given}", tasks=tasks).tasks[-1].script == f"pick 2 {[value]}"


def test_a_path_is_relative_to_where_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tasks = TASKS.replace("workflow.inputs.words | length", "workflow.inputs.data")
    plan = planned(tmp_path, "n=1", "data=d/x.csv", tasks=tasks)
    assert plan.tasks[-1].script == f"pick 2 {tmp_path}/d/x.csv"


def test_variables_of_the_file_may_use_inputs(tmp_path: Path) -> None:
    tasks = TASKS.replace("workflow.inputs.words | length", "variables.twice")
    head = 'version: "0.1"\nvariables: {twice: "${{ workflow.inputs.n * 2 }}"}\nworkflow:\n  name: w\n  inputs: {n: int}\n'
    (tmp_path / "w.yaml").write_text(head + tasks)
    plan = build_plan(load_documents([tmp_path / "w.yaml"], ["inputs.n=4"]), CONTEXT)
    assert plan.tasks[-1].script == "pick 5 8"


@pytest.mark.parametrize(
    ("given", "what", "hint"),
    [
        ("m=1", 'the workflow has no input "m"', "it has n, words, name, data"),
        ("word=1", 'the workflow has no input "word"', 'did you mean "words"?'),
        ("n=x", "input \"n\" of the workflow: wanted int, got the text 'x'", None),
        ("n=1.5", "input \"n\" of the workflow: wanted int, got the text '1.5'", None),
        ("words=a", "input \"words\" of the workflow: wanted list, got the text 'a'", "write JSON, as in '[1, 2]'"),
        ("n=@no-such-file", 'input "n" of the workflow: no-such-file cannot be read: No such file or directory',
         "name a file that is there, or write @@ for a text"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(tmp_path: Path, given: str, what: str, hint: str | None) -> None:
    first = refused(tmp_path, given)[0]
    assert (first.what, first.hint, first.where) == (what, hint, f"--input {given}")


def test_a_value_that_is_needed_is_asked_for_and_a_wrong_one_is_not_missing_too(tmp_path: Path) -> None:
    (finding,) = refused(tmp_path)
    assert finding.what == 'the workflow needs a value for its input "n", of type int'
    assert finding.hint == "give it with --input n=VALUE, or write a default into the file"
    assert finding.where is not None
    assert finding.where.endswith("w.yaml:4:15  workflow.inputs.n")
    assert [one.code for one in refused(tmp_path, "n=x")] == ["wrong-input"]


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        (
            "{n: {type: int, default: x}}",
            "input \"n\" of the workflow has a default of another type: wanted int, got str 'x'",
        ),
        (
            "{n: {default: '${{ 1 }}'}}",
            'input "n" of the workflow has an expression in its default, which must be a value',
        ),
        ("{'a b': int}", '"a b" cannot be the name of an input of the workflow'),
    ],
)
def test_a_wrong_declaration_of_an_input_is_refused(tmp_path: Path, inputs: str, what: str) -> None:
    assert what in [one.what for one in refused(tmp_path, head=f"inputs: {inputs}")]


# ---------------------------------------------------------------------- outputs


def resolved(folder: Path, outputs: str, values: dict[str, dict[str, Any]]) -> dict[str, RunOutput]:
    plan = planned(folder, "n=1", outputs=outputs)
    found = {
        task: {name: FoundOutput(name=name, kind="param", value=one) for name, one in named.items()}
        for task, named in values.items()
    }
    deferred = DeferredValues(plan, values, lambda _: None, EVALUATOR, found=found)
    return {one.name: one for one in resolve_outputs(plan.outputs, deferred)}


def test_outputs_are_those_of_tasks_lists_of_replicas_and_expressions(tmp_path: Path) -> None:
    outputs = (
        "{best: pick.outputs.best, all: {from: train.outputs.loss, type: list}, "
        "twice: '${{ task.pick.outputs.best * 2 }}', it: 3}"
    )
    values: dict[str, dict[str, Any]] = {
        "train_0": {"loss": 1.0},
        "train_2": {"loss": 3.0},
        "pick": {"best": 7},
    }
    found = resolved(tmp_path, outputs, values)
    assert {name: one.value for name, one in found.items()} == {
        "best": 7, "all": [1.0, None, 3.0], "twice": 14, "it": 3,
    }  # fmt: skip
    assert [one.problem for one in found.values()] == [""] * 4


def test_an_output_that_is_missing_has_its_default_or_says_why(tmp_path: Path) -> None:
    outputs = (
        "{a: pick.outputs.best, b: {from: pick.outputs.best, default: 0}, c: {from: pick.outputs.best, required: false}, "
        "d: '${{ task.pick.outputs.best }}', e: {value: '${{ task.pick.outputs.best }}', default: 1}}"
    )
    found = resolved(tmp_path, outputs, {})
    assert found["a"].problem == "it has no value: pick.outputs.best is missing"
    assert (found["b"].value, found["b"].is_default, found["c"].value, found["c"].problem) == (
        0,
        True,
        None,
        "",
    )
    assert found["d"].problem == "a task that it uses has no outputs: ${{ task.pick.outputs.best }}"
    assert found["e"].value == 1


def test_a_completed_run_fails_without_an_output_that_it_needs(tmp_path: Path) -> None:
    done = FinishRun(outcome=Outcome.COMPLETED, cause=None)
    found = resolved(tmp_path, "{a: pick.outputs.best, c: {from: pick.outputs.best, required: false}}", {})
    failed = with_outputs(done, list(found.values()))
    assert failed.outcome is Outcome.FAILED
    assert failed.cause is not None
    assert failed.cause.text == (
        'output "a" of the workflow is missing: it has no value: pick.outputs.best is missing'
    )
    assert with_outputs(done, [found["c"]]) is done
    stopped = FinishRun(outcome=Outcome.INTERRUPTED, cause=None)
    assert with_outputs(stopped, list(found.values())) is stopped


@pytest.mark.parametrize(
    ("outputs", "what"),
    [
        (
            "{a: pick.outputs.bets}",
            'output "a" of the workflow is from output "bets" of "pick", which it does not have',
        ),
        (
            "{a: {from: pick.outputs.best, type: list}}",
            'output "a" of the workflow: wanted list, and pick.outputs.best is a int',
        ),
        (
            "{a: '${{ task.pick.outputs.bets }}'}",
            'output "a" of the workflow uses the output "bets" of "pick", which it does not have',
        ),
        ("{a: '${{ task.pikc.outputs.best }}'}", 'output "a" of the workflow: "pikc" is not defined'),
        ("{a: {type: int}}", 'output "a" of the workflow needs exactly one of from and value, found none'),
        ("{a: {from: x}}", 'output "a" of the workflow is from "x", which is not an output'),
        (
            "{a: {from: [pick.outputs.best, train.outputs.loss]}}",
            'output "a" of the workflow has several sources',
        ),
        (
            "{a: {from: pick.outputs.best, pick: first_available}}",
            'output "a" of the workflow has pick, and not several sources',
        ),
        (
            "{a: {value: x, type: int}}",
            "output \"a\" of the workflow has a value of another type: wanted int, got str 'x'",
        ),
        (
            "{a: {value: 1, default: 2}}",
            'output "a" of the workflow has a value, so its default is never used',
        ),
        ("{a-b: 1}", '"a-b" cannot be the name of an output of the workflow'),
    ],
)
def test_a_wrong_output_of_the_workflow_is_refused(tmp_path: Path, outputs: str, what: str) -> None:
    found = [
        one.what.removeprefix("Failed to resolve task expression: ")
        for one in refused(tmp_path, "n=1", outputs=outputs)
    ]
    assert what in found, found
