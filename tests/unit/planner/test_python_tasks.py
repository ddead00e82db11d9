"""Tasks with `python`: the script that calls their function, and the program that does so, in an interpreter of its own."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import SpecError
from sflow_ctl.planner.launch.python.python_shim import OUTPUTS_VARIABLE, SOURCE_VARIABLE
from tests.unit.planner.planning import findings_of, plan_of

FUNCTIONS = """
import asyncio, collections, dataclasses, enum, functools, os, sys
from pathlib import Path
from typing import Annotated, Any
from sflow_task import FatalError, TransientError, progress

@dataclasses.dataclass
class Point:
    x: int
    y: int = 0

Pair = collections.namedtuple("Pair", "a b")

class Number:
    ndim = 0
    def item(self):
        return 7

def echo(value: Any = None, **others):
    return {"value": value, **others}

def typed(where: Path, point: Point, n: int = 3):
    return {"value": [type(where).__name__, type(point).__name__, n]}

def hinted(where: "Path", n: "int" = 3, *, flag: bool, **others: "Any"):
    return {"value": [type(where).__name__, n, flag, others]}

@functools.lru_cache
def cached(value, more=2):
    return {"value": value + more}

partly = functools.partial(echo, value=1)

class Made:
    def __init__(self, value): self.value = value
    def _asdict(self): return {"value": self.value}

async def later(value):
    await asyncio.sleep(0)
    return value

def point(): return Point(1, 2)
def pair(): return Pair(1, Number())
def two(): return (1, 2)
def nothing(): return None
def path(): return Path("/a/b")
def odd(): return {"value": {"deep": [1, object()]}}
def busy(): raise TransientError("the service is busy")
def wrong(): raise FatalError("the input is empty")
def broken(): return 1 / 0
def exits(): sys.exit(9)
def told():
    progress(1, 4)
    progress(2, 4, "half")
class TransientError2(TransientError): pass
def derived(): raise TransientError2("again")
def environment(): return {"value": sorted(name for name in os.environ if name.startswith("SFLOW_PYTHON"))}
not_a_function = 5
"""


def workflow(python: str, more: str = "") -> str:
    return f"workflow: {{name: w, tasks: [{{name: t, python: {python}{more}}}]}}"


def source(folder: Path) -> str:
    return plan_of(folder, workflow("a:b")).tasks[0].env[SOURCE_VARIABLE]


def call(
    folder: Path, function: str, outputs: list[str], inputs: dict[str, Any] | None = None, options: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Call a function as a task does."""
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "inputs.json").write_text(
        json.dumps({"schema": 1, "values": inputs or {}, "inputs": {}}) + "\n"
    )
    variables = {
        SOURCE_VARIABLE: source(folder),
        OUTPUTS_VARIABLE: json.dumps(outputs),
        "SFLOW_INPUTS_FILE": str(folder / "inputs.json"),
        "SFLOW_OUTPUTS_FILE": str(folder / "outputs.json"),
        "SFLOW_PROGRESS_FILE": str(folder / "progress"),
        "SFLOW_WORKSPACE_DIR": str(folder),
    }
    line = f'exec {sys.executable} {options} -c "$SFLOW_PYTHON_TASK" {function}'
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def outputs(
    folder: Path, function: str, names: list[str], inputs: dict[str, Any] | None = None, options: str = ""
) -> Any:
    done = call(folder, function, names, inputs, options)
    assert done.returncode == 0, done.stderr
    place = folder / "outputs.json"
    return json.loads(place.read_text()) if place.exists() else None


