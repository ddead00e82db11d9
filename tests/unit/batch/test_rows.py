"""Rows of a sheet: selection, names, settings, and problems."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from sflow_ctl.batch.names import row_name, safe_name, unique_names
from sflow_ctl.batch.results_table import JobResult, result_cells, results_table
from sflow_ctl.batch.row_options import row_files, row_nodes, row_options
from sflow_ctl.batch.row_selection import selected_rows
from sflow_ctl.batch.sheet import Sheet, check_columns, read_sheet

SAFE = re.compile(r"[A-Za-z0-9_-]{1,30}")
CELL = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)


def sheet(text: str) -> Sheet:
    """A sheet from lines."""
    return read_sheet("s.csv", text)


# -------------------------------------------------------------------------------- choosing


@pytest.mark.parametrize(
    ("selections", "rows"),
    [
        ((), [1, 2, 3, 4, 5, 6]),
        (("3",), [3]),
        (("1,3",), [1, 3]),
        (("1:4",), [1, 2, 3]),
        (("1:6:2",), [1, 3, 5]),
        (("[1:3, 6]", "2"), [1, 2, 6]),
        ((":3", "5:"), [1, 2, 5, 6]),
        (("4:99",), [4, 5, 6]),
        (("-1",), [6]),
        (("-3:",), [4, 5, 6]),
        (("-99:2",), [1]),
        (("2:-1",), [2, 3, 4, 5]),
    ],
)
def test_selections(selections: tuple[str, ...], rows: list[int]) -> None:
    assert selected_rows(selections, 6) == rows


@pytest.mark.parametrize(
    "selection", ["", "0", "7", "x", "1-3", "3:3", "1:3:0", "0:2", "-7", "-1:1", "1,,2", "[1", "٣"]
)
def test_invalid_rows_are_refused(selection: str) -> None:
    with pytest.raises(UsageError):
        selected_rows((selection,), 6)


@given(
    count=st.integers(1, 30),
    start=st.integers(1, 30),
    stop=st.integers(1, 40),
    step=st.integers(1, 9),
    others=st.lists(st.integers(1, 30), max_size=4),
)
def test_a_selection_is_a_slice_from_one(
    count: int, start: int, stop: int, step: int, others: list[int]
) -> None:
    numbers = list(range(count + 1))
    sliced = numbers[start:stop:step]
    others = [number for number in others if number <= count]
    if not sliced:
        return
    text = ",".join([f"{start}:{stop}:{step}", *map(str, others)])
    assert selected_rows((text,), count) == sorted({*sliced, *others})


# -------------------------------------------------------------------------------- names

FP8 = """sflow_config_file,MODEL,PRECISION,SLURM_NODES,PATH_TO
base.yaml sizes/small.yaml,llama,fp8,2,/a
base.yaml sizes/large.yaml,llama,bf16,4,/b
"""


def test_a_name_has_the_cells_that_distinguish_its_row() -> None:
    one = sheet(FP8)
    names = [row_name(one, row, row_nodes(one, row), "sflow") for row in one.rows]
    assert names == ["sizes_small_2n_fp8_001", "sizes_large_4n_bf16_002"]


def test_a_given_name_wins_and_is_made_safe_and_short() -> None:
    one = sheet(f"sflow_config_file,job_name\na.yaml,my job / 1\na.yaml,{'x' * 50}\na.yaml,\n")
    assert [row_name(one, row, None, "fall back") for row in one.rows] == [
        "my_job_1_001",
        "x" * 30 + "_002",
        "fall_back_003",
    ]


def test_repeated_words_occur_once() -> None:
    one = sheet("sflow_config_file,A,B\nllama.yaml,llama,fast_8\nqwen.yaml,qwen,8\n")
    assert [row_name(one, row, None, "") for row in one.rows] == ["llama_fast_8_001", "qwen_8_002"]


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6))
def test_row_names_are_safe_and_unique(cells: list[tuple[str, str]]) -> None:
    rows = [{"sflow_config_file": "a.yaml", "job_name": name, "X": value} for name, value in cells]
    lines = [{**row, **result_cells(JobResult("failed"), "/o", "b", False)} for row in rows]
    table = results_table(list(rows[0]), lines, has_composed=False)
    one = sheet(table)
    names = [row_name(one, row, None, "sflow") for row in one.rows]
    assert len({name.lower() for name in names}) == len(rows)
    assert all(SAFE.fullmatch(name[:-4]) and re.fullmatch(r"_\d{3}", name[-4:]) for name in names)


@given(st.lists(st.text(max_size=40), max_size=12))
def test_names_of_files_are_safe_unique_and_kept_where_they_can_be(stems: list[str]) -> None:
    names = unique_names(stems)
    assert len({name.lower() for name in names}) == len(stems)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) for name in names)
    for index, stem in enumerate(stems):
        if safe_name(stem).lower() not in {safe_name(other).lower() for other in stems[:index]}:
            assert names[index] == safe_name(stem)


def test_a_number_that_is_taken_is_passed_over() -> None:
    assert unique_names(["a", "a_2", "a", "A"]) == ["a", "a_2", "a_3", "A_4"]


# -------------------------------------------------------------------------------- reading


def test_cells_know_their_row_and_line() -> None:
    one = sheet('sflow_config_file, A\n\n a.yaml , "[1,2]\nx"\nb.yaml,y \nc.yaml\n')
    assert [(row.number, row.line, row.files, row.cells["A"]) for row in one.rows] == [
        (1, 3, ("a.yaml",), "[1,2]\nx"),
        (2, 5, ("b.yaml",), "y"),
        (3, 6, ("c.yaml",), ""),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "s.csv is empty"),
        ("sflow_config_file\n", "has no rows"),
        ("sflow_config_fil,A\na.yaml,1\n", 'rename column "sflow_config_fil"'),
        ("sflow_config_file,A,A\na.yaml,1,2\n", 'two columns are called "A"'),
        ("sflow_config_file,,A\na.yaml,1,2\n", "s.csv:1  column 2"),
        ("sflow_config_file,A\na.yaml,1,2\n", "s.csv:2  row 1"),
        ("sflow_config_file,A\na.yaml,1\n,2\n", "s.csv:3  row 2, column sflow_config_file"),
        ('sflow_config_file,A\na.yaml,"1\n', "not valid CSV"),
    ],
)
def test_problems_of_a_sheet_are_reported_with_their_place(text: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        sheet(text)
    assert what in str(caught.value)


def test_a_column_must_mean_something() -> None:
    one = sheet("sflow_config_file,MODEL,NUM_NODES,MODLE\na.yaml,1,2,3\n")
    with pytest.raises(UsageError) as caught:
        check_columns(one, ["MODEL"])
    assert [finding.hint for finding in caught.value.findings] == ['did you mean "MODEL"?']
    check_columns(one, ["MODEL", "MODLE"])


# -------------------------------------------------------------------------------- options


def test_options_win_over_a_cell() -> None:
    one = sheet("sflow_config_file,A,DATA,B,missable_tasks,NUM_NODES\nr.yaml,1,fs:///x,,t_* u,4\n")
    row = one.rows[0]
    combined = row_options(
        one,
        row,
        files=row_files(row, Path("/d"), [Path("first.yaml"), Path("/d/r.yaml")]),
        variables={"A", "B"},
        artifacts={"DATA"},
        overrides=("A=[1,2]", "B=7"),
        artifact_overrides=("DATA=fs:///y",),
        missable=("s",),
    )
    assert combined.files == (Path("first.yaml"), Path("/d/r.yaml"))
    assert combined.overrides == ("A=[1,2]", "B=7")
    assert combined.artifacts == ("DATA=fs:///y",)
    assert combined.missable == ("s", "t_*", "u")
    assert combined.notes == (
        "s.csv:2  row 1, column A: --set A=[1,2] wins over the cell",
        "s.csv:2  row 1, column DATA: --artifact DATA wins over the cell",
    )
    assert row_nodes(one, row) == 4
    assert row_nodes(one, row, ("NUM_NODES=9",)) == 9


def test_a_cell_for_files_that_do_not_know_it_is_refused() -> None:
    one = sheet("sflow_config_file,A\na.yaml,1\n")
    with pytest.raises(UsageError, match="not a variable or artifact of this row"):
        row_options(
            one,
            one.rows[0],
            files=(),
            variables=(),
            artifacts=(),
            overrides=(),
            artifact_overrides=(),
            missable=(),
        )


def test_a_number_of_nodes_is_a_number() -> None:
    one = sheet("sflow_config_file,SLURM_NODES\na.yaml,many\nb.yaml,\n")
    with pytest.raises(UsageError, match="row 1, column SLURM_NODES"):
        row_nodes(one, one.rows[0])
    assert row_nodes(one, one.rows[1]) is None


def test_results_keep_the_input_and_replace_earlier_results() -> None:
    lines = [
        {
            "f": "a",
            "status": "failed",
            **result_cells(JobResult("submitted", "7", "/o/b/a.yaml"), "/o", "b", True),
        },
        {"f": "b,c", **result_cells(JobResult("failed"), "/o", "b", True)},
        {"f": "d", **result_cells(JobResult("not submitted"), "/o", "b", False)},
    ]
    assert results_table(("f", "status"), lines, has_composed=False) == (
        "f,slurm_job_id,backend_job_id,sflow_output_dir,sflow_batch_dir,status\n"
        "a,7,7,/o/7-*,b,submitted\n"
        '"b,c",FAILED,FAILED,,b,failed\n'
        "d,not submitted,not submitted,not submitted,b,not submitted\n"
    )
    assert (
        results_table(("f",), lines[:1], has_composed=True).splitlines()[1]
        == "a,7,7,/o/7-*,b,submitted,/o/b/a.yaml"
    )
