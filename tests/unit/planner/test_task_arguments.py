"""Arguments of tasks as flags and as JSON, and tasks that must be distributed."""

import json
import shlex
from pathlib import Path

import pytest

from protocol.errors import SpecError
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.planner.launch.flags import flags
from tests.unit.planner.planning import findings_of, plan_of


def task(folder: Path, fields: str, script: str = "p ${{ args }}", more: str = "") -> PlannedTask:
    text = f"{more}workflow: {{name: w, tasks: [{{name: t, script: ['{script}'], {fields}}}]}}\n"
    return plan_of(folder, text).tasks[0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"lr": 0.1, "name_of": "x"}, ["--lr", "0.1", "--name_of", "x"]),
        ({"on": True, "off": False, "none": None}, ["--on"]),
        ({"-b": 4, "--long": "v"}, ["-b", "4", "--long", "v"]),
        ({"text": "it's $HOME `x` \n;"}, ["--text", "it's $HOME `x` \n;"]),
        ({"empty": ""}, ["--empty", ""]),
        ({"delta": -1, "-n": -2}, ["--delta=-1", "-n", "-2"]),
        ({"map": {"a": [1]}}, ["--map", '{"a":[1]}']),
        ({"no": [], "holes": [1, None, 2]}, ["--holes", "1", "2"]),
        ({"flags": [True, False]}, ["--flags", "true", "false"]),
    ],
)
def test_arguments_are_quoted_flags(args: dict[str, object], words: list[str]) -> None:
    assert shlex.split(flags(args, "joined")) == words


def test_lists_have_three_forms() -> None:
    assert flags({"x": [1, "a b"]}, "joined") == "--x 1 'a b'"
    assert flags({"x": [1, -2]}, "repeated") == "--x 1 --x=-2"
    assert flags({"x": [1, 2]}, "commas") == "--x 1,2"


def test_a_script_has_them_with_expressions_evaluated_and_numbers_as_written(tmp_path: Path) -> None:
    fields = "replicas: {variables: [LR]}, args: {lr: '${{ LR }}', eps: 1e-4, seed: '${{ replica.index }}'}"
    more = "variables: {LR: {value: 0.10, domain: [0.10, 0.2]}}\n"
    assert task(tmp_path, fields, more=more).script == "p --lr 0.10 --eps 1e-4 --seed 0"


def test_a_file_has_them_as_json(tmp_path: Path) -> None:
    found = task(
        tmp_path, "args: {lr: 0.1, m: {a: [true, null]}}, args_json: a.json", "p --config ${{ args_json }}"
    )
    assert found.script == 'p --config "$SFLOW_TASK_FILES_DIR"/a.json'
    assert [(file.path, json.loads(file.content)) for file in found.files] == [
        ("a.json", {"lr": 0.1, "m": {"a": [True, None]}})
    ]


def test_a_variable_of_the_name_hides_them(tmp_path: Path) -> None:
    assert task(tmp_path, "args: {a: 1}", more="variables: {args: own}\n").script == "p own"


@pytest.mark.parametrize(
    ("fields", "script", "code"),
    [
        ("args: {a: 1}", "p", "unused-args"),
        ("args: {'a b': 1}", "p ${{ args }}", "wrong-name"),
        ("args: {a: 1}, args_json: /x", "p", "wrong-value"),
        ("args: {a: 1}, args_json: ../x", "p", "wrong-value"),
        ("args: {a: 1}, args_json: x, files: {x: y}", "p", "wrong-value"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, fields: str, script: str, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        task(tmp_path, fields, script)
    assert [one.code for one in caught.value.findings] == [code]


GPUS = "backends: {here: {type: local, gpus_per_node: 4}}\n"


@pytest.mark.parametrize(
    ("fields", "is_distributed"),
    [
        ("launcher: torchrun, resources: {gpus: 2}", True),
        ("launcher: {type: torchrun, nproc: auto}, resources: {gpus: 4}", True),
        ("launcher: {type: torchrun, nproc: 2}", True),
        ("launcher: torchrun", False),
        ("launcher: torchrun, resources: {gpus: 1}", False),
        ("resources: {gpus: 4}", False),
    ],
)
def test_a_task_that_must_be_distributed_is_refused_otherwise(
    tmp_path: Path, fields: str, is_distributed: bool
) -> None:
    text = f"{GPUS}workflow: {{name: w, tasks: [{{name: t, script: [torchrun x], requires: distributed, {fields}}}]}}\n"
    if is_distributed:
        assert plan_of(tmp_path, text).tasks[0].launcher is not None
    else:
        (found,) = findings_of(tmp_path, text)
        assert found.code == "not-distributed"


def test_auto_is_the_number_of_gpus(tmp_path: Path) -> None:
    found = task(
        tmp_path, "launcher: {type: torchrun, nproc: auto}, resources: {gpus: 3}", "torchrun x", GPUS
    )
    assert found.launcher is not None
    assert found.launcher.processes == 3


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("$HOME/data", "$HOME"),
        ("run-${SLURM_JOB_ID}", "${SLURM_JOB_ID}"),
        ("a-$(date +%s)", "$(date +%s)"),
        ("`hostname`", "`hostname`"),
        ("~/data", "~"),
        ("out.txt 2>&1", "2>&1"),
        ("a | tee log", "|"),
        ("| tee log", "|"),
        ("a && b", "&&"),
        (["x", "$USER"], "$USER"),
        ("${{ LR }}-$USER", "$USER"),
    ],
)
def test_what_only_a_shell_acts_on_is_warned_of_in_arguments(
    tmp_path: Path, value: object, found: str
) -> None:
    warning = literal(tmp_path, value)
    assert warning is not None
    assert f'task "t": the program gets `{found}` of args.x as it is: args are quoted' in warning


@pytest.mark.parametrize(
    "value",
    [
        "a; b",
        "*.pt",
        "^a$",
        "R&D",
        "cost: 5$",
        "a~b",
        "{a: 1}",
        "x > y?",
        "1<2",
        "https://h/?a=1&b=2",
        "${{ LR }}",
        3,
    ],
)
def test_what_programs_are_given_as_well_is_not_warned_of(tmp_path: Path, value: object) -> None:
    assert literal(tmp_path, value) is None


def literal(folder: Path, value: object) -> str | None:
    """Return the warning about an argument, if there is one."""
    fields = f"script: ['p ${{{{ args }}}}'], args: {{x: {json.dumps(value)}}}"
    text = f"variables: {{LR: 1}}\nworkflow: {{name: w, tasks: [{{name: t, {fields}}}]}}"
    found = [one for one in plan_of(folder, text).warnings if one.code == "literal-args"]
    assert len(found) <= 1
    return None if not found else found[0].what
