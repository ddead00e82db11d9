"""The kernel's files, interpreted: real ones of this machine and samples of others."""

from pathlib import Path

import pytest

from sflow_agent.monitor.host import (
    CpuTimes,
    HostReader,
    Traffic,
    busy_percent,
    cpu_times,
    load_averages,
    memory_values,
    rates,
    traffic,
)

STAT = "cpu  100 10 50 800 40 0 0 0 5 0\ncpu0 100 10 50 800 40 0 0 0 5 0\n"
MEMINFO = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 250 kB\nSwapTotal: 64 kB\nSwapFree: 32 kB\n"
DEV = (
    "Inter-|   Receive  |  Transmit\n face |bytes packets ...\n"
    "    lo: 999 9 0 0 0 0 0 0 999 9 0 0 0 0 0 0\n"
    "  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n"
    "  eth1:10 3 0 0 0 0 0 0 20 4 0 0 0 0 0 0\n"
)


def test_cpu_counts_waiting_as_idle_and_guests_once() -> None:
    assert cpu_times(STAT) == CpuTimes(idle=840, total=1000)
    assert busy_percent(CpuTimes(840, 1000), CpuTimes(890, 1100)) == 50.0
    assert busy_percent(CpuTimes(840, 1000), CpuTimes(840, 1000)) == 0.0
    assert busy_percent(CpuTimes(840, 1000), CpuTimes(800, 1100)) == 100.0


def test_load_and_memory_are_in_the_order_of_their_files() -> None:
    assert load_averages("4.42 2.23 1.54 1/200 77\n") == (4.42, 2.23, 1.54)
    assert memory_values(MEMINFO) == (1000, 250, 750, 75.0, 64, 32)


def test_memory_without_an_estimate_of_the_kernel_counts_what_is_free() -> None:
    assert memory_values("MemTotal: 1000 kB\nMemFree: 100 kB\n") == (1000, 100, 900, 90.0, 0, 0)


def test_network_sums_all_interfaces_but_the_loopback() -> None:
    assert traffic(DEV) == Traffic(110, 220, 4, 6)
    assert rates(Traffic(0, 0, 0, 0), Traffic(110, 220, 4, 6), 2.0) == (55.0, 110.0, 2.0, 3.0)
    assert rates(Traffic(500, 0, 0, 0), Traffic(110, 220, 4, 6), 2.0)[0] == 0.0


def write_proc(folder: Path, stat: str = STAT) -> Path:
    (folder / "self/net").mkdir(parents=True)
    for name, text in (
        ("stat", stat),
        ("loadavg", "1 2 3 1/2 3\n"),
        ("meminfo", MEMINFO),
        ("self/net/dev", DEV),
    ):
        (folder / name).write_text(text)
    return folder


def test_rates_are_about_the_time_since_the_scope_began(tmp_path: Path) -> None:
    reader = HostReader(write_proc(tmp_path))
    reader.begin(["cpu", "network", "memory"])
    (tmp_path / "stat").write_text("cpu  150 10 50 850 40 0 0 0 5 0\n")
    cpu, memory, network = reader.read(["cpu", "memory", "network"])
    assert cpu.values == (50.0, 1.0, 2.0, 3.0)
    assert memory.values == (1000, 250, 750, 75.0, 64, 32)
    assert network.values[:2] == (110, 220)
    assert network.values[2:] == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("content", ["", "cpu x y z\n", "cpu 1 2\n"])
def test_a_file_that_cannot_be_read_is_an_error_once_and_not_the_others(tmp_path: Path, content: str) -> None:
    reader = HostReader(write_proc(tmp_path, content))
    first = reader.read(["cpu", "memory"])
    assert [bool(one.error) for one in first] == [True, False]
    assert [one.scope for one in reader.read(["cpu", "memory"])] == ["memory"]


def test_this_machine_has_all_four_scopes() -> None:
    reader = HostReader()
    reader.begin(["cpu", "memory", "disk", "network"])
    readings = reader.read(["cpu", "memory", "disk", "network"])
    assert [len(one.values) for one in readings] == [4, 6, 5, 6]
    assert not any(one.error for one in readings)
