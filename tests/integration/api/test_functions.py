"""`@task`: Python functions whose annotations are the inputs and outputs of tasks, in real runs."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from protocol.errors import SpecError
from sflow_ctl.api import TaskOutput, Workflow, task

MODULE = """
import dataclasses
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field
from sflow_ctl.api import TransientError, progress, task

class Data(NamedTuple):
    rows: list[int]
    mean: float

class Settings(BaseModel):
    rate: Annotated[float, Field(gt=0)]
    steps: int = 2

@dataclasses.dataclass
class Fit:
    weight: float
    kind: str

@task
def load(n: int) -> Data:
    progress(n, n)
    return Data(list(range(n)), (n - 1) / 2)

@task(retries={"count": 1, "interval": "0s"})
def fit(rows: list[int], settings: Settings, again: Path) -> Fit:
    assert isinstance(settings, Settings)
    if not again.exists():
        again.touch()
        raise TransientError("once more")
    return Fit(sum(rows) * settings.rate * settings.steps, "linear")

@task
def shout(kind: str, times: Annotated[int, Field(ge=1, le=3)] = 2) -> str:
    return kind.upper() * times
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a user, in a folder of its own."""
    (tmp_path / "steps_of_tests.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "steps_of_tests", raising=False)
    import steps_of_tests  # type: ignore[import-not-found]

    return steps_of_tests


def test_functions_hand_values_to_each_other(tmp_path: Path, module: Any) -> None:
    work = tmp_path / "work"
    work.mkdir()
    wf = Workflow("functions")
    data = wf.call(module.load, n=4)
    made = wf.call(
        module.fit,
        rows=data.output("rows"),
        settings={"rate": 0.5},
        again=tmp_path / "again",
    )
    wf.call(module.shout.options(name="loud"), kind=made.output("kind"))
    wf.task("print", script=f"echo mean {data.output('mean')}", depends_on=data)
    run = wf.run(workspace=work)
    assert run.status().outcome == "completed", run.logs()
    assert run.outputs()["fit"] == {"weight": 6.0, "kind": "linear"}
    assert run.outputs()["loud"] == {"result": "LINEARLINEAR"}
    assert "mean 1.5" in run.logs("print")
    assert {one.name: one.attempts for one in run.instances()}["fit"] == 2
    again = Workflow.from_yaml(wf.to_yaml())
    assert again.document() == wf.document()


def test_a_function_is_still_one(module: Any) -> None:
    assert module.shout("a", times=3) == "AAA"
    assert module.load(2).rows == [0, 1]
    assert module.shout.__name__ == "shout"


def test_the_schema_of_arguments(module: Any) -> None:
    schema = module.shout.input_schema()
    assert schema["required"] == ["kind"]
    assert schema["properties"]["times"] == {
        "default": 2, "maximum": 3, "minimum": 1, "title": "Times", "type": "integer",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "shout needs an argument kind"),
        ({"kind": "a", "loud": 1}, "shout has no parameter loud; it has kind, times"),
        ({"kind": "a", "times": 9}, "shout: times is 9: Input should be less than or equal to 3"),
        ({"kind": ["a"]}, "shout: kind is ['a']: Input should be a valid string"),
    ],
)
def test_arguments_that_do_not_fit(module: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as raised:
        Workflow("w").call(module.shout, **arguments)
    assert [one.what for one in raised.value.findings] == [said]


def test_a_function_that_no_task_could_find() -> None:
    @task
    def inner(a: Annotated[int, Field(ge=1)]) -> int:
        return a

    with pytest.raises(SpecError, match="is inside of another function"):
        Workflow("w").call(inner, a=1)


def test_outputs_in_inputs_and_texts() -> None:
    wf = Workflow("w")
    made = wf.task("a", script="x", outputs={"b": {"kind": "param"}})
    wf.task("c", script=["echo", str(made.output("b"))], inputs={"v": made.output("b")})
    wf.task("d", script="x", variables={"V": {"value": made.output("b")}})
    assert wf["c"]["inputs"] == {"v": {"from": "a.outputs.b"}}
    assert wf["c"]["script"] == ["echo", "${{ task.a.outputs.b }}"]
    assert wf["d"]["variables"]["V"]["value"] == "${{ task.a.outputs.b }}"
    assert isinstance(made.output(), TaskOutput)


def test_a_module_with_tasks_imports_fast() -> None:
    code = "import sys; from sflow_ctl.api import task, progress; print(sorted({'pydantic', 'yaml', 'zmq'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
