"""Outputs from several sources, and what metrics make of them."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from sflow_ctl.plan.results import PlannedMetric, PlannedOutput
from sflow_ctl.results.aggregates import AggregateError, summarised
from sflow_ctl.results.documents import column, json_path, json_values, select
from sflow_ctl.results.outputs import MAX_RECORDED, collect
from sflow_ctl.results.patterns import PatternError

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


def test_an_unreadable_source_is_a_problem_and_hides_no_other() -> None:
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


def test_a_value_that_is_not_a_number_is_reported() -> None:
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


def values_of(kind: str, path: str, text: str) -> tuple[dict[str, Any], list[str]]:
    """Return the values and problems of one output of a file."""
    json_path, csv_column = (path, None) if kind == "json" else (None, path)
    output = PlannedOutput(name="v", source="f", json=json_path, csv=csv_column)
    found = collect([output], lambda _: text.splitlines(keepends=True))
    return found.values, found.problems


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffstep, loss\r\n1, 0.5\r\n2, 0.25\r\n",
        "step;loss\n1;0.5\n2;0.25\n",
        "step; loss\n1; 0.5\n2; 0.25\n",
        "step\tloss\n1\t0.5\n2\t0.25\n",
        "step | loss \n1 | 0.5 \n2 | 0.25 \n",
        '"step", "loss"\n"1", "0.5"\n"2", "0.25"\n',
        '\ufeff"step";"loss"\n1;0.5\n2;0.25\n',
        "\n\nstep,loss\n1,0.5\n\n2,0.25\n",
        'step,loss,note\n1,0.5,"a;b"\n2,0.25\n',
        '"a;b;c;d",step,loss\nx,1,0.5\ny,2,0.25\n',
        "# made by bench 1.2, on a node\n#\nstep,loss\n1,0.5\n2,0.25\n",
        "# step, loss\n1,0.5\n2,0.25\n",
        "\ufeff#step\tloss\n1\t0.5\n2\t0.25\n",
    ],
)
def test_public_14_csv_as_programs_write_it(text: str) -> None:
    assert values_of("csv", "step", text) == ({"v": [1, 2]}, [])
    assert values_of("csv", "loss", text) == ({"v": [0.5, 0.25]}, [])


def test_public_14_a_missing_or_empty_column_is_reported() -> None:
    assert values_of("csv", "lost", "step,loss\n1,2\n") == ({}, ['f: no column "lost", there are step, loss'])
    assert values_of("csv", "loss", "step,loss\n1,\n") == ({}, ["f: column loss is empty: v has no value"])
    assert values_of("csv", "step", "Step,loss\n1,2\n")[1] == [
        'f: no column "step", there are Step, loss (did you mean "Step"?)'
    ]
    assert values_of("csv", "step", "\ufffd\ufffds\0t\0,\0\n")[1] == [
        'f: no column "step": the file is not text in UTF-8 or UTF-16'
    ]
    assert values_of("csv", "loss", "") == ({}, ['f: no column "loss", there are none'])


@pytest.mark.parametrize(
    "text",
    ["83e2010", "7e12345", "1e5", "0123456", "1_0", "infinity", "nan", "2026-11-05", "0x1F", "1.2.3", "."],
)
def test_public_04_a_cell_that_a_number_would_not_print_back_is_text(text: str) -> None:
    assert column("a", ["a\n", f"{text}\n"]) == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-3", -3),
        ("0.50", 0.5),
        (".5", 0.5),
        ("1.5e-05", 1.5e-05),
        ("1e-7", 1e-7),
        ("2.", 2.0),
        ("0", 0),
    ],
)
def test_a_measured_cell_is_a_number(text: str, value: float) -> None:
    (found,) = column("a", ["a\n", f"{text}\n"])
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        '{"rate": 10}\n{"rate": 20}\n',
        '{"rate": 10} {"rate": 20}',
        '\ufeff{"rate": 10}\r\n\r\n{"rate":\n 20}\r\n',
        '[{"rate": 10}, {"rate": 20}]',
    ],
)
def test_public_15_several_documents_are_several_values(text: str) -> None:
    path = "[*].rate" if text.startswith("[") else "rate"
    assert values_of("json", path, text) == ({"v": [10, 20]}, [])


@pytest.mark.parametrize("text", ["", " \n", '{"a": 1', "not json\n", "[" * 100_000])
def test_public_15_a_file_that_is_not_json_is_reported(text: str) -> None:
    values, problems = values_of("json", "a", text)
    assert values == {}
    assert len(problems) == 1
    assert problems[0].startswith("f: ")


def test_public_15_what_precedes_a_document_that_was_cut_is_kept() -> None:
    """A program that was interrupted while it wrote has lost its last document, not all of them."""
    values, problems = values_of("json", "a", '{"a": 1}\n{"a": 2}\n{"a": ')
    assert values == {"v": [1, 2]}
    assert problems == [
        "f: not JSON: Expecting value: line 3 column 7 (char 24); what is before that was read"
    ]


@pytest.mark.parametrize("text", ['a,b\n1,"' + "x" * 200_000 + '"\n', "a,b\n1,\0\n"])
def test_public_14_a_file_that_csv_cannot_read_is_reported(text: str) -> None:
    values, problems = values_of("csv", "b", text)
    assert bool(values) != bool(problems)


def test_n5_a_missing_path_is_reported() -> None:
    assert values_of("json", "b.c", '{"a": 1}') == ({}, ["f: path b.c is missing: v has no value"])


def test_a_number_that_no_message_can_carry_is_text() -> None:
    assert values_of("json", "a", '{"a": 123456789012345678901234567890}') == (
        {"v": "123456789012345678901234567890"}, [],
    )  # fmt: skip
    assert column("a", ["a\n", "123456789012345678901234567890\n"]) == ["123456789012345678901234567890"]


NAN = math.nan


@pytest.mark.parametrize("how", ["min", "max", "mean", "median", "sum", "std", "p50", "p99"])
@pytest.mark.parametrize(
    "values", [[0.5, NAN, 0.3], [NAN, 0.3, 0.5], [0.3, 0.5, NAN], [1, NAN], [NAN], [1.0, "nan"]]
)
def test_l2_nan_makes_every_aggregate_nan_in_any_order(values: Sequence[Any], how: str) -> None:
    assert math.isnan(summarised(values, None, how))


@pytest.mark.parametrize("kind", ["int", "integer"])
@pytest.mark.parametrize("value", [1795917736798782983, "1795917736798782983", " 1795917736798782983 "])
def test_l3_large_integers_are_exact(value: object, kind: str) -> None:
    assert summarised([value], kind, "last") == 1795917736798782983


def test_l3_an_integral_text_with_a_point_is_still_an_integer() -> None:
    assert summarised(["7.9", 8.2], "int", None) == [7, 8]


@pytest.mark.parametrize(
    ("values", "kind", "how"),
    [
        ([0.5, "x"], None, "std"),
        ([math.inf], "int", None),
        (["x"], "float", "mean"),
        ([{}], None, "sum"),
        ([[1], 2], None, "max"),
        (["inf"], "int", "max"),
    ],
)
def test_l4_one_metric_that_cannot_be_computed_loses_nothing_else(
    values: list[Any], kind: str | None, how: str | None
) -> None:
    metric = PlannedMetric(name="a", type=kind, aggregate=how)
    found = collect(
        [
            PlannedOutput(json="a", name="a", source="f", metrics=(metric,)),
            PlannedOutput(json="b", name="b", source="g"),
        ],
        lambda source: [json.dumps({"a": values} if source == "f" else {"b": 7})],
    )
    assert found.values["b"] == 7
    assert "a" in found.values
    assert found.metrics == {}
    (problem,) = found.problems
    assert problem.startswith("metric a: ")


def test_l4_the_deviation_of_an_infinite_value_is_nan() -> None:
    assert math.isnan(summarised([0.5, math.inf], None, "std"))


def test_numbers_of_csv_cells_that_are_texts_count_in_aggregates() -> None:
    assert summarised(["1e5", 3], None, "max") == 1e5
    assert summarised(["b", "a"], None, "min") == "a"
    with pytest.raises(AggregateError, match="not a number"):
        summarised(["a", 3], None, "min")


def test_r23_recorded_values_are_bounded_and_aggregates_see_all() -> None:
    count = 3 * MAX_RECORDED
    metric = PlannedMetric(name="rate", aggregate="max")
    lines = [f"rate = {number}" for number in range(count)]
    found = collect([PlannedOutput(pattern="rate = {rate:d}", metrics=(metric,))], lambda _: lines)
    assert found.values["rate"] == list(range(MAX_RECORDED))
    assert found.metrics == {"rate": count - 1}
    assert found.problems == [f"rate: only the first {MAX_RECORDED} of {count} values are recorded"]


def test_r23_a_long_text_is_cut() -> None:
    found = collect([PlannedOutput(pattern="v = {v}")], lambda _: ["v = " + "x" * 9_000])
    assert len(found.values["v"]) == 9_000
    found = collect(
        [PlannedOutput(json="v", name="v", source="f")], lambda _: [json.dumps({"v": "x" * 10**6})]
    )
    assert len(found.values["v"]) == 10_000


@hypothesis.given(st.lists(st.floats(allow_nan=False, width=32), min_size=1), st.randoms())
def test_aggregates_do_not_depend_on_the_order_of_lines(values: list[float], random: Any) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    for how in ("min", "max", "median", "p90"):
        first, second = summarised(values, None, how), summarised(shuffled, None, how)
        assert first == second or (math.isnan(first) and math.isnan(second))


@hypothesis.given(st.lists(st.floats(-1e6, 1e6), min_size=2))
def test_the_deviation_is_that_of_the_library(values: list[float]) -> None:
    assert summarised(values, None, "std") == statistics.stdev(values)


@hypothesis.given(st.text(max_size=60))
def test_any_text_is_json_or_csv_or_a_problem(text: str) -> None:
    for kind in ("json", "csv"):
        values, problems = values_of(kind, "a", text)
        assert bool(values) != bool(problems)


def test_lines_of_a_log_that_only_look_like_json_are_ignored() -> None:
    assert json_values("a", ["{x\n", "[" * 100_000, '0: {"a": 1}\n'], is_log=True) == [1]
