"""`--set` of fields by their paths: known ones are set, unknown ones refused and not created."""

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import SpecError
from sflow_ctl.format import schema
from sflow_ctl.format.loader import LoadedDocument, load_documents

TEXT = """\
version: "0.1"
variables: {lr: 1}
backends: [{name: pool, type: local, nodes: 1}]
workflow:
  name: w
  tasks:
    - {name: train.a, script: [a], outputs: [{pattern: "x = {x}"}], resources: {gpus: 1}, stop: SIGINT}
    - {name: eval, script: [b], variables: {own: 1}}
"""


def loaded(folder: Path, *overrides: str, text: str = TEXT) -> LoadedDocument:
    file = folder / "w.yaml"
    file.write_text(text)
    return load_documents([file], overrides)


def task(document: schema.Document, name: str) -> schema.Task:
    return next(one for one in document.workflow.tasks if one.name == name)


def test_a_field_of_any_part_can_be_set(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        "workflow.timeout=4h",
        "workflow.name=other",
        "tasks.train.a.resources.gpus.count=8",
        "workflow.tasks.eval.retries=2",
        "tasks.eval.depends_on=train.a",
        "tasks.train.a.outputs.0.pattern='y = {y}'",
        "backends.pool.nodes=3",
        "settings.strict=true",
        "sweep.axes.variables.lr=[1e-3, 2]",
        "sweep.max_runs=1",
        "variables.lr=5",
        "eval.own=7",
    ).document
    train, evaluate = task(found, "train.a"), task(found, "eval")
    assert (found.workflow.timeout, found.workflow.name) == ("4h", "other")
    assert train.resources == schema.Resources(gpus=schema.Gpus(count=8))
    assert train.outputs[0].pattern == "y = {y}"
    assert evaluate.retries == schema.Retries(count=2, interval="1s")
    assert [one.task for one in evaluate.dependencies] == ["train.a"]
    assert found.backends[0].nodes == 3
    assert found.settings is not None
    assert found.settings.strict is True
    assert found.sweep is not None
    assert found.sweep.axes == {"variables.lr": [0.001, 2]}
    assert found.sweep.max_runs == 1
    assert found.variables[0].value == 5
    assert evaluate.variables[0].value == 7


REFUSED: dict[str, Any] = {
    "workflow.timout=3": 'did you mean "timeout"?',
    "tasks.evil.timeout=3": 'did you mean "eval"?',
    "tasks.eval.resources.gpu=3": 'did you mean "gpus"?',
    "tasks.eval.timeout.x=3": "it is one value",
    "tasks.eval=3": None,
    "tasks.train.a.stop.signal=SIGTERM": "set stop as a whole",
    "tasks.train.a.outputs.4.pattern=3": "a number from 0 to 0",
    "tasks.train.a.outputs.first.pattern=3": None,
    "backends.pol.nodes=3": 'did you mean "pool"?',
    "settings.strct=true": 'did you mean "strict"?',
    "sweep.max_run=3": 'did you mean "max_runs"?',
    "tasks.eval.script=[a": "put it in quotes",
    "nowhere.x=3": None,
}


@pytest.mark.parametrize("override", REFUSED)
def test_an_unknown_path_is_refused_and_said_with_its_option(tmp_path: Path, override: str) -> None:
    with pytest.raises(SpecError) as caught:
        loaded(tmp_path, override)
    (finding,) = caught.value.findings
    assert finding.code == "override-unknown"
    assert finding.where == f"--set {override}"
    if REFUSED[override] is not None:
        assert finding.hint == REFUSED[override]


def test_a_wrong_value_is_a_finding_at_its_option(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        loaded(tmp_path, "tasks.eval.timeout=[1]")
    assert caught.value.findings[0].code == "wrong-type"
    assert (caught.value.findings[0].where or "").startswith("--set tasks.eval.timeout=[1]")


def test_a_file_with_overrides_is_composed_with_them(tmp_path: Path) -> None:
    text = loaded(tmp_path, "tasks.eval.timeout=90", "sweep.axes.lr=[1]").composed_yaml()
    again = tmp_path / "again"
    again.mkdir()
    document = loaded(again, text=text).document
    assert task(document, "eval").timeout == 90
    assert document.sweep is not None
