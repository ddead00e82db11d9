"""Readings to raw files and back to rows: nothing is lost, and damage costs only the damaged line."""

import csv

from hypothesis import given
from hypothesis import strategies as st

from protocol.messages.monitor import Reading
from sflow_ctl.report.monitor.metrics import MetricRow, RawReader, ScopeError, raw_head, raw_line
from sflow_ctl.report.monitor.tally import SummaryTable

GPU_FIELDS = ("index", "utilization.gpu", "power.draw", "pstate", "fan.speed")


def rows_of(reading: Reading, fields: tuple[str, ...] = GPU_FIELDS) -> list[MetricRow | ScopeError]:
    reader = RawReader(reading.scope)
    assert list(reader.rows(raw_head(reading.scope, fields))) == []
    return list(reader.rows(raw_line(reading)))


def test_a_cpu_line_is_that_of_sflow() -> None:
    reading = Reading(scope="cpu", at_ms=1_795_958_251_101, values=(100.0, 4.42, 2.23, 1.54))
    assert raw_line(reading) == "1795958251.101,100.00,4.42,2.23,1.54\n"
    assert [(row.metric, row.value, row.unit) for row in rows_of(reading) if isinstance(row, MetricRow)] == [
        ("cpu_utilization_pct", 100.0, "%"),
        ("load_15m", 1.54, "load"),
        ("load_1m", 4.42, "load"),
        ("load_5m", 2.23, "load"),
    ]


def test_a_disk_line_begins_with_its_mount() -> None:
    reading = Reading(scope="disk", at_ms=1000, values=("/", 100, 71, 29, 71.0))
    assert raw_line(reading) == "1.000,/,100,71,29,71.00\n"
    assert {row.resource for row in rows_of(reading) if isinstance(row, MetricRow)} == {"/"}


def test_gpus_are_rows_by_number_with_the_names_of_sflow_and_ours() -> None:
    assert raw_head("gpu", GPU_FIELDS) == "#fields=index,utilization.gpu,power.draw,pstate,fan.speed\n"
    reading = Reading(scope="gpu", at_ms=1000, values=(3, 97, 650.25, "P0", None))
    found = [
        (row.resource, row.metric, row.value, row.unit, row.text)
        for row in rows_of(reading)
        if isinstance(row, MetricRow)
    ]
    assert found == [
        ("3", "gpu_utilization_pct", 97.0, "%", ""),
        ("3", "gpu_power_w", 650.25, "W", ""),
        ("3", "gpu_pstate", None, "", "P0"),
    ]


def test_rows_of_simulated_gpus_say_so() -> None:
    reading = Reading(scope="gpu", at_ms=1000, values=(0, 100, None, None, None), is_simulated=True)
    assert raw_line(reading).endswith(",simulated\n")
    (row,) = rows_of(reading)
    assert isinstance(row, MetricRow)
    assert (row.value, row.text) == (100.0, "simulated")
    table = SummaryTable()
    table.add(row)
    assert table.csv().splitlines()[1].startswith("gpu (simulated),gpu_utilization_pct,%,1,100.0")


def test_an_error_is_one_line_and_no_row() -> None:
    reading = Reading(scope="gpu", at_ms=1000, error="the driver\nsays, that")
    assert raw_line(reading) == "1.000,ERROR,the driver says, that\n"
    assert rows_of(reading) == [ScopeError(1000, "the driver says, that")]


def test_cut_foreign_and_hostile_lines_are_skipped() -> None:
    reader = RawReader("cpu")
    for line in (
        "1.000,1,2,3,4",
        "",
        "\n",
        "x,1,2,3,4\n",
        "-5.0,1,2,3,4\n",
        "1.000,1,2,3\n",
        "#note\n",
        "1,1,2,3,4\n",
    ):
        assert list(reader.rows(line)) == [], line
    gpu = RawReader("gpu")
    assert list(gpu.rows("1.000,0,1,2\n")) == []  # before its head


VALUES = st.one_of(st.none(), st.integers(0, 10**15), st.floats(0, 10**6).map(lambda value: round(value, 2)))


@given(
    at_ms=st.integers(0, 4 * 10**12),
    values=st.tuples(st.integers(0, 63), VALUES, VALUES, st.text(max_size=20), VALUES),
)
def test_whatever_a_gpu_says_is_one_line_with_its_values(
    at_ms: int, values: tuple[int | float | str | None, ...]
) -> None:
    reading = Reading(scope="gpu", at_ms=at_ms, values=values)
    assert raw_line(reading).count("\n") == 1
    assert len(next(csv.reader([raw_line(reading)], quoting=csv.QUOTE_NONE))) == 6
    found = {row.metric: row for row in rows_of(reading) if isinstance(row, MetricRow)}
    for name, value in (("gpu_utilization_pct", values[1]), ("gpu_power_w", values[2])):
        assert (name in found) == (value is not None)
        if value is not None:
            assert found[name].value == value
    assert all(row.at_ms == at_ms for row in found.values())


def test_a_summary_is_sorted_and_has_all_columns() -> None:
    table = SummaryTable()
    for value in (1.0, 2.0, 6.0):
        table.add(MetricRow(1000, "memory", "system", "memory_used_pct", value, "%", ""))
    table.add(MetricRow(2000, "cpu", "system", "load_1m", 0.5, "load", ""))
    table.add(MetricRow(3000, "gpu", "0", "gpu_pstate", None, "", "P0"))
    assert table.csv() == (
        "resource_type,metric_name,metric_unit,datapoints,min_value,avg_value,max_value\n"
        "cpu,load_1m,load,1,0.5,0.5,0.5\n"
        "memory,memory_used_pct,%,3,1.0,3.0,6.0\n"
    )
    assert table.rows == 5
