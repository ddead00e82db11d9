"""`Workflow`: what is built in Python is the file that the commands take."""

import enum
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sflow_ctl.api import FleetError, StartError, Workflow
from sflow_ctl.format.yaml_source import read_source
from tests.support import EXAMPLES

EXAMPLE_FILES = sorted(EXAMPLES.glob("*.yaml"), key=lambda path: path.name)


class Size(enum.Enum):
    LARGE = "large"


@dataclass
class Point:
    x: int


class Model(BaseModel):
    rate: float


@pytest.mark.parametrize("path", EXAMPLE_FILES, ids=lambda path: path.name)
def test_a_file_is_the_same_after_a_round_trip(path: Path) -> None:
    workflow = Workflow.from_yaml(path)
    again = Workflow.from_yaml(workflow.to_yaml())
    assert again.document() == workflow.document()
    read, findings = read_source(path)
    assert not findings
    assert read is not None
    assert workflow.document() == read.data


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.dictionaries(st.from_regex(r"[A-Z]{1,8}", fullmatch=True), VALUES, max_size=4))
def test_values_of_variables_survive_the_file(values: dict[str, Any]) -> None:
    workflow = Workflow("w", variables=values)
    read = yaml.safe_load(workflow.to_yaml())
    given_values = {name: one["value"] for name, one in (read.get("variables") or {}).items()}
    assert given_values == values


def test_values_of_python_become_those_of_a_file(tmp_path: Path) -> None:
    values = {
        "SIZE": Size.LARGE,
        "POINT": Point(1),
        "MODEL": Model(rate=0.5),
        "PLACE": tmp_path,
        "NUMBERS": (1, 2),
    }
    workflow = Workflow("w", variables=values, timeout=timedelta(minutes=2))
    workflow.task("a", "true", finally_=True)
    document = workflow.document()
    assert {name: one["value"] for name, one in document["variables"].items()} == {
        "SIZE": "large",
        "POINT": {"x": 1},
        "MODEL": {"rate": 0.5},
        "PLACE": str(tmp_path),
        "NUMBERS": [1, 2],
    }
    assert document["workflow"]["timeout"] == 120
    assert document["workflow"]["tasks"] == [{"name": "a", "script": "true", "finally": True}]


def test_a_task_names_those_it_depends_on() -> None:
    workflow = Workflow("w")
    first = workflow.task("first", "true")
    second = workflow.task("second", ["true"], depends_on=first)
    third = workflow.task("third", "true", depends_on=[first, "second", {"name": "second", "until": "ended"}])
    assert second["depends_on"] == ["first"]
    assert third["depends_on"] == ["first", "second", {"name": "second", "until": "ended"}]
    assert [one.name for one in workflow.tasks] == ["first", "second", "third"]


def test_a_field_that_the_format_does_not_have_is_refused() -> None:
    workflow = Workflow("w")
    with pytest.raises(FleetError, match=r'task "a" has no field "scrip"\n  hint:  did you mean "script"'):
        workflow.task("a", scrip="true")
    with pytest.raises(
        FleetError, match=r'a workflow has no field "tiemout"\n  hint:  did you mean "timeout"'
    ):
        Workflow("w", tiemout=5)
    task = workflow.task("a", "true")
    with pytest.raises(FleetError, match='has no field "retry"'):
        task["retry"] = 3
    task["retries"] = 3
    assert workflow["a"].fields == {"script": "true", "retries": 3}


def test_two_tasks_of_one_name_are_refused() -> None:
    workflow = Workflow("w")
    workflow.task("a", "true")
    with pytest.raises(FleetError, match='there is a task "a" already'):
        workflow.task("a", "false")


def test_a_value_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(FleetError, match="a value of type object cannot be written to a file"):
        Workflow("w", variables={"A": object()})


def test_a_text_without_a_workflow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="no section `workflow`"):
        Workflow.from_yaml("a: 1\nb: 2\n")
    with pytest.raises(FleetError, match="no-such"):
        Workflow.from_yaml(tmp_path / "no-such.yaml")


def test_check_finds_what_validate_finds(tmp_path: Path) -> None:
    workflow = Workflow("w")
    workflow.task("a", "true", depends_on="b")
    (finding,) = workflow.check(workspace=tmp_path)
    assert finding.code == "unknown-dependency"
    assert (workflow.check(), list(tmp_path.iterdir())) == ([finding], [])
    workflow.task("b", "true")
    assert workflow.check() == []


def test_a_workflow_that_cannot_begin_raises_with_all_findings(tmp_path: Path) -> None:
    workflow = Workflow("w")
    workflow.task("a", "true", depends_on="b", timeout="soon")
    with pytest.raises(StartError, match="soon") as caught:
        workflow.run(workspace=tmp_path)
    assert caught.value.exit_status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_the_graph() -> None:
    workflow = Workflow("w")
    workflow.task("prepare", "true")
    shown = workflow._repr_html_()
    assert "prepare" in shown
    assert "<svg" in shown or "<pre>" in shown


def test_tasks_may_be_a_mapping_by_name() -> None:
    text = 'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n    a: {script: ["true"]}\n    b: {script: ["true"], depends_on: a}\n'
    read = Workflow.from_yaml(text)
    assert read["b"].fields == {"script": ["true"], "depends_on": "a"}
    assert [task["name"] for task in yaml.safe_load(read.to_yaml())["workflow"]["tasks"]] == ["a", "b"]


@pytest.mark.parametrize(("tasks", "where"), [("[1]", "[0]"), ("{a: text}", ".a"), ("7", "[0]")])
def test_a_task_that_is_no_mapping_is_refused_with_its_place(tasks: str, where: str) -> None:
    with pytest.raises(FleetError) as raised:
        Workflow.from_yaml(f"workflow:\n  name: w\n  tasks: {tasks}\n")
    assert f"workflow.tasks{where}" in str(raised.value)
