"""Which tasks may leave a lost node, and that expressions on their nodes wait until a task starts."""

from pathlib import Path
from typing import Any

import pytest

from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.planner.context import JobNode
from tests.unit.planner.planning import findings_of, plan_of

WORKFLOW = "workflow:\n  name: w\n  tasks:\n"
IN_JOB = "backends: [{name: s, type: slurm, default: true, partition: p, account: a, time: 10, nodes: 3, gpus_per_node: 4}]\n"


def tasks(tmp_path: Path, *written: str, **context: Any) -> dict[str, PlannedTask]:
    """The planned tasks by name; each of `written` is one in YAML's flow style. Three nodes of four GPUs unless said."""
    return {task.name: task for task in planned(tmp_path, *written, **context).tasks}


def planned(tmp_path: Path, *written: str, head: str = "", **context: Any) -> Plan:
    text = head + WORKFLOW + "".join(f"    - {one}\n" for one in written)
    return plan_of(tmp_path, text, **({"nodes_override": 3, "gpus_per_node_override": 4} | context))


def one(tmp_path: Path, fields: str, **context: Any) -> PlannedTask:
    return tasks(tmp_path, f"{{name: t, script: [x], {fields}}}", **context)["t"]


def test_n2_a_task_that_names_no_node_may_be_moved(tmp_path: Path) -> None:
    task = one(tmp_path, "resources: {nodes: {count: 1}}")
    assert task.placement == Placement(nodes=(0,))
    assert task.elsewhere == Placement(nodes=(0, 1, 2), is_flexible=True, node_count=1)


def test_n2_gpus_and_their_count_go_along(tmp_path: Path) -> None:
    task = one(tmp_path, "resources: {gpus: {count: 8}}")
    assert (task.placement.nodes, task.placement.gpus) == ((0, 1), (0, 1, 2, 3))
    assert task.elsewhere == Placement(nodes=(0, 1, 2), is_flexible=True, node_count=2, gpus_per_node=4)


def test_n2_nodes_that_a_task_excludes_stay_excluded(tmp_path: Path) -> None:
    task = one(tmp_path, "resources: {nodes: {count: 1, exclude: [1]}}")
    assert task.elsewhere is not None
    assert task.elsewhere.nodes == (0, 2)


def test_n2_a_task_of_all_nodes_has_what_is_left(tmp_path: Path) -> None:
    operator = "operators: {single: {type: bash}}\n"
    task = one(tmp_path, "operator: single, retries: {count: 1, interval: 0}", head=operator)
    assert task.placement.nodes == (0, 1, 2)
    assert task.elsewhere is not None
    assert task.elsewhere.node_count == 0


def test_n2_a_task_with_a_process_on_each_node_keeps_their_number(tmp_path: Path) -> None:
    task = one(tmp_path, "retries: {count: 1, interval: 0}")
    assert task.ranks_per_node == (1, 1, 1)
    assert task.elsewhere is not None
    assert task.elsewhere.node_count == 3


def test_n2_a_task_with_ports_may_be_moved(tmp_path: Path) -> None:
    task = one(tmp_path, "ports: {http: 1}, resources: {nodes: {count: 1}}")
    assert task.elsewhere is not None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ("resources: {nodes: {indices: [1]}}", "resources.nodes.indices names its nodes"),
        ("resources: {nodes: {indices: [0]}, gpus: {count: 1}}", "resources.nodes.indices names its nodes"),
    ],
)
def test_n2_a_task_that_names_its_nodes_is_pinned(tmp_path: Path, fields: str, why: str) -> None:
    task = one(tmp_path, fields)
    assert (task.elsewhere, task.pinned) == (None, why)


def test_n2_where_there_is_no_other_node_a_task_stays(tmp_path: Path) -> None:
    assert one(tmp_path, "resources: {nodes: {count: 1}}", nodes_override=1).elsewhere is None
    assert one(tmp_path, "resources: {nodes: {count: 3}}").elsewhere is None


def in_job(tmp_path: Path, operator: str) -> PlannedTask:
    nodes = tuple(JobNode(f"n{index}", f"10.0.0.{index}") for index in range(3))
    task = "{name: t, script: [x], operator: o, resources: {nodes: {count: 1}}}"
    head = f"{IN_JOB}operators: [{{name: o, type: srun, {operator}}}]\n"
    context = {"nodes_override": None, "gpus_per_node_override": None, "job_nodes": nodes, "job_id": "7"}
    return tasks(tmp_path, task, head=head, **context)["t"]


