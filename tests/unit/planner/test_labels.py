"""The labels of a run and of its tasks."""

from pathlib import Path

import pytest

from protocol.errors import PlanError, UsageError
from sflow_ctl.planner.phases.labels import run_labels
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.selecting.task_query import fitting_tasks, task_query
from sflow_ctl.report.summary import task_summaries
from sflow_ctl.results.exported import ExportedRun, entries_of_runs, tracked_runs
from sflow_ctl.results.table import results
from sflow_ctl.results.task_entries import export_rows
from tests.unit.planner.planning import findings_of, plan_of


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


OF_TASKS = """\
variables: {kind: big}
workflow:
  name: w
  tasks:
    - {name: prep, script: [x]}
    - name: train
      script: [x]
      replicas: 2
      labels: {stage: train, what: "${{ kind }}", copy: "${{ replica.index }}"}
      outputs: [{pattern: "loss {loss}"}]
    - {name: eval, script: [x], labels: {stage: eval}}
"""


def test_labels_of_tasks_choose_them_and_are_columns(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, OF_TASKS)
    view = RunView(plan)
    assert fitting_tasks(task_query(["label.stage=tr*,label.copy=1"]), view) == ["train_1"]
    assert fitting_tasks(task_query(["label=stage"]), view) == ["train_0", "train_1", "eval"]
    with pytest.raises(UsageError, match='there is no value "no" of label'):
        fitting_tasks(task_query(["label.stage=no"]), view)
    columns, rows = results(plan, view, {"train_0": {"loss": 1}})
    assert columns[:4] == ["task", "label.stage", "label.what", "label.copy"]
    assert [row[1:4] for row in rows] == [["train", "big", "0"], ["train", "big", "1"]]
    run = ExportedRun("r", plan, view, {"train_0": {"loss": 1}}, {"stage": "of-the-run", "team": "x"}, 0)
    columns, rows = export_rows(entries_of_runs([run]))
    table = {row[2]: dict(zip(columns, row, strict=True)) for row in rows}
    assert (table["prep"]["label.stage"], table["eval"]["label.stage"]) == ("of-the-run", "eval")
    (tracked,) = tracked_runs([run])
    assert tracked.labels == {"stage": "train", "team": "x", "what": "big", "copy": "0"}
    assert [one.labels.get("stage") for one in task_summaries(view, {}, {})] == [
        None,
        "train",
        "train",
        "eval",
    ]


def test_a_wrong_label_of_a_task_has_its_place(tmp_path: Path) -> None:
    file = "workflow: {name: w, tasks: [{name: a, script: [x], labels: {'a b': c}}]}"
    (finding,) = findings_of(tmp_path, file)
    assert (finding.code, finding.what) == ("label", 'task "a": "a b" is not a name for a label')
