"""Which GPUs a task gets that wants them near each other, or near a network card: on faked topologies."""

import msgspec
import pytest

from protocol.messages.node import Gpu
from sflow_ctl.core.events import AgentJoined
from sflow_ctl.core.gpu_groups import NodeGroups
from sflow_ctl.core.model.resources import GpuLedger
from sflow_ctl.plan.model import Placement
from sflow_ctl.plan.words import Near, Pack
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, hello

DGX = tuple(
    Gpu(index, f"GPU-{index}", numa=index // 4, domain=0, cards=(f"mlx5_{index}",)) for index in range(8)
)
"""Eight GPUs behind one NVSwitch, four on each NUMA node, each with a card of its own."""
PAIRS = tuple(
    Gpu(
        index,
        f"GPU-{index}",
        numa=index // 4,
        domain=index // 2,
        cards=("mlx5_0",) if index in (5, 7) else (),
    )
    for index in range(8)
)
"""Bridges between pairs; only two GPUs have a card near."""


def chosen(gpus: tuple[Gpu, ...], free: str, count: int, pack: Pack = "none", near: Near = "none") -> str:
    """Return the chosen GPUs, as the digits of their numbers."""
    bits = sum(1 << int(digit) for digit in free)
    mask = NodeGroups.of(gpus).choose(bits, count, pack, is_near_card=near == "nic")
    assert mask.bit_count() == count
    assert mask & ~bits == 0
    return "".join(str(number) for number in range(mask.bit_length()) if mask >> number & 1)


@pytest.mark.parametrize(
    ("free", "count", "pack", "expected"),
    [
        ("01234567", 2, "nvlink", "01"),
        ("1234567", 2, "nvlink", "23"),  # 1 alone has no partner left
        ("13567", 2, "nvlink", "67"),
        ("0135", 2, "nvlink", "01"),
        ("135", 2, "nvlink", "13"),  # none fits: as few pairs as possible
        ("01234567", 4, "nvlink", "0123"),
        ("01234567", 4, "numa", "0123"),
        ("124567", 4, "numa", "4567"),
        ("124567", 2, "numa", "12"),  # the fuller group stays whole for larger tasks
        ("12567", 4, "numa", "1567"),
        ("12567", 2, "none", "12"),
    ],
)
def test_gpus_that_belong_together_are_chosen(free: str, count: int, pack: Pack, expected: str) -> None:
    assert chosen(PAIRS, free, count, pack) == expected


@pytest.mark.parametrize(
    ("free", "count", "pack", "expected"),
    [
        ("01234567", 1, "none", "5"),
        ("01234567", 2, "none", "57"),
        ("01234567", 3, "none", "057"),
        ("0123467", 1, "numa", "7"),
        ("01234567", 2, "nvlink", "45"),  # a pair that has one
        ("01234", 1, "none", "0"),  # none with a card is free
    ],
)
def test_gpus_near_a_card_are_chosen_first(free: str, count: int, pack: Pack, expected: str) -> None:
    assert chosen(PAIRS, free, count, pack, "nic") == expected


def test_all_gpus_behind_one_switch_are_one_domain() -> None:
    assert chosen(DGX, "1357", 2, "nvlink") == "13"
    assert chosen(DGX, "13567", 2, "numa") == "13"


def test_nothing_is_known_of_simulated_gpus_and_the_lowest_are_chosen() -> None:
    simulated = tuple(Gpu(index, f"GPU-{index}", simulated=True) for index in range(4))
    assert chosen(simulated, "123", 2, "nvlink", "nic") == "12"
    assert chosen((), "123", 2, "numa") == "12"


def test_indices_that_cannot_be_ones_are_passed_over() -> None:
    assert NodeGroups.of((Gpu(-1, "a", domain=0), Gpu(1 << 40, "b", domain=0))) == NodeGroups()


def test_a_gang_gets_the_same_gpus_on_nodes_that_are_alike() -> None:
    ledger = GpuLedger(a_plan(a_task("a"), nodes=2, gpus=8).nodes)
    for node in (0, 1):
        ledger.topology.nodes[node] = NodeGroups.of(PAIRS)
    assert ledger.take(Placement(nodes=(0,), gpus=(0,), gpus_per_node=1), lambda _: True)
    wanted = Placement(nodes=(0, 1), is_flexible=True, node_count=2, gpus_per_node=2, pack="nvlink")
    taken = ledger.take(wanted, lambda _: True)
    assert taken is not None
    assert taken.nodes == (0, 1)
    assert len(taken.gpus) == 2


def test_what_an_agent_reports_decides_which_gpus_a_task_gets() -> None:
    place = Placement(nodes=(0,), is_flexible=True, gpus_per_node=2, pack="nvlink")
    plan = a_plan(
        a_task("one", placement=Placement(nodes=(0,), gpus=(0,), gpus_per_node=1)),
        a_task("pair", placement=place),
        a_task("plain", placement=msgspec.structs.replace(place, pack="none")),
        gpus=8,
    )
    driver = Driver(plan)
    joined = hello().hello
    inventory = msgspec.structs.replace(joined.inventory, gpus=PAIRS)
    driver(AgentJoined(hello=msgspec.structs.replace(joined, inventory=inventory)))
    assert driver.task("pair").attempt.gpus == (2, 3)
    assert driver.task("plain").attempt.gpus == (1, 4)