@pytest.mark.parametrize(
    ("function", "names", "inputs", "expected"),
    [
        ("echo", ["value"], {"value": [1, {"a": None}]}, {"value": [1, {"a": None}]}),
        ("echo", ["value", "more"], {"value": 1, "more": 2}, {"value": 1, "more": 2}),
        ("typed", ["value"], {"where": "/x", "point": {"x": 1}}, {"value": ["PosixPath", "Point", 3]}),
        (
            "hinted",
            ["value"],
            {"where": "/x", "flag": True, "a": 1},
            {"value": ["PosixPath", 3, True, {"a": 1}]},
        ),
        ("cached", ["value"], {"value": 5}, {"value": 7}),
        ("partly", ["value", "a"], {"a": 2}, {"value": 1, "a": 2}),
        ("Made", ["value"], {"value": 5}, {"value": 5}),
        ("later", ["value"], {"value": 5}, {"value": 5}),
        ("point", ["x", "y"], {}, {"x": 1, "y": 2}),
        ("point", ["p"], {}, {"p": {"x": 1, "y": 2}}),
        ("pair", ["a", "b"], {}, {"a": 1, "b": 7}),
        ("two", ["a", "b"], {}, {"a": 1, "b": 2}),
        ("two", ["both"], {}, {"both": [1, 2]}),
        ("nothing", ["a", "b"], {}, None),
        ("path", ["p"], {}, {"p": "/a/b"}),
        ("environment", ["value"], {}, {"value": []}),
    ],
)
def test_inputs_are_arguments_and_the_result_is_the_outputs(
    tmp_path: Path, function: str, names: list[str], inputs: dict[str, Any], expected: Any
) -> None:
    assert outputs(tmp_path, f"functions:{function}", names, inputs) == expected


SMALL = """
import sys
def plain(number: int, name: "str" = "x", *, more: list = ()) -> int:
    slow = {"re", "json", "inspect", "typing", "pathlib", "importlib.util", "traceback", "ast"} & set(sys.modules)
    return {"value": [number, name, more, __name__, __file__, __spec__.origin, sorted(slow)]}
"""


@pytest.mark.parametrize("place", ["small", "small.py"])
def test_a_function_that_needs_no_modules_imports_none(tmp_path: Path, place: str) -> None:
    (tmp_path / "small.py").write_text(SMALL)
    given = {"number": 3, "more": [1.5, None, 'a "b" \u20ac \\']}
    path = str(tmp_path / "small.py")
    expected = [3, "x", given["more"], "small", path, path, []]
    assert outputs(tmp_path, f"{place}:plain", ["value"], given, "-S") == {"value": expected}


def test_a_function_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "beside.py").write_text("VALUE = 5")
    (tmp_path / "lib" / "own.py").write_text(
        "import beside\nclass C:\n    @staticmethod\n    def f(): return beside.VALUE\n"
    )
    assert outputs(tmp_path, "lib/own.py:C.f", ["v"]) == {"v": 5}


@pytest.mark.parametrize(
    ("function", "status", "said"),
    [
        ("functions:busy", 75, "TransientError: the service is busy"),
        ("functions:derived", 75, "TransientError2: again"),
        ("functions:wrong", 64, "FatalError: the input is empty"),
        ("functions:broken", 1, "ZeroDivisionError: division by zero"),
        ("functions:exits", 9, ""),
        ("functions:absent", 64, "FatalError: functions has no absent"),
        ("functions:not_a_function", 64, "FatalError: functions:not_a_function is not a function"),
        ("no_such.module:f", 64, "has no module no_such; it looks in "),
        ("no_such.py:f", 64, "FatalError: there is no file "),
        (
            "functions:odd",
            64,
            "FatalError: the result['value']['deep'][1] is a object, which JSON does not have",
        ),
    ],
)
def test_failures_have_the_exit_status_of_their_class(
    tmp_path: Path, function: str, status: int, said: str
) -> None:
    done = call(tmp_path, function, ["value", "more"])
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "outputs.json").exists()
    assert "_arguments" not in done.stderr  # frames of ours say nothing to the user
    assert "<string>" not in done.stderr


