"""Keys of tasks: what they may hold, and which are refused."""

from pathlib import Path

import pytest

from tests.unit.planner.planning import findings_of, plan_of


def workflow(key: str, more: str = "") -> str:
    return (
        "variables: {LR: {value: 0.1, domain: [0.1, 0.2]}}\nworkflow:\n  name: w\n  inputs: {tag: {type: str, default: x}}\n"
        f"  tasks:\n    train:\n      key: {key}\n      script: [train]\n{more}"
    )


def keys(folder: Path, key: str, more: str = "") -> list[str]:
    return [task.key for task in plan_of(folder, workflow(key, more)).tasks]


def test_a_key_may_use_copies_swept_values_inputs_and_those_of_the_workflow(tmp_path: Path) -> None:
    assert keys(tmp_path, "'fit-${{ replica.index }}'", "      replicas: 2\n") == ["fit-0", "fit-1"]
    swept = "      replicas: {variables: [LR]}\n"
    assert keys(tmp_path, "'lr=${{ variables.LR }}'", swept) == ["lr=0.1", "lr=0.2"]
    assert keys(tmp_path, "'n/${{ inputs.n }}/${{ workflow.inputs.tag }}'", "      inputs: {n: 3}\n") == [
        "n/3/x"
    ]


@pytest.mark.parametrize(
    ("key", "more", "what"),
    [
        ("fit", "      replicas: 2\n", 'tasks "train_0" and "train_1" have the same key "fit"'),
        ("a b", "", 'task "train" has the key "a b", which cannot be one'),
        ("'-x'", "", 'task "train" has the key "-x", which cannot be one'),
        (f"'{'x' * 201}'", "", f'task "train" has the key "{"x" * 200}", which cannot be one'),
        (
            "other",
            "    other: {script: [x]}\n",
            'the key "other" of task "train" is the name of another task',
        ),
    ],
)
def test_a_wrong_key_is_refused(tmp_path: Path, key: str, more: str, what: str) -> None:
    (finding,) = findings_of(tmp_path, workflow(key, more))
    assert finding.what == what
    assert finding.where is not None
    assert finding.where.endswith("workflow.tasks.train.key")


def test_a_key_cannot_use_what_is_known_only_when_its_task_starts(tmp_path: Path) -> None:
    more = "      inputs: {n: {from: prep.outputs.n}}\n    prep: {script: [x], outputs: {n: {type: int}}}\n"
    (finding,) = findings_of(tmp_path, workflow("'fit-${{ inputs.n }}'", more))
    assert finding.what.startswith('the key of task "train": unknown name "n"')
    assert finding.hint is not None
    assert "known when planned" in finding.hint


def test_files_that_a_task_reads_are_in_its_plan(tmp_path: Path) -> None:
    more = "      inputs: {d: {path: data.csv}, n: 3}\n    f: {python: 'lib/f.py:main'}\n    m: {python: 'pkg.mod:main'}\n"
    plan = plan_of(tmp_path, workflow("k", more))
    assert [task.reads for task in plan.tasks] == [("/ws/data.csv",), ("/ws/lib/f.py",), ()]
