"""Fewer GPUs than a plan counts on, GPUs in use, and harmless cases that give a warning."""

import msgspec

from protocol.errors import Finding
from protocol.messages.node import Gpu, GpuUser, Inventory
from sflow_ctl.plan.gpu_checks import gpu_warnings, gpus_in_use, missing_gpus
from sflow_ctl.plan.model import Placement, Plan
from tests.unit.core.plans import a_plan, a_task

GIB = 1 << 30


def plan(nodes: int = 2, gpus: int | None = 4, backend: str = "slurm", uses: int = 1) -> Plan:
    task = a_task("a", placement=Placement(nodes=(0,), gpus=tuple(range(uses)), gpus_per_node=uses))
    made = a_plan(task, nodes=nodes, gpus=gpus)
    named = (
        msgspec.structs.replace(node, name=f"n{node.index}", backend_type=backend) for node in made.nodes
    )
    return msgspec.structs.replace(made, nodes=tuple(named))


def has(count: int, *problems: str, counts: bool = True, **gpu: object) -> Inventory:
    gpus = tuple(Gpu(index, f"GPU-{index}", **gpu) for index in range(count))  # type: ignore[arg-type]
    return Inventory(
        host="h", cpus=1, cpus_online=1, memory_bytes=1, gpus=gpus, counts_gpus=counts, gpu_problems=problems
    )


def test_enough_gpus_give_no_finding() -> None:
    assert missing_gpus(plan(), {0: has(4), 1: has(8)}) == []
    assert missing_gpus(plan(gpus=None), {0: has(0)}) == []
    assert missing_gpus(plan(), {0: has(0, counts=False)}) == []


def test_fewer_name_the_node_the_numbers_and_why() -> None:
    lost = "GPU 2 does not answer: GPU is lost"
    assert missing_gpus(plan(), {0: has(4), 1: has(3, lost)}) == [
        Finding(
            "gpus-missing",
            f"node n1 has 3 GPUs for this run; gpus_per_node is 4; {lost}",
            where="n1",
            hint="ask Slurm for them (--gres=gpu:N or --gpus-per-node=N), leave the node out (--exclude), or correct "
            "gpus_per_node",
        )
    ]


def test_nodes_that_lack_the_same_are_one_finding() -> None:
    found = missing_gpus(plan(30), {node: has(2) for node in range(30)})
    assert len(found) == 1
    assert found[0].what.endswith("n18, n19 and 10 more each have 2 GPUs for this run; gpus_per_node is 4")
    assert found[0].where is not None
    assert found[0].where.endswith("n18, n19")


def test_on_this_machine_the_hint_is_another() -> None:
    (found,) = missing_gpus(plan(1, backend="local"), {0: has(1)})
    assert found.what == "node n0 has 1 GPU for this run; gpus_per_node is 4"
    assert found.hint == "correct gpus_per_node, or run without real GPUs with --simulate-gpus"


def test_a_failed_gpu_beside_enough_others_is_a_warning() -> None:
    lost = "GPU 7 does not answer: GPU is lost"
    assert gpu_warnings(plan(3), {0: has(7, lost), 1: has(8), 2: has(7, lost)}) == [f"nodes n0, n2: {lost}"]
    assert gpu_warnings(plan(uses=0), {0: has(7, lost)}) == []


def test_uncounted_gpus_give_a_warning_if_they_are_used() -> None:
    uncounted = {0: has(0, counts=False)}
    (warning,) = gpu_warnings(plan(), uncounted)
    assert warning.startswith("node n0: GPUs were not counted")
    assert "gpus_per_node 4" in warning
    assert gpu_warnings(plan(uses=0), uncounted) == []
    assert gpu_warnings(plan(gpus=None), uncounted) == []


def test_processes_on_gpus_are_named_with_their_owners() -> None:
    users = (
        GpuUser(pid=41, owner="alice", program="python", memory_bytes=3 * GIB),
        GpuUser(pid=42),
        GpuUser(pid=43, owner="root", program="nvidia-cuda-mps", memory_bytes=30 << 20),
    )
    assert gpus_in_use(plan(1), {0: has(1, memory_bytes=80 * GIB, used_bytes=4 * GIB, users=users)}) == [
        ("n0", "GPU 0 is in use already: pid 41 (python of alice) with 3.0 GiB, pid 42")
    ]


def test_memory_of_invisible_processes_counts_from_a_tenth() -> None:
    def used(size: int) -> list[tuple[str, str]]:
        return gpus_in_use(plan(1), {0: has(1, memory_bytes=80 * GIB, used_bytes=size)})

    assert used(8 * GIB) == []
    assert used(9 * GIB) == [
        ("n0", "GPU 0 is in use already: 9.0 GiB of 80.0 GiB, by processes that cannot be seen from here")
    ]
    assert gpus_in_use(plan(1), {0: has(1)}) == []
