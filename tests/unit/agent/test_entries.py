"""Outputs of an attempt for several items: one entry for each, what null means, and what is wrong with an entry."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.messages.handover import GIVEN_VALUES, MAX_VALUE_BYTES, FileSelection, OutputRule, ValueFile
from protocol.messages.rank_spec import TaskFile
from sflow_agent.files.task_files import content_of
from sflow_agent.handover.finding import SearchResult, find_outputs

GIVEN = FileSelection(globs=())
RULE = OutputRule(name="n", kind="param", type="int", selection=GIVEN)


def found(folder: Path, value: Any, rule: OutputRule = RULE, **fields: Any) -> SearchResult:
    (folder / GIVEN_VALUES).write_text(json.dumps({"n": value}))
    given = {"counts_all": True, "items": (4, 7, 9), **fields}
    return find_outputs(str(folder), (rule,), 1, **given)


def test_each_entry_has_the_type_of_the_output(tmp_path: Path) -> None:
    (output,) = found(tmp_path, [1, 2.0, 3]).outputs
    assert (output.value, output.lacking, output.kind) == ([1, 2, 3], (), "param")
    metric = found(tmp_path, [1, 2, 3], OutputRule(name="n", kind="metric", selection=GIVEN)).outputs[0]
    assert [type(one) for one in metric.value] == [float, float, float]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([1, 2], "wanted a list with 3 entries, one for each item of its chunk, got one with 2"),
        (5, "wanted a list with 3 entries, one for each item of its chunk, got "),
        (
            [1, "x", None],
            "its output n: for item 7 wanted int, got str 'x', for item 9 wanted int, got null",
        ),
    ],
)
def test_what_is_not_one_entry_for_each_item_is_a_problem(tmp_path: Path, value: Any, problem: str) -> None:
    result = found(tmp_path, value)
    assert problem in result.problem
    assert not result.is_missing


def test_entries_beside_a_wrong_one_are_kept(tmp_path: Path) -> None:
    result = found(tmp_path, [1, "x", 3])
    assert "for item 7" in result.problem
    (output,) = result.outputs
    assert (output.value, output.lacking) == ([1, None, 3], (1,))


def test_null_is_the_default_or_nothing_where_none_is_needed(tmp_path: Path) -> None:
    with_default = OutputRule(
        name="n", kind="param", type="int", selection=GIVEN, has_default=True, default=5
    )
    (output,) = found(tmp_path, [1, None, 3], with_default).outputs
    assert (output.value, output.lacking) == ([1, 5, 3], ())
    optional = OutputRule(name="n", kind="param", type="int", is_required=False, selection=GIVEN)
    (output,) = found(tmp_path, [1, None, 3], optional).outputs
    assert (output.value, output.lacking) == ([1, None, 3], (1,))
    (output,) = found(tmp_path, [1, None, 3], OutputRule(name="n", kind="param", selection=GIVEN)).outputs
    assert (output.value, output.lacking) == ([1, None, 3], ())
    (tmp_path / GIVEN_VALUES).write_text("{}")
    (output,) = find_outputs(str(tmp_path), (with_default,), 1, counts_all=True, items=(1, 2)).outputs
    assert (output.value, output.is_default) == ([5, 5], True)


def test_an_attempt_that_has_failed_keeps_what_is_not_null(tmp_path: Path) -> None:
    result = found(tmp_path, [1, None, "x"], has_failed=True)
    assert not result.problem
    (output,) = result.outputs
    assert (output.value, output.lacking) == ([1, None, None], (1, 2))
    (tmp_path / GIVEN_VALUES).unlink()
    assert not find_outputs(str(tmp_path), (RULE,), 1, counts_all=True, items=(1,), has_failed=True).outputs


def test_a_large_list_is_a_file_of_which_entries_are_taken(tmp_path: Path) -> None:
    text = "a" * MAX_VALUE_BYTES
    (output,) = found(tmp_path, ["b", text, "c"], OutputRule(name="n", kind="param", selection=GIVEN)).outputs
    assert output.is_large
    values = (ValueFile(placeholder="\x01x\x01", path=output.path, entry=1),)
    file = TaskFile(path="f", content=json.dumps({"n": ["\x01x\x01"]}), values=values)
    assert json.loads(content_of(file)) == {"n": [text]}
