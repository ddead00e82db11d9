"""The GPUs that an agent may use, and a task's slice of them, for answers of NVML on real machines."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import pynvml
import pytest

from protocol.messages.node import Gpu, GpuUser
from sflow_agent.node import inventory
from sflow_agent.node.gpu_view import GpuView, SliceError
from tests.unit.agent.fake_nvml import GIB, FakeGpu, FakeNvml, FakeProcess

PCI = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
LOST = {"handle": pynvml.NVML_ERROR_GPU_IS_LOST}
NOT_MINE = {"handle": pynvml.NVML_ERROR_NO_PERMISSION}
A, B, C, D = "GPU-aa00-0", "GPU-aa11-1", "GPU-bb22-2", "GPU-cc33-3"
M0, M1, M2 = "MIG-11111111", "MIG-12222222", "MIG-23333333"


def machine(*gpus: str | FakeGpu) -> FakeNvml:
    return FakeNvml([gpu if isinstance(gpu, FakeGpu) else FakeGpu(gpu) for gpu in gpus])


def four() -> FakeNvml:
    return machine(A, B, C, D)


def partitioned() -> FakeNvml:
    """A whole GPU, and one with instances in places 0, 2 and 3."""
    small = {0: FakeGpu(M0, ids=(7, 0)), 2: FakeGpu(M1, ids=(9, 0)), 3: FakeGpu(M2, ids=(9, 1))}
    return machine(A, FakeGpu(B, instances=small))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no driver; `with_driver` gives it one."""
    monkeypatch.setattr(inventory, "_NVIDIA_CONTROL", str(tmp_path / "nvidiactl"))
    monkeypatch.setattr(inventory, "_AMD_CONTROL", str(tmp_path / "kfd"))
    return tmp_path


def view(here: Path, monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, environ: Mapping[str, str]) -> GpuView:
    (here / "nvidiactl").touch()
    nvml.install(monkeypatch)
    seen = inventory.gpu_view(0, environ)
    assert nvml.open_sessions == 0
    assert [gpu.index for gpu in seen.gpus] == list(range(len(seen.gpus)))
    assert seen.is_counted
    return seen