def test_arguments_that_do_not_fit_are_said_by_name(tmp_path: Path) -> None:
    done = call(tmp_path, "functions:typed", [], {"where": "x", "speed": 1})
    assert (done.returncode, done.stderr) == (
        64,
        "FatalError: functions:typed has no parameter speed; it has where, point, n\n",
    )
    done = call(tmp_path, "functions:hinted", [], {"where": "x"})
    assert "FatalError: functions:hinted needs flag, which" in done.stderr
    done = call(tmp_path, "functions:cached", [], {"more": 1, "other": 1})
    assert "FatalError: functions:cached has no parameter other; it has value, more" in done.stderr
    done = call(tmp_path, "functions:typed", [], {"n": 1})
    assert "FatalError: functions:typed needs where, point, which the task has no inputs for" in done.stderr
    done = call(tmp_path, "functions:typed", [], {"where": "x", "point": {"x": "many"}})
    assert "FatalError: input point: " in done.stderr


def test_values_that_no_output_takes_are_said(tmp_path: Path) -> None:
    done = call(tmp_path, "functions:echo", ["value", "a"], {"value": 1, "b": 2})
    assert done.stderr == "dropped, because the task declares no such outputs: b\n"
    assert (
        "dropped, because the task declares no outputs: a list" in call(tmp_path, "functions:two", []).stderr
    )
    done = call(tmp_path, "functions:two", ["a", "b", "c"])
    assert (
        "functions:two returned list, and the task declares the outputs a, b, c: return a mapping"
        in done.stderr
    )


def test_progress_is_written_line_by_line(tmp_path: Path) -> None:
    assert call(tmp_path, "functions:told", []).returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert lines == [
        {"current": 1, "total": 4, "message": ""},
        {"current": 2, "total": 4, "message": "half"},
    ]


def test_the_program_is_small_and_old_interpreters_can_read_it(tmp_path: Path) -> None:
    text = source(tmp_path)
    assert len(text) < 10_000
    ast.parse(text, feature_version=(3, 8))


@pytest.mark.parametrize(
    ("python", "script"),
    [
        ("pkg.mod:f", 'exec python3 -c "$SFLOW_PYTHON_TASK" pkg.mod:f'),
        ("{module: 'a:f', interpreter: ./py}", 'exec ./py -c "$SFLOW_PYTHON_TASK" a:f'),
        ("{file: a b.py, function: g}", "exec python3 -c \"$SFLOW_PYTHON_TASK\" 'a b.py:g'"),
        ("{file: a.py}", 'exec python3 -c "$SFLOW_PYTHON_TASK" a.py:main'),
        ('"${{ workflow.name }}.py:f"', "exec python3 -c \"$SFLOW_PYTHON_TASK\" 'w.py:f'"),
    ],
)
def test_every_spelling_is_one_script(tmp_path: Path, python: str, script: str) -> None:
    assert plan_of(tmp_path, workflow(python)).tasks[0].script == script


def test_outputs_that_the_program_says_are_its_result(tmp_path: Path) -> None:
    more = ", outputs: {a: {kind: param}, b: {kind: metric, path: m.json, json: b}, c: {kind: metric}, d: {path: x}}"
    env = plan_of(tmp_path, workflow("m:f", more)).tasks[0].env
    assert json.loads(env[OUTPUTS_VARIABLE]) == ["a", "c"]


@pytest.mark.parametrize(
    "python", ["f", "':f'", "'m:'", "{function: f}", "{module: 'm:f', file: a.py}", "''"]
)
def test_what_does_not_name_a_function_is_refused(tmp_path: Path, python: str) -> None:
    with pytest.raises(SpecError) as raised:
        plan_of(tmp_path, workflow(python))
    (finding,) = raised.value.findings
    assert finding.what == 'python of task "t" does not name a function'
    assert "python" in (finding.where or "")


def test_a_script_beside_a_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as raised:
        plan_of(tmp_path, workflow("m:f", ", script: [x]"))
    assert [one.what for one in raised.value.findings] == ['task "t" has both python and script']


def test_an_operator_for_scripts_in_python_is_refused(tmp_path: Path) -> None:
    text = f"operators: [{{name: p, type: python}}]\n{workflow('m:f', ', operator: p')}"
    (finding,) = findings_of(tmp_path, text)
    assert finding.what == 'task "t" has python, and its operator "p" takes scripts in Python'