def test_n2_a_job_step_is_moved_with_its_nodelist(tmp_path: Path) -> None:
    step = in_job(tmp_path, "mpi: pmix")
    assert step.elsewhere is not None
    (argument,) = step.assigned_arguments
    assert step.argv[argument.position] == "n0"


def test_n2_a_nodelist_of_the_operator_pins_a_job_step(tmp_path: Path) -> None:
    step = in_job(tmp_path, "mpi: pmix, nodelist: [n0]")
    assert (step.elsewhere, step.pinned) == (None, "the nodelist of its operator names its nodes")


CLIENTS = {
    "script": "{name: c, script: ['curl ${{ task.s.nodes[0].ip_address }}'], depends_on: [s]}",
    "variable": "{name: c, script: [x], variables: [{name: A, value: '${{ task.s.nodes[0].name }}'}], depends_on: [s]}",
    "quoted": """{name: c, script: ['${{ task["s"].nodes[0].name }}'], depends_on: [s]}""",
    "gpus": "{name: c, script: ['${{ task.s.gpus }}'], depends_on: [s]}",
    "loop": "{name: c, script: ['${{ task.values() | map(attribute=\"nodes\") | list }}'], depends_on: [s]}",
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_n2_expressions_on_the_nodes_of_a_task_with_retries_wait(tmp_path: Path, kind: str) -> None:
    server = "{name: s, script: [x], retries: {count: 1, interval: 0}, resources: {nodes: {count: 1}}}"
    plan = planned(tmp_path, server, CLIENTS[kind])
    by_name = {task.name: task for task in plan.tasks}
    assert by_name["s"].elsewhere is not None
    assert len(by_name["c"].deferred) == 1
    assert plan.task_views["s"]["nodes"]  # type: ignore[index]


@pytest.mark.parametrize("kind", CLIENTS)
def test_n2_without_retries_they_are_evaluated_and_pin_the_task(tmp_path: Path, kind: str) -> None:
    server = "{name: s, script: [x], kind: service, resources: {nodes: {count: 1}}}"
    if kind == "variable":  # as before: only late values of a variable see tasks
        assert findings_of(tmp_path, WORKFLOW + f"    - {server}\n    - {CLIENTS[kind]}\n", nodes_override=3)
        return
    client = CLIENTS[kind].replace("{name: c,", "{name: c, on_node_lost: fail,")
    by_name = tasks(tmp_path, server, client)
    assert by_name["c"].deferred == ()
    assert by_name["s"].elsewhere is None
    assert "with retries" in by_name["s"].pinned


def test_n2_expressions_on_pinned_tasks_are_evaluated_as_before(tmp_path: Path) -> None:
    server = "{name: s, script: [x], retries: {count: 1, interval: 0}, resources: {nodes: {indices: [1]}}}"
    by_name = tasks(tmp_path, server, CLIENTS["script"])
    assert by_name["c"].deferred == ()


def test_public_09_a_task_that_waits_for_failure_and_success_never_runs(tmp_path: Path) -> None:
    def refused(*more: str) -> list[str]:
        text = WORKFLOW + "".join(f"    - {task}\n" for task in ("{name: a, script: [x]}", *more))
        return [finding.what for finding in findings_of(tmp_path, text) if finding.code == "never-runs"]

    direct = "{name: r, script: [x], depends_on: [{task: a, until: failed}, {task: a, until: completed}]}"
    assert refused(direct) == ['task "r" can never run: it waits for the failure of "a", and for its success']
    chain = "{name: b, script: [x], depends_on: [a]}"
    through = "{name: r, script: [x], depends_on: [{task: a, until: failed}, b]}"
    assert len(refused(chain, through)) == 1
    rescue = "{name: q, script: [x], depends_on: [{task: a, until: failed}]}"
    assert (
        len(
            refused(
                rescue,
                "{name: r, script: [x], depends_on: [q, a]}",
                "{name: z, script: [x], depends_on: [r]}",
            )
        )
        == 1
    )


def test_public_09_a_service_may_be_ready_and_then_fail(tmp_path: Path) -> None:
    server = "{name: a, script: [x], probes: {readiness: {tcp_port: {port: 80}}}}"
    rescue = "{name: r, script: [x], depends_on: [a, {task: a, until: failed}]}"
    assert "r" in tasks(tmp_path, server, rescue)
    ended = "{name: r, script: [x], depends_on: [{task: a, until: finished}, {task: a, until: failed}]}"
    assert "r" in tasks(tmp_path, "{name: a, script: [x]}", ended)