@pytest.mark.parametrize(
    ("nvml", "given", "uuids", "names"),
    [
        pytest.param(four(), None, [A, B, C, D], "0,1,2,3", id="nobody has hidden any"),
        pytest.param(machine(A, B), "0,1", [A, B], "0,1", id="a control group hides the others"),
        pytest.param(
            machine(FakeGpu(A, errors=NOT_MINE), FakeGpu(B, errors=NOT_MINE), C, D),
            "0,1",
            [C, D],
            "0,1",
            id="a control group, and NVML counts what it may not touch",
        ),
        pytest.param(four(), "2,3", [C, D], "2,3", id="Slurm without a control group"),
        pytest.param(four(), "3,1", [D, B], "3,1", id="in another order"),
        pytest.param(four(), f"{C},{A}", [C, A], "2,0", id="UUIDs become numbers"),
        pytest.param(four(), "GPU-b,GPU-aa1", [C, B], "2,1", id="unique beginnings of UUIDs"),
        pytest.param(four(), "GPU-aa,GPU-b", [], "", id="a beginning that is not unique ends the list"),
        pytest.param(four(), f"{C},GPU-zz,{A}", [C], "2", id="an unknown UUID ends the list"),
        pytest.param(four(), "", [], "", id="empty"),
        pytest.param(four(), "-1", [], "", id="minus one"),
        pytest.param(four(), "NoDevFiles", [], "", id="Slurm's word for none"),
        pytest.param(four(), "1,-1,2", [B], "1", id="a negative number ends the list"),
        pytest.param(four(), "1,9,2", [B], "1", id="a number that is too large ends the list"),
        pytest.param(four(), "0,1,0", [], "", id="a number that comes twice"),
        pytest.param(four(), f"{A},{A}", [], "", id="a UUID that comes twice"),
        pytest.param(four(), " 1, +2", [B, C], "1,2", id="read as strtoul does it"),
        pytest.param(four(), f"0,{B}", [A], "0", id="the first entry decides the kind"),
        pytest.param(partitioned(), None, [A, M0, M1, M2], f"0,{M0},{M1},{M2}", id="instances have names"),
        pytest.param(partitioned(), f"{M2},{M0}", [M2, M0], f"{M2},{M0}", id="instances by UUID"),
        pytest.param(partitioned(), "MIG-2", [M2], M2, id="the beginning of an instance's UUID"),
        pytest.param(partitioned(), "MIG-1", [], "", id="which is not unique"),
        pytest.param(partitioned(), f"MIG-{B}/9/1,MIG-{B}/7/0", [M2, M0], f"{M2},{M0}", id="instances as of old"),
        pytest.param(partitioned(), f"MIG-{B}/8/0", [], "", id="an instance that is not there"),
        pytest.param(partitioned(), "1,0", [M0, A], f"{M0},0", id="a partitioned GPU is its first instance"),
        pytest.param(partitioned(), B, [M0], M0, id="by its UUID too"),
        pytest.param(
            machine(A, FakeGpu(B, errors=LOST), C, D), "0,1,2,3", [A, C, D], f"{A},{C},{D}", id="one is lost"
        ),
        pytest.param(
            machine(FakeGpu(A, errors=LOST), B), f"{A},{B}", [B], B, id="one is lost, and UUIDs were given"
        ),
        pytest.param(machine(FakeGpu(A, errors=LOST), B), None, [B], B, id="one is lost, and nothing was given"),
        pytest.param(machine(), None, [], "", id="a driver without GPUs"),
    ],
)  # fmt: skip
def test_visible_gpus_and_the_variables_of_tasks(
    nvml: FakeNvml,
    given: str | None,
    uuids: list[str],
    names: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = view(here, monkeypatch, nvml, {} if given is None else {"CUDA_VISIBLE_DEVICES": given})
    assert [gpu.uuid for gpu in seen.gpus] == uuids
    made = seen.environment(range(len(uuids)), {})
    has_numbers = any(name.isdecimal() for name in names.split(","))
    assert made == ({"CUDA_VISIBLE_DEVICES": names, **(PCI if has_numbers else {})} if uuids else {})
    assert list(seen.engine_names(range(len(uuids)))) == uuids
    for index, name in enumerate(names.split(",") if names else ()):
        assert seen.environment((index,), {})["CUDA_VISIBLE_DEVICES"] == name


def test_a_slice_counts_within_the_given_gpus(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = view(here, monkeypatch, four(), {"CUDA_VISIBLE_DEVICES": "2,3"})
    assert seen.environment((0,), {}) == {"CUDA_VISIBLE_DEVICES": "2", **PCI}
    assert seen.environment((), {}) == {}
    with pytest.raises(SliceError, match="was given GPU 2, and this node has 2 GPUs for the run"):
        seen.environment((1, 2), {})


def test_an_order_that_the_user_has_chosen_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fastest = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    seen = view(here, monkeypatch, four(), {"CUDA_VISIBLE_DEVICES": "2,3", **fastest})
    assert seen.environment((0,), fastest) == {"CUDA_VISIBLE_DEVICES": "2"}
    by_uuid = view(here, monkeypatch, four(), {"CUDA_VISIBLE_DEVICES": f"{C},{D}", **fastest})
    assert by_uuid.environment((0,), fastest) == {"CUDA_VISIBLE_DEVICES": C}


@pytest.mark.parametrize(
    ("nvml", "environ", "problem"),
    [
        (machine(A, FakeGpu(B, errors=LOST)), {}, "GPU 1 does not answer: GPU is lost"),
        (
            machine(A, FakeGpu(B, errors={"memory": pynvml.NVML_ERROR_GPU_IS_LOST})),
            {},
            "GPU 1 does not answer: GPU is lost",
        ),
        (
            machine(A, FakeGpu(B, errors={"mig": pynvml.NVML_ERROR_UNKNOWN})),
            {},
            "GPU 1 does not answer: Unknown Error",
        ),
        (machine(A, FakeGpu(B, instances={})), {}, "GPU 1 is in MIG mode and has no instances for this process"),
        (machine(A), {"CUDA_VISIBLE_DEVICES": "0,1,2"}, "CUDA takes 1 of the 3 entries of CUDA_VISIBLE_DEVICES=0,1,2"),
    ],
)  # fmt: skip
def test_missing_gpus_are_reported_and_the_others_used(
    nvml: FakeNvml, environ: dict[str, str], problem: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = view(here, monkeypatch, nvml, environ)
    assert [gpu.uuid for gpu in seen.gpus] == [A]
    assert seen.problems == (problem,)
    with pytest.raises(SliceError, match="has 1 GPU for the run"):
        seen.environment((1,), {})


@pytest.mark.parametrize(
    ("nvml", "said"),
    [
        (FakeNvml([], init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED), "Driver Not Loaded"),
        (FakeNvml([], init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH), "RM has detected an NVML/RM version mismatch."),
        (FakeNvml([], init_error=pynvml.NVML_ERROR_NO_PERMISSION), "Insufficient Permissions"),
        (FakeNvml([], count_error=pynvml.NVML_ERROR_UNKNOWN), "Unknown Error"),
    ],
)  # fmt: skip
def test_a_driver_that_fails_gives_no_gpus_and_the_reason(
    nvml: FakeNvml, said: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = view(here, monkeypatch, nvml, {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert seen.gpus == ()
    assert seen.problems[0].startswith("the NVIDIA driver says: ")
    assert said in seen.problems[0]


def test_without_nvmls_library_the_given_gpus_count(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nvidiactl").touch()
    FakeNvml([], init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND).install(monkeypatch)
    seen = inventory.gpu_view(0, {"CUDA_VISIBLE_DEVICES": "4"})
    assert len(seen.gpus) == 1
    assert seen.environment((0,), {})["CUDA_VISIBLE_DEVICES"] == "4"
    assert seen.problems == ("the NVIDIA driver cannot be asked: libnvidia-ml.so.1 is not here",)
    assert not inventory.gpu_view(0, {}).is_counted


def test_facts_that_a_gpu_does_not_have_are_not_errors(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = dict.fromkeys(("name", "memory", "mig"), pynvml.NVML_ERROR_NOT_SUPPORTED)
    silent["processes"] = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    seen = view(here, monkeypatch, machine(FakeGpu(A, errors=silent)), {})
    assert seen.gpus == (Gpu(index=0, uuid=A, domain=0),)
    assert seen.problems == ()


def test_memory_and_its_users(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, gone = FakeProcess(os.getpid(), 3 * GIB), FakeProcess(1 << 22)
    seen = view(here, monkeypatch, machine(FakeGpu(A, used=4 * GIB, processes=[mine, gone])), {})
    owner = pwd.getpwuid(os.getuid()).pw_name
    program = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    users = (
        GpuUser(pid=os.getpid(), owner=owner, program=program, memory_bytes=3 * GIB),
        GpuUser(pid=1 << 22),
    )
    expected = Gpu(0, A, name="NVIDIA H100", memory_bytes=80 * GIB, used_bytes=4 * GIB, users=users, domain=0)
    assert seen.gpus == (expected,)


@pytest.mark.parametrize(
    ("environ", "count", "of_first", "of_last"),
    [
        ({}, None, {}, {}),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, 2, {"CUDA_VISIBLE_DEVICES": "2", **PCI}, {"CUDA_VISIBLE_DEVICES": "3", **PCI}),
        ({"CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, 2, {"CUDA_VISIBLE_DEVICES": "MIG-a"}, {"CUDA_VISIBLE_DEVICES": "MIG-b"}),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0, {}, {}),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0, {}, {}),
    ],
)  # fmt: skip
def test_without_a_driver_what_slurm_gave_counts(
    environ: dict[str, str],
    count: int | None,
    of_first: dict[str, str],
    of_last: dict[str, str],
    here: Path,
) -> None:
    seen = inventory.gpu_view(0, environ)
    assert (len(seen.gpus) if seen.is_counted else None) == count
    if count:
        assert seen.environment((0,), environ) == of_first
        assert seen.environment((count - 1,), environ) == of_last
    elif count is None:
        assert seen.environment((5,), environ) == {}


@pytest.mark.parametrize(
    ("environ", "count", "made"),
    [
        ({}, None, {}),
        (
            {"ROCR_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "2,3", "GPU_DEVICE_ORDINAL": "2,3"},
            2,
            {"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1", "GPU_DEVICE_ORDINAL": "1"},
        ),
        ({"HIP_VISIBLE_DEVICES": "2,3"}, 2, {"CUDA_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": "3"}),
        ({"CUDA_VISIBLE_DEVICES": "6,7"}, 2, {"CUDA_VISIBLE_DEVICES": "7", "HIP_VISIBLE_DEVICES": "7"}),
    ],
)
def test_amds_variables(environ: dict[str, str], count: int | None, made: dict[str, str], here: Path) -> None:
    (here / "kfd").touch()
    seen = inventory.gpu_view(0, environ)
    assert (len(seen.gpus) if seen.is_counted else None) == count
    assert seen.environment((1,), environ) == made
    assert seen.engine_names((1,)) == ()


def test_simulated_gpus_are_counted_and_have_no_names(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nvidiactl").touch()
    FakeNvml([], init_error=pynvml.NVML_ERROR_UNKNOWN).install(monkeypatch)
    seen = inventory.gpu_view(8, {"CUDA_VISIBLE_DEVICES": "2"})
    assert len(seen.gpus) == 8
    assert seen.is_counted
    assert all(gpu.simulated for gpu in seen.gpus)
    assert seen.environment((7,), {}) == {}
    assert seen.engine_names((7,)) == ()


def test_the_inventory_describes_the_view(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = view(here, monkeypatch, machine(A, FakeGpu(B, errors=LOST)), {})
    taken = inventory.take_inventory(seen)
    assert (taken.gpus, taken.counts_gpus, taken.gpu_problems) == (seen.gpus, True, seen.problems)


@pytest.mark.parametrize("has_driver", [True, False])
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("0,1", ()),
        ("", ('CUDA_VISIBLE_DEVICES="" hides all GPUs',)),
        ("NoDevFiles", ('CUDA_VISIBLE_DEVICES="NoDevFiles" hides all GPUs',)),
        ("0,0", ("CUDA takes 0 of the 2 entries of CUDA_VISIBLE_DEVICES=0,0",)),
        ("0,-1,1", ("CUDA takes 1 of the 3 entries of CUDA_VISIBLE_DEVICES=0,-1,1",)),
    ],
)
def test_a_variable_that_hides_gpus_is_named(
    given: str, problem: tuple[str, ...], has_driver: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": given}
    seen = view(here, monkeypatch, four(), environ) if has_driver else inventory.gpu_view(0, environ)
    assert seen.problems == problem


def test_the_names_of_planned_gpus_are_given_if_all_are_known() -> None:
    gpus = (
        Gpu(index=0, uuid=A),
        Gpu(index=1, uuid=""),
        Gpu(index=2, uuid=C),
        Gpu(index=3, uuid="x", simulated=True),
    )
    view = GpuView(gpus=gpus)
    assert view.uuids((2, 0)) == (C, A)
    assert view.uuids((0, 1)) == view.uuids((0, 3)) == view.uuids((0, 4)) == view.uuids(()) == ()
