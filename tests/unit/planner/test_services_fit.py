"""Services hold their GPUs to the end of the run: more of them than there are GPUs is refused, jobs may queue."""

from pathlib import Path

import pytest

from protocol.errors import PlanError
from sflow_ctl.planner.build import build_plan
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.plan import Plan
from sflow_ctl.spec.loader import load_documents

CONTEXT = PlanContext(
    workspace_dir="/ws",
    output_dir="/out",
    run_directory="/out/run",
    run_id="run",
    nodes_override=None,
    gpus_per_node_override=None,
    max_running=None,
    path_exists=lambda path: True,
)
READY = ", probes: {readiness: {log_watch: {match_pattern: up}}}"


def plan(tmp_path: Path, *tasks: tuple[str, int, str]) -> Plan:
    """A plan on one node of four GPUs."""
    lines = [
        f"    - {{name: {name}, script: [x], resources: {{gpus: {{count: {gpus}}}}}{more}}}"
        for name, gpus, more in tasks
    ]
    file = tmp_path / "w.yaml"
    head = 'version: "0.1"\nbackends: {b: {type: local, gpus_per_node: 4}}\nworkflow:\n  name: w\n  tasks:\n'
    file.write_text(head + "\n".join(lines) + "\n")
    return build_plan(load_documents([file]), CONTEXT)


def test_services_that_can_never_all_run_are_refused_with_the_sum(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as raised:
        plan(tmp_path, ("prefill", 3, READY), ("decode", 2, READY), ("load", 1, ""))
    (finding,) = raised.value.findings
    assert finding.code == "gpus-do-not-fit"
    assert "3 (prefill) + 2 (decode)" in finding.what and "have only 4 GPUs total" in finding.what
    assert finding.where is not None and "w.yaml:7:" in finding.where


def test_services_that_fit_are_planned(tmp_path: Path) -> None:
    assert len(plan(tmp_path, ("prefill", 2, READY), ("decode", 2, READY)).tasks) == 2


def test_jobs_queue_whatever_their_sum(tmp_path: Path) -> None:
    assert all(
        task.placement.is_flexible for task in plan(tmp_path, ("a", 3, ""), ("b", 3, ""), ("c", 3, "")).tasks
    )
