"""The number of GPUs from the memory that a task needs and that of the nodes' GPUs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.errors import PlanError, SpecError
from protocol.messages.node import Gpu, Inventory
from sflow_ctl.plan.gpu_checks import small_gpus
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.context import JobNode
from sflow_ctl.planner.show.text import plan_text
from sflow_ctl.report.looking.explanation import RunFactsNow, explain
from sflow_ctl.report.run_view import RunView
from tests.unit.planner.planning import findings_of, plan_of

GIB = 1 << 30


def text(gpus: str, backend: str = "gpus_per_node: 8, gpu_memory: 80G", more: str = "") -> str:
    return (
        f"{more}backends: {{here: {{type: local, {backend}}}}}\n"
        f"workflow: {{name: w, tasks: [{{name: t, script: [x], resources: {{gpus: {{{gpus}}}}}}}]}}\n"
    )


def planned(folder: Path, gpus: str, **context: Any) -> Plan:
    return plan_of(folder, text(gpus), **context)


@pytest.mark.parametrize(
    ("gpus", "count"),
    [
        ("memory: 10G", 1),
        ("memory: 80G", 1),
        ("memory: 81G", 2),
        ("memory: 160G, safety: 1.2", 3),
        ("memory: 160G, safety: 1.2, round_to: 2", 4),
        ("memory: 10G, min: 4", 4),
        ("memory: 10G, min: 3, round_to: 4", 4),
        ("memory: 640G, max: 8", 8),
        ("memory: '${{ 40 * 4 }}G', safety: '1.5'", 3),
    ],
)
def test_memory_decides_the_number(tmp_path: Path, gpus: str, count: int) -> None:
    assert planned(tmp_path, f"count: auto, {gpus}").tasks[0].placement.gpus == tuple(range(count))


def test_the_arithmetic_is_shown(tmp_path: Path) -> None:
    plan = planned(tmp_path, "count: auto, memory: 120G, safety: 1.2, round_to: 4, max: 8")
    expected = (
        'task "t" gets 4 GPUs: 120 GiB × 1.2 / 80 GiB (gpu_memory of backend "here") = 1.8, so 2 GPUs; '
        "rounded up to a multiple of 4: 4"
    )
    assert [one.what for one in plan.notes if one.code == "gpu-sizing"] == [expected]
    assert expected in plan_text(plan)


def test_more_than_the_maximum_is_an_error_with_the_arithmetic(tmp_path: Path) -> None:
    (found,) = findings_of(tmp_path, text("count: auto, memory: 400G, max: 4"))
    assert (found.code, found.what) == (
        "gpus-over-max",
        'task "t" needs 5 GPUs, and max is 4: 400 GiB / 80 GiB'.replace("GiB /", "GiB × 1 /")
        + ' (gpu_memory of backend "here") = 5, so 5 GPUs',
    )


def test_more_than_a_node_has_is_an_error_as_ever(tmp_path: Path) -> None:
    (found,) = findings_of(tmp_path, text("count: auto, memory: 800G"))
    assert found.code != "gpus-over-max"
    assert "10" in found.what


def test_this_machines_gpus_count_where_the_file_says_nothing(tmp_path: Path) -> None:
    plain = text("count: auto, memory: 48G", "gpus_per_node: 8")
    plan = plan_of(tmp_path, plain, gpu_memory_here=lambda: 24 * GIB)
    assert plan.tasks[0].placement.gpus == (0, 1)
    assert "the smallest GPU of this machine" in plan.notes[-1].what
    (found,) = findings_of(tmp_path, plain)
    assert found.code == "gpu-memory-unknown"
    assert found.hint == 'say it in backend "here": gpu_memory: 80G'


@pytest.mark.parametrize(
    ("gpus", "code"),
    [
        ("count: auto", "missing-key"),
        ("count: 2, memory: 10G", "conflicting-keys"),
        ("count: 2, max: 4", "conflicting-keys"),
        ("count: auto, memory: 1G, indices: [0]", "conflicting-keys"),
    ],
)
def test_a_number_and_a_size_exclude_each_other(tmp_path: Path, gpus: str, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        planned(tmp_path, gpus)
    assert [one.code for one in caught.value.findings] == [code]


@pytest.mark.parametrize(
    "gpus", ["memory: much", "memory: 1G, safety: 0.5", "memory: 1G, safety: x", "memory: 1G, min: 0"]
)
def test_wrong_numbers_are_named_with_their_field(tmp_path: Path, gpus: str) -> None:
    (found,) = findings_of(tmp_path, text(f"count: auto, {gpus}"))
    assert found.code == "wrong-value"
    assert "gpus." in found.what


def test_a_wrong_gpu_memory_is_named(tmp_path: Path) -> None:
    (found,) = findings_of(tmp_path, text("count: auto, memory: 1G", "gpus_per_node: 2, gpu_memory: '80'"))
    assert found.what.startswith('gpu_memory of backend "here" must be a size with a unit')


def inventory(*sizes: int) -> Inventory:
    gpus = tuple(Gpu(index=index, uuid=f"GPU-{index}", memory_bytes=size) for index, size in enumerate(sizes))
    return msgspec.structs.replace(INVENTORY, gpus=gpus)


INVENTORY = Inventory(host="n", cpus=8, cpus_online=8, memory_bytes=GIB)


def test_agents_check_what_was_assumed(tmp_path: Path) -> None:
    plan = planned(tmp_path, "count: auto, memory: 150G")
    assert plan.tasks[0].placement.gpu_bytes == 75 * GIB
    assert small_gpus(plan, {0: inventory(*[79 * GIB] * 8)}) == []
    assert small_gpus(plan, {0: inventory()}) == []
    assert small_gpus(plan, {}) == []
    (found,) = small_gpus(plan, {0: inventory(80 * GIB, 40 * GIB)})
    assert found.code == "gpus-too-small"
    assert found.what == "node localhost has a GPU with 40.0 GiB; task t needs 75.0 GiB on each"
    assert found.hint is not None
    assert "gpu_memory: 40960M" in found.hint
    assert small_gpus(plan_of(tmp_path, text("count: 2")), {0: inventory(GIB)}) == []


JOB = """\
backends: [{name: s, type: slurm, account: a, partition: p, time: 10, nodes: 2, gpus_per_node: 8%s}]
workflow: {name: w, tasks: [{name: t, script: [x], resources: {nodes: {count: 1}, gpus: {count: auto, memory: 100G%s}}}]}
"""


def in_job(folder: Path, *gib: int | None, said: str = "", more: str = "") -> Plan:
    nodes = tuple(
        JobNode(f"n{index}", gpu_bytes=None if one is None else one * GIB) for index, one in enumerate(gib)
    )
    return plan_of(folder, JOB % (said, more), job_nodes=nodes, job_id="7", gpu_memory_here=lambda: 8 * GIB)


def test_in_a_job_the_agents_figures_count(tmp_path: Path) -> None:
    plan = in_job(tmp_path, 80, 40, said=", gpu_memory: 200G")
    assert len(plan.tasks[0].placement.gpus) == 3
    (note,) = [one.what for one in plan.notes if one.code == "gpu-sizing"]
    assert note == (
        'task "t" gets 3 GPUs: 100 GiB × 1 / 40 GiB (the smallest GPU of the job\'s nodes, on n1) = 2.5, so 3 GPUs'
    )
    run = RunFactsNow(
        state=RunView(plan), history={}, now_ns=0, joined=frozenset(), lost={}, is_live=True, probe_text=lambda *_: ""
    )  # fmt: skip
    assert note.removeprefix('task "t" ') in [one.text for one in explain(run, "t").because]


def test_before_agents_have_reported_a_first_plan_starts_them(tmp_path: Path) -> None:
    first = in_job(tmp_path, None, None, more=", min: 2, round_to: 4")
    assert (len(first.tasks[0].placement.gpus), first.tasks[0].placement.gpu_bytes) == (4, 0)
    assert len(in_job(tmp_path, None, None, said=", gpu_memory: 50G").tasks[0].placement.gpus) == 2


def test_agents_without_a_driver_leave_it_to_the_file(tmp_path: Path) -> None:
    assert len(in_job(tmp_path, 0, 0, said=", gpu_memory: 50G").tasks[0].placement.gpus) == 2
    with pytest.raises(PlanError) as caught:
        in_job(tmp_path, 0, 0)
    assert [one.code for one in caught.value.findings] == ["gpu-memory-unknown"]
