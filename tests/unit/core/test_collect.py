"""Outputs from several sources, and what metrics make of them."""

from collections.abc import Iterable

import hypothesis
import hypothesis.strategies as st
import pytest

from sflow_ctl.plan.model import PlannedMetric, PlannedOutput
from sflow_ctl.results.aggregates import AggregateError, summarised
from sflow_ctl.results.outputs import PatternError, collect, json_path, select

SOURCES = {
    "stdout": ["rate = 1.5\n", '0: {"lat": {"p99": 7}}\n', "{not json}\n", "rate = 2.5\n"],
    "t.csv": ["step,loss\n", "1,0.5\n", "2,\n", "3,0.25\n"],
    "r.json": ['{"runs": [{"rate": 1}, {"rate": 2}],\n', ' "sum": 3}'],
}


def read(source: str) -> Iterable[str]:
    if source not in SOURCES:
        raise FileNotFoundError(f"No such file: {source}")
    return SOURCES[source]


def test_values_of_patterns_documents_and_columns_are_together() -> None:
    found = collect(
        [
            PlannedOutput(pattern="rate = {rate:f}", metrics=(PlannedMetric(name="rate", aggregate="max"),)),
            PlannedOutput(json="lat.p99", name="p99"),
            PlannedOutput(csv="loss", name="loss", source="t.csv"),
            PlannedOutput(json="$.runs[*].rate", name="each", source="r.json"),
            PlannedOutput(json='["sum"]', name="total", source="r.json"),
        ],
        read,
    )
    assert found.values == {"rate": [1.5, 2.5], "p99": 7, "loss": [0.5, 0.25], "each": [1, 2], "total": 3}
    assert found.metrics == {"rate": 2.5}
    assert found.visible["rate"] == 2.5
    assert found.problems == []


def test_what_cannot_be_read_is_a_problem_and_hides_nothing_else() -> None:
    found = collect(
        [
            PlannedOutput(pattern="{a:nope}"),
            PlannedOutput(pattern="x", source="missing.txt"),
            PlannedOutput(csv="speed", name="speed", source="t.csv"),
            PlannedOutput(json="a[", name="a", source="r.json"),
            PlannedOutput(json="sum", name="sum", source="r.json"),
        ],
        read,
    )
    assert found.values == {"sum": 3}
    assert [problem for problem in found.problems if "missing.txt" in problem]
    assert [problem for problem in found.problems if 'no column "speed", there are step, loss' in problem]
    assert len(found.problems) == 4


@pytest.mark.parametrize(
    ("kind", "how", "expected"),
    [
        (None, None, [3, 1, 2]),
        ("float", "mean", 2.0),
        ("int", "sum", 6),
        (None, "first", 3),
        (None, "last", 2),
        (None, "min", 1),
        (None, "max", 3),
        (None, "median", 2),
        (None, "count", 3),
        (None, "p50", 2),
        (None, "p100", 3),
        (None, "p75", 2.5),
        ("gauge", "free text of an old file", [3, 1, 2]),
    ],
)
def test_aggregates(kind: str | None, how: str | None, expected: object) -> None:
    assert summarised([3, 1, 2], kind, how) == expected


def test_a_value_that_is_no_number_is_said() -> None:
    with pytest.raises(AggregateError, match="abc"):
        summarised(["abc"], "float", "mean")


@hypothesis.given(st.lists(st.integers(-1000, 1000), min_size=1), st.integers(0, 100))
def test_a_percentile_is_between_the_extremes_and_grows(values: list[int], percent: int) -> None:
    value = summarised(values, None, f"p{percent}")
    assert min(values) <= value <= max(values)
    assert value <= summarised(values, None, "p100")


@hypothesis.given(st.text(max_size=30))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        steps = json_path(text)
    except PatternError:
        return
    select({"a": [1, {"b": 2}]}, steps)
