"""Shares of GPUs: from the answers of a fake driver, and from looks made by hand."""

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.node import Gpu
from sflow_agent.node.gpu_driver import GpuDriver
from sflow_agent.telemetry.gpu_shares import GpuShares
from sflow_agent.telemetry.gpus import RARE_EVERY, GpuLooks
from sflow_agent.telemetry.looks import GpuLook
from sflow_agent.telemetry.meters import RankMeter
from tests.unit.agent.fake_nvml import GIB, FakeGpu, FakeNvml, FakeProcess

A, B = RankId(AttemptId("a", 1), 0), RankId(AttemptId("b", 1), 0)
GPUS = tuple(Gpu(index=index, uuid=f"GPU-{index}", name="H100") for index in range(2))
PIDS = {30: A, 31: A, 40: B}


def look(index: int, at: float, pids: dict[int, int | None] | None = None, **values: int) -> GpuLook:
    return GpuLook(GPUS[index], at, values, pids if pids is not None else {})


def test_energy_and_time_go_to_the_ranks_that_have_the_gpu() -> None:
    shares, meters = GpuShares(), {A: RankMeter(), B: RankMeter()}
    planned: dict[RankId, tuple[int, ...]] = {A: (0,), B: (0,)}
    shares.take([look(0, 1.0, {30: 100, 40: None}, energy_mj=1000)], PIDS, planned, meters)
    said = shares.take(
        [look(0, 3.0, {30: 100, 31: 50, 40: None, 99: 7}, energy_mj=5000, percent=50)], PIDS, planned, meters
    )
    assert said == []
    assert (meters[A].energy_mj, meters[B].energy_mj) == (2000.0, 2000.0)
    assert (meters[A].gpu_busy_ms, meters[A].gpu_memory_mib, meters[B].gpu_memory_mib) == (500.0, 150, None)
    assert (meters[A].gpus, meters[B].gpus) == (1, 1)


def test_a_gpu_without_a_process_counts_for_the_rank_that_the_plan_gave_it() -> None:
    shares, meters = GpuShares(), {A: RankMeter(), B: RankMeter()}
    planned: dict[RankId, tuple[int, ...]] = {A: (0,), B: (1,)}
    for at in (1.0, 2.0):
        shares.take([look(0, at, power_mw=70_000)], PIDS, planned, meters)
    assert (meters[A].energy_mj, meters[A].gpus, meters[B].has_energy) == (70_000.0, 0, False)


def test_a_counter_that_was_reset_gives_way_to_the_power() -> None:
    shares, meters = GpuShares(), {A: RankMeter()}
    planned: dict[RankId, tuple[int, ...]] = {A: (0,)}
    shares.take([look(0, 1.0, energy_mj=9000, power_mw=100)], PIDS, planned, meters)
    shares.take([look(0, 2.0, energy_mj=5, power_mw=300)], PIDS, planned, meters)
    assert meters[A].energy_mj == 200.0


def test_without_power_and_counter_there_is_no_energy() -> None:
    shares, meters = GpuShares(), {A: RankMeter()}
    planned: dict[RankId, tuple[int, ...]] = {A: (0,)}
    for at in (1.0, 2.0):
        shares.take([look(0, at, percent=10)], PIDS, planned, meters)
    assert not meters[A].has_energy
    assert meters[A].use().energy_j is None


def test_a_rank_on_another_gpu_than_planned_is_named_once() -> None:
    shares, meters = GpuShares(), {A: RankMeter(), B: RankMeter()}
    planned: dict[RankId, tuple[int, ...]] = {A: (0,), B: (1,)}
    said: list[list[str]] = []
    for at in (1.0, 2.0, 3.0):
        looks = [look(0, at, {40: 1}), look(1, at, {30: 1, 40: 1})]
        said.append(shares.take(looks, PIDS, planned, meters))
    assert said[0] == said[2] == []
    assert sorted(said[1]) == [
        "a#1 computes on GPU 1 (GPU-1), which is planned for b; the plan gave it GPU 0 (GPU-0): "
        "look for a CUDA_VISIBLE_DEVICES in its script",
        "b#1 computes on GPU 0 (GPU-0), which is planned for a; the plan gave it GPU 1 (GPU-1): "
        "look for a CUDA_VISIBLE_DEVICES in its script",
    ]
    assert meters[A].use().other_gpus == ("GPU-1",)


