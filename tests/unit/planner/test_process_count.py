"""How many processes a task of several nodes has: one rule, whatever the backend. And GPUs on which none starts."""

from pathlib import Path

import pytest

from sflow_ctl.plan.model import Plan
from tests.unit.planner.planning import plan_of

LOCAL = "backends: {pool: {type: local, nodes: 2, gpus_per_node: 4}}\n"
SLURM = "backends: {pool: {type: slurm, nodes: 2, gpus_per_node: 4, time: 5}}\n"
OPERATORS = (
    "operators: {b: {type: bash}, p: {type: python}, s: {type: srun}, two: {type: srun, ntasks_per_node: 2},"
    " one: {type: srun, ntasks: 1}}\n"
)
JOB = frozenset(("account", "partition"))


def ranks(tmp_path: Path, backend: str, task: str) -> tuple[int, ...]:
    return planned(tmp_path, backend, task).tasks[0].ranks_per_node


def planned(tmp_path: Path, backend: str, task: str) -> Plan:
    text = f"{backend}{OPERATORS}workflow: {{name: w, tasks: [{{name: t, script: [x]{task}}}]}}\n"
    return plan_of(tmp_path, text, given=JOB)


@pytest.mark.parametrize("backend", [LOCAL, SLURM], ids=["local", "slurm"])
@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("", (1, 1)),
        (", resources: {nodes: 1}", (1,)),
        (", resources: {nodes: 2}", (1, 1)),
        (", resources: {gpus: 8}", (1, 1)),
        (", resources: {gpus: 4}", (1,)),
        (", operator: s", (1, 1)),
        (", operator: two", (2, 2)),
        (", operator: one", (1,)),
        (", operator: b", (1,)),
        (", operator: p, resources: {gpus: 8}", (1,)),
        (", launcher: torchrun, operator: b", (1, 1)),
    ],
)
def test_ux_05_the_operator_decides_on_every_backend(
    tmp_path: Path, backend: str, task: str, expected: tuple[int, ...]
) -> None:
    assert ranks(tmp_path, backend, task) == expected


@pytest.mark.parametrize("backend", [LOCAL, SLURM], ids=["local", "slurm"])
def test_ux_05_gpus_on_nodes_without_a_process_are_warned_of(tmp_path: Path, backend: str) -> None:
    (warning,) = planned(tmp_path, backend, ", operator: b, resources: {gpus: 8}").warnings
    assert warning.code == "idle-gpus"
    assert "GPUs on 2 nodes and starts processes on 1" in warning.what
    assert str(warning.where).endswith("tasks[0].resources")
    for task in (", resources: {gpus: 8}", ", operator: b, resources: {gpus: 4}", ", operator: b", ""):
        assert planned(tmp_path, backend, task).warnings == ()


def test_ux_05_the_number_of_nodes_of_a_table(tmp_path: Path) -> None:
    for task, nodes in (
        ("", 2),
        (", operator: b", 1),
        (", operator: b, resources: {gpus: 8}", 2),
        (", resources: {gpus: 1}", 1),
    ):
        assert planned(tmp_path, LOCAL, task).tasks[0].node_count == nodes


def test_ux_05_strict_compatibility_has_one_process_locally(tmp_path: Path) -> None:
    text = f"{LOCAL}workflow: {{name: w, tasks: [{{name: t, script: [x]}}]}}\n"
    assert plan_of(tmp_path, text, compat="0.2").tasks[0].ranks_per_node == (1,)
    assert plan_of(tmp_path, SLURM + text.removeprefix(LOCAL), compat="0.2", given=JOB).tasks[
        0
    ].ranks_per_node == (1, 1)
