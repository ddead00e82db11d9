"""Values in `outputs.json`, and again for a run that continues: numbers that JSON lacks, the order, secrets."""

import math
from typing import Any

import msgspec
import pytest

from sflow_ctl.plan.results import PlannedMetric, PlannedOutput
from sflow_ctl.results.outputs import collect
from sflow_ctl.results.recorded import has_masked, outputs_document, values_of

PLANNED = (
    PlannedOutput(pattern="z = {z:f}"),
    PlannedOutput(json="a", name="a/b~c", metrics=(PlannedMetric(name="m"),)),
    PlannedOutput(pattern="b = {b}"),
)


def stored(values: dict[str, Any], metrics: dict[str, Any] | None = None) -> Any:
    """Return the document as it is read from a file."""
    return msgspec.json.decode(
        msgspec.json.encode(outputs_document("t", values, metrics or {}, []), order="sorted")
    )


@pytest.mark.parametrize(
    "value",
    [math.inf, -math.inf, math.nan, [1, math.inf, [math.nan]], {"x": {"y/~": [math.inf]}}, "inf", None],
)
def test_l2_numbers_that_json_lacks_are_the_same_after_a_resume(value: Any) -> None:
    document = stored({"a/b~c": value}, {"m": math.inf})
    assert repr(values_of(document, PLANNED)) == repr({"a/b~c": value, "m": math.inf})


def test_values_keep_the_order_of_the_plan() -> None:
    names = [*(values_of(stored({"z": 1.0, "a/b~c": 2, "b": "x"}, {"m": 3, "other": 4}), PLANNED) or {})]
    assert names == ["z", "a/b~c", "b", "m", "other"]


@pytest.mark.parametrize(
    "document",
    [[], {"outputs": []}, {"outputs": {}, "not_finite": 1}, {"outputs": {}, "metrics": None}],
)
def test_a_file_that_is_not_ours_has_no_values(document: Any) -> None:
    assert values_of(document, PLANNED) is None


def test_marks_that_lead_nowhere_change_nothing() -> None:
    marks = {
        "/outputs/x/1": "inf",
        "/outputs/z/0": "inf",
        "/outputs/l/9": "nan",
        "": "inf",
        "/outputs/z": "x",
    }
    document = {"outputs": {"z": 1.0, "l": [1]}, "not_finite": marks}
    assert values_of(document, PLANNED) == {"z": 1.0, "l": [1]}


def test_s6_a_value_whose_secret_is_not_recorded_is_known() -> None:
    assert has_masked({"a": ["x", {"***TOKEN***": 1}]}, ["TOKEN"])
    assert has_masked("http://h/?t=***TOKEN***", ["OTHER", "TOKEN"])
    assert not has_masked({"a": "***OTHER***", "b": 5}, ["TOKEN"])


def test_l4_one_value_that_cannot_be_read_loses_no_other() -> None:
    outputs = [
        PlannedOutput(pattern="v = {v:d}"),
        PlannedOutput(pattern="at {at:ti}"),
        PlannedOutput(pattern="w = {w:d}"),
    ]
    lines = [f"v = {'9' * 5000}\n", "at 2024-13-45\n", f"w = {'9' * 400}\n", "v = 7\n", "at 2024-01-02\n"]
    found = collect(outputs, lambda _source: lines)
    assert found.values == {"v": 7, "at": "2024-01-02T00:00:00", "w": "9" * 400}
    assert len(found.problems) in (1, 2)
    assert 'pattern "v = {v:d}" found a value that cannot be read in "v = 999' in found.problems[0]