def test_a_gpu_that_was_only_asked_for_its_name_is_not_worth_a_word() -> None:
    shares, meters = GpuShares(), {A: RankMeter()}
    planned: dict[RankId, tuple[int, ...]] = {A: (0,)}
    users: list[dict[int, int | None]] = [{30: 1}, {}, {30: 1}]
    said = [shares.take([look(1, float(at), pids)], PIDS, planned, meters) for at, pids in enumerate(users)]
    assert said == [[], [], []]


def test_a_task_without_gpus_may_use_those_that_are_free() -> None:
    shares, meters = GpuShares(), {A: RankMeter(), B: RankMeter()}
    planned: dict[RankId, tuple[int, ...]] = {A: (), B: (1,)}
    said = [
        shares.take([look(0, at, {30: 1}), look(1, at, {30: 1})], PIDS, planned, meters) for at in (1.0, 2.0)
    ]
    assert said[0] == []
    assert [text[:60] for text in said[1]] == ["a#1 computes on GPU 1 (GPU-1), which is planned for b; the p"]
    assert "the plan gave it none" in said[1][0]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml(
        [
            FakeGpu(
                "GPU-0",
                percent=80,
                used=2 * GIB,
                energy_mj=5,
                links_kib=9,
                ecc=2,
                processes=[FakeProcess(30, GIB)],
            ),
            FakeGpu(
                "GPU-1",
                errors=dict.fromkeys(("energy", "ecc", "links", "processes"), 3),  # NVML_ERROR_NOT_SUPPORTED
            ),
        ]
    )
    fake.install(monkeypatch)
    return fake


def test_the_drivers_values_and_those_that_a_gpu_does_not_have(nvml: FakeNvml) -> None:
    looks = GpuLooks(GPUS, GpuDriver())
    first, second = looks.look()
    assert first.values == {
        "percent": 80, "memory_percent": 40, "memory_mib": 2048, "power_mw": 300_000, "energy_mj": 5,
        "temperature_c": 60, "sm_mhz": 1001, "memory_mhz": 1002, "ecc_corrected": 2, "ecc_uncorrected": 3,
        "nvlink_rx_kib": 9, "nvlink_tx_kib": 9, "processes": 1,
    }  # fmt: skip
    assert first.memory_of == {30: 1024}
    assert second.memory_of is None
    assert {"energy_mj", "ecc_corrected", "nvlink_rx_kib", "processes"}.isdisjoint(second.values)
    assert second.values["power_mw"] == 300_000
    assert nvml.open_sessions == 1


def test_what_changes_slowly_is_asked_for_less_often(nvml: FakeNvml) -> None:
    looks = GpuLooks(GPUS, GpuDriver())
    seen = [set(looks.look()[0].values) for _ in range(RARE_EVERY + 1)]
    assert ["ecc_corrected" in one for one in seen] == [True, *[False] * (RARE_EVERY - 1), True]
    assert [one for one in range(RARE_EVERY + 1) if "sm_mhz" in seen[one]] == [0, 5, 10]


def test_a_lost_gpu_is_an_error_of_the_driver(nvml: FakeNvml) -> None:
    nvml.gpus[0].errors["memory"] = 15  # NVML_ERROR_GPU_IS_LOST
    with pytest.raises(OSError, match="the NVIDIA driver says"):
        GpuLooks(GPUS, GpuDriver()).look()
    assert nvml.open_sessions == 0


def test_simulated_and_unnamed_gpus_are_not_asked() -> None:
    assert not GpuLooks(
        [Gpu(index=0, uuid="GPU-simulated-0", simulated=True), Gpu(index=1, uuid="")], GpuDriver()
    )
