"""Presets: each is a valid task, parameters are checked, and fields of the task win one by one."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import SpecError
from sflow_ctl.format.loader import LoadedDocument, load_documents
from sflow_ctl.format.presets import preset, preset_names
from sflow_ctl.planner.pipeline import build_plan
from tests.conformance.test_conformance import CONTEXT

UPSTREAMS = ', with: {upstreams: "${{ task.o.endpoints.http }}"}'
OTHER = "    - {name: o, ports: {http: 1}, script: [x]}\n"


def load(tmp_path: Path, task: str) -> LoadedDocument:
    """A file with this task and another one, that has a port."""
    path = tmp_path / "w.yaml"
    path.write_text(f'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n{OTHER}    - {task}\n')
    return load_documents([path])


def body(tmp_path: Path, task: str) -> dict[str, Any]:
    """The task as it is composed."""
    composed: dict[str, Any] = load(tmp_path, task).composed_data()["workflow"]["tasks"][1]
    return composed


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("replicas", ["", ", replicas: {count: 3}"])
def test_every_preset_plans_and_has_a_description(name: str, replicas: str, tmp_path: Path) -> None:
    given = UPSTREAMS if name == "nginx" else ""
    loaded = load(tmp_path, f"{{name: my-{name}, uses: {name}{replicas}{given}}}")
    tasks = [task for task in build_plan(loaded, CONTEXT).tasks if task.base != "o"]
    assert len(tasks) == (3 if replicas else 1)
    assert all(task.is_service and task.has_readiness and task.ports for task in tasks)
    assert preset(name).about
    assert all(one["description"] for one in preset(name).parameters.values())


def test_a_task_without_presets_is_left_as_it_is(tmp_path: Path) -> None:
    assert body(tmp_path, "{name: t, script: [x]}") == {"name": "t", "script": ["x"]}


def test_nothing_of_a_preset_is_left_to_be_known_later(tmp_path: Path) -> None:
    done = json.dumps(body(tmp_path, "{name: t, uses: etcd, with: {args: -x}}"))
    assert "task.t.endpoints.peer" in done
    assert "task.self" not in done
    assert '"uses"' not in done
    assert '"with"' not in done
    assert 'task[\\"my-t\\"].endpoints.peer' in json.dumps(body(tmp_path, "{name: my-t, uses: etcd}"))


def test_own_fields_replace_those_of_the_preset_and_names_are_added(tmp_path: Path) -> None:
    own = "ports: {more: 2}, files: {a: b}, resources: {nodes: {indices: [0]}}, kind: task, variables: {X: 1}"
    task = body(tmp_path, f"{{name: t, uses: etcd, {own}}}")
    assert task["ports"] == {"client": 1, "peer": 1, "more": 2}
    assert task["files"] == {"a": "b"}
    assert task["resources"] == {"nodes": {"indices": [0]}}
    assert task["kind"] == "task"
    assert [variable["name"] for variable in task["variables"]] == ["program", "data_dir", "args", "X"]
    listed = body(
        tmp_path, "{name: t, uses: etcd, variables: [{name: X, value: 1}, {name: args, value: -x}]}"
    )
    assert [(one["name"], one["value"]) for one in listed["variables"]] == [
        ("program", "etcd"),
        ("data_dir", ""),
        ("X", 1),
        ("args", "-x"),
    ]


def test_times_of_a_probe_change_the_presets_own_and_a_check_replaces_it(tmp_path: Path) -> None:
    times = body(tmp_path, "{name: t, uses: etcd, probes: {readiness: {deadline: 4m}}}")["probes"][
        "readiness"
    ]
    assert times["deadline"] == "4m"
    assert times["http_get"]["json"] == "health == 'true'"
    own = body(tmp_path, "{name: t, uses: etcd, probes: {readiness: {tcp_port: {port: 4}}}}")["probes"][
        "readiness"
    ]
    assert own == {"tcp_port": {"port": 4}}
    failure = "{name: t, uses: etcd, probes: {failure: {log_watch: {match_pattern: bad}}}}"
    assert set(body(tmp_path, failure)["probes"]) == {"readiness", "failure"}


def test_a_required_parameter_is_not_asked_for_where_its_use_is_replaced(tmp_path: Path) -> None:
    task = body(tmp_path, '{name: t, uses: nginx, files: {nginx.conf: "events {}"}}')
    assert "upstreams" not in [variable["name"] for variable in task["variables"]]
    assert task["files"] == {"nginx.conf": "events {}"}


def test_parameters_may_be_set_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text('version: "0.1"\nworkflow: {name: w, tasks: [{name: t, uses: etcd}]}\n')
    loaded = load_documents([path], overrides=["t.args=--quota-backend-bytes=1"])
    assert build_plan(loaded, CONTEXT).tasks[0].env["args"] == "--quota-backend-bytes=1"


def test_every_problem_is_reported_once_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, "{name: t, uses: [etcd], with: {a: 1}}")
    assert [finding.code for finding in caught.value.findings] == ["wrong-type"]
    with pytest.raises(SpecError) as caught:
        load(tmp_path, "{name: t, uses: etcd, with: [a]}")
    assert [finding.where for finding in caught.value.findings] == [
        f"{tmp_path}/w.yaml:6:35  workflow.tasks[1].with"
    ]
