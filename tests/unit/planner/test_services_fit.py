"""Services hold their GPUs to the end of the run: more of them than there are GPUs is refused, jobs may queue."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.errors import PlanError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.pipeline import build_plan
from tests.unit.planner.planning import CONTEXT

READY = ", probes: {readiness: {log_watch: {match_pattern: up}}}"


def plan(tmp_path: Path, *tasks: tuple[str, int, str], max_running: int | None = None) -> Plan:
    """A plan on one node of four GPUs."""
    lines = [
        f"    - {{name: {name}, script: [x], resources: {{gpus: {{count: {gpus}}}}}{more}}}"
        for name, gpus, more in tasks
    ]
    file = tmp_path / "w.yaml"
    head = 'version: "0.1"\nbackends: {b: {type: local, gpus_per_node: 4}}\nworkflow:\n  name: w\n  tasks:\n'
    file.write_text(head + "\n".join(lines) + "\n")
    return build_plan(load_documents([file]), replace(CONTEXT, max_running=max_running))


def test_services_that_can_never_all_run_are_refused_with_the_sum(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as raised:
        plan(tmp_path, ("prefill", 3, READY), ("decode", 2, READY), ("load", 1, ""))
    (finding,) = raised.value.findings
    assert finding.code == "gpus-do-not-fit"
    assert "3 (prefill) + 2 (decode)" in finding.what
    assert "have only 4 GPUs total" in finding.what
    assert finding.where is not None
    assert "w.yaml:7:" in finding.where


def test_services_that_fit_are_planned(tmp_path: Path) -> None:
    assert len(plan(tmp_path, ("prefill", 2, READY), ("decode", 2, READY)).tasks) == 2


def test_jobs_queue_whatever_their_sum(tmp_path: Path) -> None:
    assert all(
        task.placement.is_flexible for task in plan(tmp_path, ("a", 3, ""), ("b", 3, ""), ("c", 3, "")).tasks
    )


AFTER_SERVER = ", depends_on: [server]"


def test_a_job_that_its_services_leave_no_room_for_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as raised:
        plan(tmp_path, ("server", 3, READY), ("load", 2, AFTER_SERVER))
    (finding,) = raised.value.findings
    assert 'task "load" asks for 2 GPUs; the services it depends on hold 3 of 4' in finding.what
    assert "only 1 GPUs remain available" in finding.what
    assert finding.hint == "use at most 1, or more nodes"


def test_a_job_before_a_service_may_have_all_of_it(tmp_path: Path) -> None:
    assert (
        len(plan(tmp_path, ("prepare", 4, ""), ("server", 4, f"{READY}, depends_on: [prepare]")).tasks) == 2
    )


def test_services_beyond_max_running_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as raised:
        plan(tmp_path, ("a", 1, READY), ("b", 1, READY), max_running=1)
    assert raised.value.findings[0].code == "too-many-services"
    with pytest.raises(PlanError) as raised:
        plan(tmp_path, ("server", 1, READY), ("load", 1, AFTER_SERVER), max_running=1)
    assert 'task "load" runs beside the services it depends on (server)' in raised.value.findings[0].what


def test_sharing_takes_nothing_and_spreads(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        """version: "0.1"
backends: {b: {type: local, nodes: 2, gpus_per_node: 2}}
workflow:
  name: w
  tasks:
    - {name: whole, script: [x], resources: {nodes: {count: 2}, gpus: {count: 4}}}
    - {name: monitor, script: [x], replicas: {count: 4}, resources: {gpus: {count: 1, shared: true}}}
"""
    )
    tasks = build_plan(load_documents([file]), CONTEXT).tasks
    assert all(task.placement.is_shared for task in tasks[1:])
    assert [(task.placement.nodes, task.placement.gpus) for task in tasks[1:]] == [
        ((0,), (0,)),
        ((1,), (0,)),
        ((0,), (1,)),
        ((1,), (1,)),
    ]


def test_tasks_that_keep_their_gpus_hold_them_to_the_end(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    head = 'version: "0.1"\nbackends: {b: {type: local, gpus_per_node: 4}}\nworkflow:\n  name: w\n  tasks:\n'
    resources = "{gpus: {count: 1, release_after: workflow_completion}}"
    keep = f"    - {{name: k, replicas: {{count: 2}}, script: [x], resources: {resources}}}\n"
    user = "    - {name: u, script: [x], depends_on: [k], resources: {gpus: {count: 3}}}\n"
    file.write_text(head + keep + user)
    with pytest.raises(PlanError) as raised:
        build_plan(load_documents([file]), CONTEXT)
    (finding,) = raised.value.findings
    assert finding.what == (
        'task "u" asks for 3 GPUs; the tasks (release_after: workflow_completion) it depends on hold 2 = 2 × 1 (k) of 4 '
        "to the end of the run, only 2 GPUs remain available"
    )
    file.write_text(head + keep.replace("count: 2", "count: 5", 1))
    with pytest.raises(PlanError) as raised:
        build_plan(load_documents([file]), CONTEXT)
    assert "the tasks (release_after: workflow_completion) on backend" in raised.value.findings[0].what
