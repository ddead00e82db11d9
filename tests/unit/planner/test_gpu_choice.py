"""`placement` of a task: which GPUs it should get is decided when it is ready, by what the nodes report."""

from pathlib import Path

import pytest

from sflow_ctl.plan.model import Placement, Plan
from tests.unit.planner.planning import findings_of, plan_of

POOL = "backends: {pool: {type: local, nodes: 2, gpus_per_node: 4}}\n"
TASKS = "workflow: {name: w, tasks: [%s]}\n"


def planned(tmp_path: Path, tasks: str) -> Plan:
    return plan_of(tmp_path, POOL + TASKS % tasks)


def test_gpus_are_chosen_when_the_task_is_ready(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "{name: a, script: [x], resources: {gpus: 2}, placement: {pack: nvlink, near: nic}},"
        "{name: b, script: [x], resources: {gpus: 2}}",
    )
    a, b = (task.placement for task in plan.tasks)
    assert a == Placement(nodes=(0, 1), is_flexible=True, gpus_per_node=2, pack="nvlink", near="nic")
    assert b == Placement(nodes=(0, 1), is_flexible=True, gpus_per_node=2)


def test_several_nodes_and_finally_tasks_choose_too(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "{name: a, script: [x], resources: {gpus: 6, nodes: 2}, placement: {pack: numa}},"
        "{name: b, finally: true, script: [x], resources: {gpus: 1}, placement: {near: nic}}",
    )
    a, b = (task.placement for task in plan.tasks)
    assert (a.node_count, a.gpus_per_node, a.pack, a.near) == (2, 3, "numa", "none")
    assert (b.pack, b.near) == ("none", "nic")


@pytest.mark.parametrize("placement", ["", ", placement: {}", ", placement: {pack: none, near: none}"])
def test_without_a_choice_the_plan_is_as_before(tmp_path: Path, placement: str) -> None:
    (task,) = planned(tmp_path, f"{{name: a, script: [x], resources: {{gpus: 2}}{placement}}}").tasks
    assert task.placement == Placement(nodes=(0,), gpus=(0, 1), gpus_per_node=2)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ("", 'task "a": placement.pack says which GPUs it should have, and it asks for none'),
        (
            ", resources: {gpus: {indices: [0]}}",
            'task "a": placement.pack has no effect: resources.gpus.indices names its GPUs',
        ),
        (
            ", resources: {gpus: {count: 1, shared: true}}",
            'task "a": placement.pack has no effect: it shares GPUs',
        ),
    ],
)
def test_a_choice_without_effect_is_refused(tmp_path: Path, fields: str, what: str) -> None:
    text = POOL + TASKS % f"{{name: a, script: [x], placement: {{pack: numa}}{fields}}}"
    (found,) = findings_of(tmp_path, text)
    assert (found.code, found.what) == ("no-gpus-to-choose", what)
    assert "placement" in str(found.where)
