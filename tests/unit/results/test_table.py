"""The table of a sweep as a file that other programs open."""

import csv
import io

import pytest

from sflow_ctl.batch.results_table import JobResult, result_cells
from sflow_ctl.batch.results_table import results_table as jobs_table
from sflow_ctl.results.table import MAX_CELL, results_csv


def cells(*values: object) -> list[str]:
    (_, row) = csv.reader(io.StringIO(results_csv(["c"] * len(values), [values])))
    return row


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "@SUM(1)",
        "+cmd|calc!A0",
        "-2+3",
        "\t=1",
        "\r=1",
        " =1",
        "=",
        "@",
        "-x",
        "-inf x",
        "+1 =2",
        "＝1+1",
        "＋1",
        "－2+3",
        "＠SUM(1)",
        "\xa0=1",
        "\u200b=1",
        "\ufeff=1",
        "\n =1",
    ],
)
def test_s7_text_that_a_spreadsheet_would_execute_is_made_inert(text: str) -> None:
    assert cells(text) == ["'" + text.replace("\r", "\n")]


def test_s7_the_table_of_a_sheet_of_jobs_is_inert_too() -> None:
    line = {"=A": "=1+1", "N": "-1", **result_cells(JobResult("failed"), "out", "bulk", was_submitting=True)}
    header, row = csv.reader(io.StringIO(jobs_table(["=A", "N"], [line], has_composed=False)))
    assert header[0] == "'=A"
    assert row[:2] == ["'=1+1", "-1"]


def test_s7_names_of_columns_are_made_inert_too() -> None:
    assert results_csv(["=x"], []) == "'=x\n"


@pytest.mark.parametrize(
    "value", [-1, -1.5, "-3", "+7", "-1e-05", -1e-05, "a=1", "7", None, True, [1, -2], {"a": "=1"}]
)
def test_s7_numbers_and_plain_text_stay_as_they_are(value: object) -> None:
    (cell,) = cells(value)
    assert not cell.startswith("'")


def test_r23_a_cell_is_no_longer_than_spreadsheets_take() -> None:
    assert len(cells("x" * 10**6)[0]) == MAX_CELL
