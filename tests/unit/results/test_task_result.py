"""The `result` of a task: types, aggregates, matches, files, and what is missing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sflow_ctl.plan.results import PlannedResult, PlannedResultPattern
from sflow_ctl.results.task_result import (
    TaskResult,
    encoded,
    result_of_file,
    result_of_lines,
    results_document,
    results_entry,
    typed,
)

LINES = ["TTFT: 40.0 ms\n", "TTFT: 42.5 ms\n", "\x1b[1mtok/s\x1b[0m: 123 ok=yes\r\n"]


def pattern(name: str, regex: str, **others: Any) -> PlannedResultPattern:
    return PlannedResultPattern(name=name, regex=regex, **others)


def found(*patterns: PlannedResultPattern, lines: list[str] = LINES) -> TaskResult:
    return result_of_lines(PlannedResult(patterns=patterns), lines, "t.log")


def test_the_case_of_the_specification() -> None:
    result = found(
        pattern("ttft", r"TTFT: (?P<value>\S+) (ms)", type="float", unit="ms", aggregate="list"),
        pattern("n", "TTFT", aggregate="count"),
        pattern("best", r"TTFT: ([\d.]+)", aggregate="min"),
        pattern("ok", r"ok=(\w+)", type="bool"),
        pattern("missing", "never", is_required=True),
    )
    document = result.document("full")
    assert document["values"] == {"ttft": [40.0, 42.5], "n": 2, "best": 40.0, "ok": True}
    assert (document["ok"], document["status"]) == (False, "COMPLETED")
    assert document["errors"] == ["Required result 'missing' did not match any line"]
    assert document["matches"]["ok"] == [{"line": 3, "value": True, "text": "tok/s: 123 ok=yes"}]
    assert document["metadata"]["ttft"] == {"unit": "ms", "type": "float", "aggregate": "list"}
    assert document["source"] == {"type": "log", "path": "t.log"}
    assert "missing" not in document["matches"]


def test_the_last_of_all_matches_counts_unless_it_says_otherwise() -> None:
    result = found(
        pattern("last", r"(\d+\.\d)"), pattern("all", r"\d", aggregate="sum"), lines=["1.5 2.5\n", "3.5\n"]
    )
    assert result.values == {"last": 3.5, "all": 21}


@pytest.mark.parametrize(("group", "value"), [(None, "a"), (0, "k=a:b"), (2, "b"), ("second", "b")])
def test_the_group_is_chosen_by_number_or_name(group: str | int | None, value: str) -> None:
    assert found(pattern("x", r"k=(\w):(?P<second>\w)", group=group), lines=["k=a:b\n"]).values == {
        "x": value
    }


def test_a_group_called_value_wins_and_no_group_is_the_whole_match() -> None:
    assert found(pattern("x", r"(\w)(?P<value>\w)"), lines=["ab"]).values == {"x": "b"}
    assert found(pattern("x", r"\w\w"), lines=["ab"]).values == {"x": "ab"}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("7", "auto", 7), ("7.50", "auto", 7.5), ("1e3", "auto", 1000.0), ("True", "auto", True), ("1_0", "auto", "1_0"),
        ('{"a": [1]}', "auto", {"a": [1]}), ("[1, 2]", "auto", [1, 2]), ("{x", "auto", "{x"), (" x ", "auto", " x "),
        ("007", "string", "007"), (" 7 ", "int", 7), ("7", "float", 7.0), ("off", "bool", False), ('"x"', "json", "x"),
    ],
)  # fmt: skip
def test_texts_become_values_of_their_type(text: str, kind: str, value: object) -> None:
    assert typed(text, kind) == value
    assert type(typed(text, kind)) is type(value)


def test_a_text_that_is_not_of_its_type_is_an_error_and_the_others_count() -> None:
    result = found(pattern("n", r"n=(\w+)", type="int", aggregate="list"), lines=["n=1\n", "n=x\n", "n=3\n"])
    assert result.values == {"n": [1, 3]}
    assert result.errors == ["n: line 2: 'x' is not of type int"]
    assert not result.is_ok


def test_an_aggregate_of_texts_that_has_none_is_an_error() -> None:
    result = found(pattern("n", r"n=(\w+)", aggregate="avg"), lines=["n=a\n"])
    assert result.values == {}
    assert "avg cannot be made" in result.errors[0]


def test_our_aggregates_are_accepted_too() -> None:
    lines = [f"n={number}\n" for number in range(101)]
    assert found(pattern("n", r"n=(\d+)", aggregate="p90"), lines=lines).values == {"n": 90}


def test_a_file_is_values_unless_it_is_a_result_already() -> None:
    assert result_of_file("my.json", b'{"rate": 7}').document("maker")["values"] == {"rate": 7}
    own = {"schema_version": "sflow.result.v1", "ok": False, "values": {"x": 1}, "more": 1}
    result = result_of_file("result.json", json.dumps(own).encode())
    assert (result.document("maker"), result.values, result.is_ok) == (own, {"x": 1}, False)


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (FileNotFoundError(2, "No such file"), "Source file not found: my.json"),
        (PermissionError(13, "Permission denied"), "my.json: Permission denied"),
        (b"{", "my.json is not JSON"),
        (b"[1]", "my.json is not a JSON object"),
        (b"[" * 100_000, "my.json is not JSON"),
    ],
)
def test_a_file_that_cannot_be_taken_is_an_error(read: bytes | OSError, error: str) -> None:
    document = result_of_file("my.json", read).document("t")
    assert document["ok"] is False
    assert document["errors"][0].startswith(error)
    assert document["values"] == {}


def test_all_results_are_one_document_with_sorted_keys() -> None:
    found = result_of_file("my.json", b'{"rate": 7}')
    entry = results_entry("maker", found.is_ok, found.values)
    text = encoded(results_document("run-1", {"maker": entry}))
    assert json.loads(text) == {
        "schema_version": "sflow.results.v1",
        "workflow": "run-1",
        "tasks": {
            "maker": {
                "status": "COMPLETED",
                "ok": True,
                "result_file": "maker/result.json",
                "values": {"rate": 7},
            }
        },
    }
    assert text.index(b"schema_version") < text.index(b'"tasks"') < text.index(b'"workflow"')
    assert b'\n  "schema_version"' in text


@given(st.text(max_size=80))
def test_no_text_breaks_a_type(text: str) -> None:
    for kind in ("auto", "string"):
        assert typed(text, kind) is not None
    encoded(found(pattern("x", "(?s).+", aggregate="list"), lines=[text]).document("t"))
