"""Spare nodes in the plan: nothing is placed on them, tasks may move there; what cannot be held back is refused."""

from pathlib import Path

import pytest

from sflow_ctl.plan.model import Placement, Plan
from sflow_ctl.planner.context import JobNode
from sflow_ctl.planner.show.plan_json import to_json
from sflow_ctl.planner.show.text import plan_text
from tests.unit.planner.planning import findings_of, plan_of

POOL = "backends: {pool: {type: local, nodes: 4, gpus_per_node: 2, spares: 1}}\n"
TASKS = "workflow: {name: w, tasks: [%s]}\n"


def planned(tmp_path: Path, tasks: str, pool: str = POOL) -> Plan:
    return plan_of(tmp_path, pool + TASKS % tasks)


def test_nothing_is_placed_on_a_spare_node_but_all_may_move_there(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "{name: whole, script: [x]}, {name: one, script: [x], resources: {nodes: 1}},"
        "{name: gpu, script: [x], resources: {gpus: 2}}",
    )
    assert [node.is_spare for node in plan.nodes] == [False, False, False, True]
    by_name = {task.name: task for task in plan.tasks}
    assert by_name["whole"].placement.nodes == (0, 1, 2)
    assert by_name["whole"].elsewhere == Placement(nodes=(0, 1, 2, 3), is_flexible=True, node_count=3)
    assert by_name["one"].elsewhere == Placement(nodes=(0, 1, 2, 3), is_flexible=True, node_count=1)
    assert {task.on_node_lost for task in plan.tasks} == {"elsewhere"}
    assert by_name["gpu"].placement == Placement(nodes=(0,), gpus=(0, 1), gpus_per_node=2)
    assert by_name["gpu"].elsewhere == Placement(
        nodes=(0, 1, 2, 3), is_flexible=True, node_count=1, gpus_per_node=2
    )
    assert plan.survives_lost_nodes


@pytest.mark.parametrize(
    ("task", "survives"),
    [
        ("{name: t, script: [x]}", True),  # a job is tried again after a fault of its node
        ("{name: t, script: [x], on_node_lost: fail}", False),
        ("{name: t, script: [x], retries: {count: 0, interval: 1, infra_count: 0}}", False),
        (
            "{name: t, script: [x], retries: {count: 0, interval: 1, infra_count: 0}, on_node_lost: elsewhere}",
            True,
        ),
        ("{name: t, block: b}", True),
    ],
)
def test_agents_go_on_without_a_lost_node_where_a_task_may_run_elsewhere(
    tmp_path: Path, task: str, survives: bool
) -> None:
    blocks = "blocks: {b: {tasks: {inner: {script: [x]}}}}, " if "block" in task else ""
    text = "backends: {pool: {type: local, nodes: 2}}\nworkflow: {name: w, %stasks: [%s]}\n"
    assert plan_of(tmp_path, text % (blocks, task)).survives_lost_nodes is survives


def test_a_task_that_is_placed_when_it_is_ready_may_be_placed_on_a_used_spare_node(tmp_path: Path) -> None:
    plan = planned(
        tmp_path, "{name: a, script: [x], resources: {gpus: 6}}, {name: b, script: [x], resources: {gpus: 2}}"
    )
    assert [task.placement for task in plan.tasks] == [
        Placement(nodes=(0, 1, 2, 3), is_flexible=True, node_count=count, gpus_per_node=2) for count in (3, 1)
    ]


def test_tasks_do_not_see_spare_nodes(tmp_path: Path) -> None:
    plan = planned(tmp_path, '{name: t, script: ["echo ${{ backends.pool.nodes | length }}"]}')
    (task,) = plan.tasks
    assert task.script.endswith("echo 3")
    assert task.env["SFLOW_BACKEND_NUM_NODES"] == "3"


def test_a_task_that_names_its_node_does_not_move(tmp_path: Path) -> None:
    (task,) = planned(tmp_path, "{name: t, script: [x], resources: {nodes: {indices: [-1]}}}").tasks
    assert task.placement.nodes == (2,)
    assert task.elsewhere is None
    assert "nodes.indices" in task.pinned


def test_expressions_on_nodes_follow_a_task_that_may_move(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "{name: a, script: [x], resources: {nodes: 1}},"
        ' {name: b, depends_on: [a], script: ["echo ${{ task.a.nodes[0].ip_address }}"]}',
    )
    assert plan.tasks[0].elsewhere is not None
    assert plan.tasks[1].deferred


@pytest.mark.parametrize(
    ("workflow", "task", "rule"),
    [
        ("", "", None),
        ("on_node_lost: elsewhere,", "", "elsewhere"),
        ("on_node_lost: elsewhere,", ", on_node_lost: fail", "fail"),
        ("", ", on_node_lost: elsewhere", "elsewhere"),
    ],
)
def test_the_tasks_rule_wins_over_the_workflows(
    tmp_path: Path, workflow: str, task: str, rule: str | None
) -> None:
    text = "backends: {p: {type: local, nodes: 2}}\n"
    text += f"workflow: {{name: w, {workflow} tasks: [{{name: t, script: [x]{task}}}]}}\n"
    (planned_task,) = plan_of(tmp_path, text).tasks
    assert planned_task.on_node_lost == rule


def test_a_rule_of_fail_wins_over_spare_nodes(tmp_path: Path) -> None:
    (task,) = planned(tmp_path, "{name: t, script: [x], on_node_lost: fail}").tasks
    assert task.on_node_lost == "fail"


@pytest.mark.parametrize("spares", ["4", "5"])
def test_some_node_must_be_left(tmp_path: Path, spares: str) -> None:
    text = POOL.replace("spares: 1", f"spares: {spares}") + TASKS % "{name: t, script: [x]}"
    (found,) = findings_of(tmp_path, text)
    assert found.code == "spares-do-not-fit"
    assert f'backend "pool" holds back {spares} spare nodes of 4 nodes' in found.what
    assert "spares" in str(found.where)
    assert "ask for more nodes or fewer spares" in (found.hint or "")


def test_nodes_that_are_left_out_count_as_missing(tmp_path: Path) -> None:
    fields = "type: slurm, account: a, partition: p, time: 5, nodes: 3, gpus_per_node: 0, spares: 2"
    pool = f"backends: {{pool: {{{fields}, include_nodes: [n1, n2]}}}}\n"
    nodes = tuple(JobNode(f"n{number}", f"10.0.0.{number}") for number in range(1, 4))
    (found,) = findings_of(tmp_path, pool + TASKS % "{name: t, script: [x]}", job_nodes=nodes)
    assert found.code == "spares-do-not-fit"
    assert "2 spare nodes of 2 nodes that include_nodes and exclude_nodes leave" in found.what


def test_spares_are_of_allocations(tmp_path: Path) -> None:
    pool = "backends: {pool: {type: docker, image: i, spares: 1}}\n"
    (found,) = planned(tmp_path, "{name: t, script: [x]}", pool).warnings
    assert found.what == 'key "spares" has no meaning for backend "pool" of type docker: it is ignored'


def test_a_shown_plan_names_the_spare_nodes(tmp_path: Path) -> None:
    plan = planned(tmp_path, "{name: t, script: [x]}")
    text = plan_text(plan)
    assert f"node {plan.nodes[3].name} (spare: used when another node is lost)" in text
    assert text.count("(spare") == 1
    assert [node["spare"] for node in to_json(plan)["nodes"]] == [False, False, False, True]
    assert to_json(plan)["tasks"][0]["on_node_lost"] == "elsewhere"
