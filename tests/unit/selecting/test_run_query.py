"""The words of `ps --query`."""

import pytest

from protocol.errors import UsageError
from sflow_ctl.report.looking.run_list import RunEntry
from sflow_ctl.report.selecting.run_query import fitting_runs

RUNS = [
    RunEntry(run_id="a", directory="/a", state="running", workflow="train", host="h", job_id="7"),
    RunEntry(
        run_id="b", directory="/b", state="failed", workflow="train", labels={"team": "vision", "x": "1"}
    ),
    RunEntry(run_id="c", directory="/c", state="completed", workflow="serve", host="k"),
]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("state=failed", "b"), ("state=live", "a"), ("workflow=tr*", "ab"), ("workflow=train,state=failed", "b"),
        ("host=k", "c"), ("job=7", "a"), ("run=c", "c"), ("state=died", ""),
        ("label.team=vis*", "b"), ("label=x", "b"), ("label.team=vision,state=live", ""),
    ],
)  # fmt: skip
def test_a_query_means_runs_of_which_all_is_true(query: str, ids: str) -> None:
    assert "".join(run.run_id for run in fitting_runs([query], RUNS)) == ids


@pytest.mark.parametrize(
    "query",
    [
        "state=broken",
        "workflow=other",
        "job=8",
        "task=a",
        "label.team=other",
        "label=y",
        "label.y=1",
        "state.x=1",
    ],
)
def test_unknown_words_are_refused(query: str) -> None:
    with pytest.raises(UsageError):
        fitting_runs([query], RUNS)
