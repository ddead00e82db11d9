"""What an agent finds out about its GPUs' surroundings: on faked machines of a driver and of sysfs."""

from pathlib import Path

import pynvml
import pytest

from protocol.messages.node import Gpu
from sflow_agent.node.gpu_view import GpuView
from sflow_agent.node.nvml import ask_places
from sflow_agent.node.topology import Bus, domains, nearest_cards, with_topology
from tests.unit.agent.fake_nvml import FakeGpu, FakeNvml

SWITCH_A = "pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:00.0"
SWITCH_B = "pci0000:26/0000:26:01.0/0000:27:00.0/0000:28:00.0"
OTHER_BRIDGE = "pci0000:e0/0000:e0:01.0"


def sysfs(root: Path, devices: dict[str, int], cards: dict[str, str]) -> Path:
    """Make a sysfs: directories of PCI devices with their NUMA nodes, and cards by name."""
    (root / "bus/pci/devices").mkdir(parents=True)
    (root / "class/infiniband").mkdir(parents=True)
    for path, numa in devices.items():
        place = root / "devices" / path
        place.mkdir(parents=True)
        (place / "numa_node").write_text(f"{numa}\n")
        (root / "bus/pci/devices" / place.name).symlink_to(place)
    for name, path in cards.items():
        card = root / "devices" / path / "infiniband" / name
        card.mkdir(parents=True)
        (card / "device").symlink_to(root / "devices" / path)
        (root / "class/infiniband" / name).symlink_to(card)
    return root


def test_a_gpu_is_near_the_card_behind_its_own_switch(tmp_path: Path) -> None:
    root = sysfs(
        tmp_path,
        {
            f"{SWITCH_A}/0000:18:00.0": 0, f"{SWITCH_A}/0000:19:00.0": 0,
            f"{SWITCH_B}/0000:29:00.0": 0, f"{SWITCH_B}/0000:2a:00.0": 0,
            f"{OTHER_BRIDGE}/0000:e1:00.0": 1,
        },
        {"mlx5_0": f"{SWITCH_A}/0000:19:00.0", "mlx5_1": f"{SWITCH_B}/0000:2a:00.0"},
    )  # fmt: skip
    gpus = [Gpu(0, "GPU-a"), Gpu(1, "GPU-b"), Gpu(2, "GPU-c")]
    buses = ["00000000:18:00.0", "00000000:29:00.0", "00000000:E1:00.0"]
    found = with_topology(gpus, buses, [(0, 1)], root)
    assert [gpu.cards for gpu in found] == [("mlx5_0",), ("mlx5_1",), ()]
    assert [gpu.numa for gpu in found] == [0, 0, 1]
    assert [gpu.domain for gpu in found] == [0, 0, 2]


def test_a_gpu_without_a_card_on_its_bridge_is_near_those_of_its_numa_node() -> None:
    cards = {"mlx5_1": Bus("/sys/devices/pci0000:30/x", 0), "mlx5_0": Bus("/sys/devices/pci0000:40/y", 1)}
    assert nearest_cards(Bus("/sys/devices/pci0000:10/z", 1), cards) == ("mlx5_0",)
    assert nearest_cards(Bus("/sys/devices/pci0000:10/z", 3), cards) == ()
    assert nearest_cards(Bus("/sys/devices/pci0000:10/z"), cards) == ()


def test_a_machine_that_says_nothing_leaves_all_unknown(tmp_path: Path) -> None:
    gpus = [Gpu(0, "GPU-a"), Gpu(1, "GPU-b")]
    found = with_topology(gpus, ["", "00000000:18:00.0"], [], tmp_path)
    assert [(gpu.numa, gpu.cards, gpu.domain) for gpu in found] == [(-1, (), 0), (-1, (), 1)]


def test_domains_are_what_is_connected_directly_or_not() -> None:
    assert domains(6, [(0, 1), (1, 2), (4, 5)]) == [0, 0, 0, 3, 4, 4]
    assert domains(4, [(2, 3), (0, 1), (1, 2)]) == [0, 0, 0, 0]
    assert domains(0, []) == []


def test_the_driver_says_where_gpus_are_and_what_connects_them(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {0: FakeGpu("MIG-1", ids=(1, 0))}
    nvml = FakeNvml(
        [
            FakeGpu("GPU-a", bus="00000000:18:00.0", linked=("GPU-b",)),
            FakeGpu("GPU-b", bus="00000000:19:00.0"),
            FakeGpu("GPU-c", bus="00000000:1A:00.0", instances=parts),
        ]
    )
    nvml.install(monkeypatch)
    buses, linked = ask_places(["GPU-a", "GPU-b", "MIG-1", "GPU-x"])
    assert buses == ["00000000:18:00.0", "00000000:19:00.0", "00000000:1A:00.0", ""]
    assert linked == [(0, 1)]
    assert nvml.open_sessions == 0


def test_a_driver_that_does_not_know_links_or_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"links": pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, "bus": pynvml.NVML_ERROR_NOT_SUPPORTED}
    nvml = FakeNvml([FakeGpu("GPU-a", errors=dict(errors)), FakeGpu("GPU-b", errors=dict(errors))])
    nvml.install(monkeypatch)
    assert ask_places(["GPU-a", "GPU-b"]) == (["", ""], [])
    nvml.init_error = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert ask_places(["GPU-a"]) == ([""], [])


def test_a_task_finds_the_cards_of_its_gpus_in_its_environment() -> None:
    gpus = (Gpu(0, "GPU-a", cards=("mlx5_0",)), Gpu(1, "GPU-b", cards=("mlx5_0", "mlx5_1")), Gpu(2, "GPU-c"))
    view = GpuView(gpus, cuda=("0", "1", "2"))
    assert view.environment((0, 1), {})["SFLOW_TASK_NICS"] == "mlx5_0,mlx5_1"
    assert "SFLOW_TASK_NICS" not in view.environment((2,), {})
