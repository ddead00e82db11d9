"""Which GPUs the ledger finds for a task, and on which nodes."""

from sflow_ctl.core.model.resources import GpuLedger
from sflow_ctl.plan.model import Placement
from tests.unit.core.plans import a_plan, a_task


def a_ledger(nodes: int, gpus: int) -> GpuLedger:
    return GpuLedger(a_plan(a_task("a"), nodes=nodes, gpus=gpus).nodes)


def wanted(*nodes: int, count: int, gpus: int) -> Placement:
    return Placement(nodes=nodes, is_flexible=True, node_count=count, gpus_per_node=gpus)


def always(_node: int) -> bool:
    return True


def test_a_gang_gets_the_gpu_that_is_free_on_all_nodes_though_another_is_the_lowest() -> None:
    ledger = a_ledger(4, 2)
    assert ledger.take(wanted(0, count=1, gpus=1), always) == Placement(
        nodes=(0,), gpus=(0,), gpus_per_node=1
    )
    taken = ledger.take(wanted(0, 1, 2, 3, count=4, gpus=1), always)
    assert taken == Placement(nodes=(0, 1, 2, 3), gpus=(1,), gpus_per_node=1)
    assert ledger.take(wanted(0, 1, 2, 3, count=4, gpus=1), always) is None


def test_a_gang_leaves_out_nodes_that_have_no_gpus_in_common_with_the_others() -> None:
    ledger = a_ledger(3, 4)
    for node, gpus in ((0, (0, 1)), (1, (2, 3)), (2, (0, 3))):
        assert ledger.take(Placement(nodes=(node,), gpus=gpus, gpus_per_node=2), always)
    assert ledger.take(wanted(0, 1, 2, count=3, gpus=1), always) is None
    assert ledger.take(wanted(0, 1, 2, count=2, gpus=2), always) is None
    taken = ledger.take(wanted(0, 1, 2, count=2, gpus=1), always)
    assert taken == Placement(nodes=(1, 2), gpus=(1,), gpus_per_node=1)


def test_many_different_sets_of_free_gpus_cost_a_bounded_search() -> None:
    ledger = a_ledger(300, 16)
    for node in range(300):
        taken = tuple(bit for bit in range(16) if (node * 2654435761 >> 7) >> bit & 1)
        assert ledger.take(Placement(nodes=(node,), gpus=taken, gpus_per_node=len(taken)), always)
    ledger.take(wanted(*range(300), count=299, gpus=2), always)
