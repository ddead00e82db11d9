"""The labels of a run."""

import pytest

from protocol.errors import PlanError
from sflow_ctl.planner.phases.labels import run_labels


def test_labels_are_of_the_file_and_of_the_command_line_which_wins() -> None:
    written = {"team": "vision", "size": "${{ variables.SIZE }}b"}
    assert run_labels(written, ["team=text", "note=a=b"], {"SIZE": 7}) == {
        "team": "text", "size": "7b", "note": "a=b"
    }  # fmt: skip


def test_every_wrong_label_is_named() -> None:
    with pytest.raises(PlanError) as caught:
        run_labels({"a b": "x", "c": "${{ variables.NONE }}"}, ["none", "d.e=1"], {})
    assert [one.where for one in caught.value.findings] == [
        "workflow.labels.a b", "workflow.labels.c", "--label none", "--label d.e=1"
    ]  # fmt: skip
