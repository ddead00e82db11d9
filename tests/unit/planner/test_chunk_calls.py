"""Functions that are called for each item of a chunk, in an interpreter of their own: what is returned, kept and repeated."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sflow_ctl.planner.launch.python.python_shim import OUTPUTS_VARIABLE, SOURCE_VARIABLE
from tests.unit.planner.planning import plan_of

FUNCTIONS = """
import os, signal, sys
from pathlib import Path
from sflow_task import FatalError, TransientError

def square(number: int) -> int:
    with open("calls", "a") as file:
        file.write(f"{number} ")
    if Path("bad").exists() and str(number) in Path("bad").read_text().split():
        kind = Path("kind").read_text()
        if kind == "transient":
            raise TransientError("later")
        if kind == "fatal":
            raise FatalError("never")
        if kind == "exit":
            sys.exit(9)
        if kind == "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("wrong")
    return number * number

async def two(number, add=0):
    return {"a": number, "b": number + add}

def where():
    Path(os.environ["SFLOW_TASK_OUTPUT_DIR"], "file").write_text(os.environ["SFLOW_ITEM"])
    return [os.environ["SFLOW_ITEM"], os.environ["SFLOW_ITEM_INDEX"]]
"""


class Call:
    """A task's directory, and the calls in it."""

    def __init__(self, folder: Path, parallel: int = 1) -> None:
        text = "workflow: {name: w, tasks: [{name: t, python: a:b, foreach: {count: 9, chunk: 9}}]}"
        self.folder, self.parallel = folder, parallel
        self.source = plan_of(folder, text).tasks[0].env[SOURCE_VARIABLE]
        (folder / "functions.py").write_text(FUNCTIONS)

    def fail(self, kind: str, *numbers: int) -> None:
        (self.folder / "kind").write_text(kind)
        (self.folder / "bad").write_text(" ".join(map(str, numbers)))

    def __call__(
        self,
        function: str,
        names: list[str],
        values: dict[str, Any],
        per_item: dict[str, list[int]],
        items: list[Any],
    ) -> int:
        (self.folder / "outputs.json").unlink(missing_ok=True)
        (self.folder / "calls").unlink(missing_ok=True)
        about = {
            name: {"is_per_item": True, "lacking": lacking, "from": "x"} for name, lacking in per_item.items()
        }
        (self.folder / "inputs.json").write_text(json.dumps({"values": values, "inputs": about}))
        variables = {
            SOURCE_VARIABLE: self.source,
            OUTPUTS_VARIABLE: json.dumps(names),
            "SFLOW_INPUTS_FILE": str(self.folder / "inputs.json"),
            "SFLOW_OUTPUTS_FILE": str(self.folder / "outputs.json"),
            "SFLOW_PROGRESS_FILE": str(self.folder / "progress"),
            "SFLOW_TASK_OUTPUT_DIR": str(self.folder),
            "SFLOW_WORKSPACE_DIR": str(self.folder),
            "SFLOW_ITEM": json.dumps(items),
            "SFLOW_ITEM_INDEX": json.dumps([10 + index for index in range(len(items))]),
            "SFLOW_CHUNK_PARALLEL": str(self.parallel),
        }
        line = f'exec {sys.executable} -c "$SFLOW_PYTHON_TASK" functions:{function}'
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        self.said = done.stderr
        return done.returncode

    def square(self, *numbers: int, lacking: tuple[int, ...] = ()) -> int:
        return self("square", ["n"], {"number": list(numbers)}, {"number": list(lacking)}, list(numbers))

    @property
    def outputs(self) -> Any:
        return json.loads((self.folder / "outputs.json").read_text())

    @property
    def calls(self) -> list[int]:
        path = self.folder / "calls"
        return sorted(map(int, path.read_text().split())) if path.exists() else []


@pytest.fixture(params=[1, 3])
def call(tmp_path: Path, request: pytest.FixtureRequest) -> Call:
    return Call(tmp_path, request.param)


def test_each_output_is_a_list_with_an_entry_for_each_item(call: Call) -> None:
    assert call.square(1, 2, 3, 4, 5) == 0, call.said
    assert call.outputs == {"n": [1, 4, 9, 16, 25]}
    assert not (call.folder / ".sflow_items").exists()
    assert json.loads((call.folder / "progress").read_text().splitlines()[-1])["current"] == 5
    assert call("two", ["a", "b"], {"number": [1, 2], "add": 5}, {"number": []}, [1, 2]) == 0
    assert call.outputs == {"a": [1, 2], "b": [6, 7]}


def test_a_call_sees_its_own_item_and_directory(call: Call) -> None:
    assert call("where", ["n"], {}, {}, ["a", {"x": 1}]) == 0, call.said
    assert call.outputs == {"n": [["a", "10"], ['{"x":1}', "11"]]}
    assert (call.folder / "item_10" / "file").read_text() == "a"


@pytest.mark.parametrize(("kind", "status"), [("value", 1), ("transient", 75), ("fatal", 64), ("exit", 9)])
def test_one_item_fails_and_the_others_have_their_results(call: Call, kind: str, status: int) -> None:
    call.fail(kind, 2)
    assert call.square(1, 2, 3) == status
    assert call.outputs == {"n": [1, None, 9]}
    assert "1 of 3 items failed: 11" in call.said


def test_only_items_without_a_result_are_called_again(call: Call) -> None:
    call.fail("value", 2, 3)
    assert call.square(1, 2, 3) == 1
    call.fail("value", 3)
    assert call.square(1, 2, 3) == 1
    assert call.calls == [2, 3]
    assert call.outputs == {"n": [1, 4, None]}
    call.fail("value")
    assert call.square(1, 2, 3) == 0
    assert call.calls == [3]
    assert call.outputs == {"n": [1, 4, 9]}
    assert call.square(1, 2, 3) == 0
    assert call.calls == [1, 2, 3], "a chunk that had succeeded is run whole"


def test_what_fails_for_ever_is_not_called_again(call: Call) -> None:
    call.fail("fatal", 2)
    assert call.square(1, 2, 3) == 64
    assert call.square(1, 2, 3) == 64
    assert call.calls == []
    assert call.outputs == {"n": [1, None, 9]}


@pytest.mark.parametrize("what", ["function", "arguments"])
def test_results_of_other_work_do_not_count(call: Call, what: str) -> None:
    call.fail("value", 2)
    assert call.square(1, 2, 3) == 1
    call.fail("value")
    if what == "function":
        (call.folder / "functions.py").write_text(FUNCTIONS.replace("number * number", "number * 10"))
        assert call.square(1, 2, 3) == 0
        assert call.outputs == {"n": [10, 20, 30]}
    else:
        assert call.square(4, 2, 3) == 0
        assert call.calls == [2, 4]
        assert call.outputs == {"n": [16, 4, 9]}


def test_an_item_without_an_input_is_not_called(call: Call) -> None:
    assert call.square(1, 2, 3, lacking=(0,)) == 64
    assert call.calls == [2, 3]
    assert call.outputs == {"n": [None, 4, 9]}
    assert "its input number, from x, has no value for this item" in call.said


def test_a_process_that_is_killed_takes_only_its_item_with_it(tmp_path: Path) -> None:
    call = Call(tmp_path, 2)
    call.fail("signal", 2)
    assert call.square(1, 2, 3) == 137
    assert call.outputs == {"n": [1, None, 9]}
    assert "item 11 failed: its process was ended by SIGKILL" in call.said
