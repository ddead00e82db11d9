"""Copies of a task that are planned from its first one are what they would be if each were planned by itself."""

from pathlib import Path

import pytest

from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.tasks.copies import EqualCopies
from tests.unit.planner.planning import plan_of

HEAD = "variables: {V: 3, SWEPT: {value: a, domain: [a, b]}}\nworkflow:\n  name: w\n  tasks:\n"
TASKS = {
    "plain": "{name: t, replicas: {count: 4}, script: [work]}",
    "sequential": "{name: t, replicas: {count: 4, policy: sequential}, script: [work]}",
    "gpus": "{name: t, replicas: {count: 4}, resources: {gpus: {count: 1}}, script: [work]}",
    "nodes": "{name: t, replicas: {count: 4}, resources: {nodes: {count: 1}}, script: [work]}",
    "both nodes": "{name: t, replicas: {count: 4}, resources: {nodes: {count: 2}}, script: [work]}",
    "swept": "{name: t, replicas: {variables: [SWEPT]}, script: [work]}",
    "names itself": '{name: t, replicas: {count: 4}, script: ["echo ${{ replica.index }} ${{ variables.V }}"]}',
    "variables": '{name: t, replicas: {count: 4}, variables: {W: "${{ replica.name }}"}, script: [work]}',
    "probe": "{name: t, replicas: {count: 4}, script: [work], probes: {readiness: {tcp_port: {port: 5}}}}",
    "success": "{name: t, replicas: {count: 4}, script: [work], success: {files: [out.txt]}}",
    "files": '{name: t, replicas: {count: 4}, script: [work], files: {a.txt: "{{ replica.index }}"}}',
    "ports": "{name: t, replicas: {count: 4}, script: [work], ports: {http: 1}}",
    "retries": "{name: t, replicas: {count: 4}, script: [work], retries: {count: 2, interval: 1}}",
}


@pytest.mark.parametrize("name", TASKS)
def test_a_copy_is_what_planning_it_would_give(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned() -> Plan:
        return plan_of(tmp_path, f"{HEAD}    - {TASKS[name]}\n", nodes_override=2, gpus_per_node_override=8)

    with_copies = planned()
    with monkeypatch.context() as patch:
        patch.setattr(EqualCopies, "like", lambda *_: None)
        patch.setattr(EqualCopies, "are_alike", lambda *_: False)
        each = planned()
    assert with_copies == each


def test_copies_share_their_script_and_environment(tmp_path: Path) -> None:
    tasks = plan_of(tmp_path, f"{HEAD}    - {TASKS['plain']}\n").tasks
    assert len({(id(task.env), id(task.argv), id(task.placement)) for task in tasks}) == 1
    assert [task.environment["SFLOW_REPLICA_INDEX"] for task in tasks] == ["0", "1", "2", "3"]
    assert len({task.environment["SFLOW_TASK_OUTPUT_DIR"] for task in tasks}) == 4
