"""GPUs of a real driver, wherever one shows them.

What is found, that a task's processes see their slice and nothing else, and which processes use a GPU already. CUDA
itself is asked, through libcuda.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sflow_agent.node.gpu_view import GpuView
from sflow_agent.node.inventory import gpu_view
from sflow_ctl.runtime.fleet.fleet import NVIDIA_CONTROL
from tests.support import PATIENCE_S, sflow_ctl

CUDA = """
import ctypes, sys, uuid
cuda = ctypes.CDLL("libcuda.so.1")
def check(what, status):
    if status:
        sys.exit(f"{what}: CUDA error {status}")
check("cuInit", cuda.cuInit(0))
count = ctypes.c_int()
check("cuDeviceGetCount", cuda.cuDeviceGetCount(ctypes.byref(count)))
def name_of(device):
    raw = (ctypes.c_ubyte * 16)()
    check("cuDeviceGetUuid", cuda.cuDeviceGetUuid_v2(raw, device))
    return str(uuid.UUID(bytes=bytes(raw)))
"""
SEES = CUDA + 'print(" ".join(name_of(device) for device in range(count.value)))\n'
HOLDS = (
    CUDA
    + """
device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
check("cuDeviceGet", cuda.cuDeviceGet(ctypes.byref(device), 0))
check("cuCtxCreate", cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device))
check("cuMemAlloc", cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(int(sys.argv[1]))))
print("held", flush=True)
sys.stdin.read()
"""
)
REAL = {"SFLOW_SIMULATE_GPUS": "0"}


def reason_for_none() -> str | None:
    """Return why there is no GPU to test with; None if there is one."""
    if not NVIDIA_CONTROL.exists():
        return f"no NVIDIA driver here ({NVIDIA_CONTROL} does not exist)"
    found = gpu_view(0, os.environ)
    if not found.gpus or not found.gpus[0].uuid:
        return f"no GPU that the driver describes: {'; '.join(found.problems) or 'there is none'}"
    done = subprocess.run([sys.executable, "-c", SEES], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"CUDA does not work here: {done.stderr.strip()[-200:]}"


@pytest.fixture(scope="module")
def found() -> GpuView:
    """Return the GPUs of this machine."""
    reason = reason_for_none()
    if reason is not None:
        pytest.skip(reason)
    return gpu_view(0, os.environ)


WORKFLOW = """version: "0.1"
backends: {here: {type: local, gpus_per_node: HAS}}
workflow:
  name: w
  tasks:
    - name: g
      replicas: {count: REPLICAS}
      resources: {gpus: {count: EACH}}
      script: ['exec PYTHON SEES']
"""


def workflow(directory: Path, gpus_per_node: int, replicas: int, each: int) -> None:
    """Tasks that print what CUDA shows to them."""
    (directory / "sees.py").write_text(SEES)
    values = {
        "HAS": gpus_per_node,
        "REPLICAS": replicas,
        "EACH": each,
        "PYTHON": sys.executable,
        "SEES": directory / "sees.py",
    }
    text = WORKFLOW
    for name, value in values.items():
        text = text.replace(name, str(value))
    (directory / "w.yaml").write_text(text)


def run(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return sflow_ctl(
        "run",
        "w.yaml",
        "--run-id",
        "r",
        *arguments,
        cwd=directory,
        env={**REAL, **variables},
        within_s=3 * PATIENCE_S,
    )


def seen(directory: Path, replicas: int) -> list[list[str]]:
    """The UUIDs that CUDA showed to each replica."""
    names = [f"g_{index}" for index in range(replicas)]
    return [(directory / "sflow_output" / "r" / name / f"{name}.log").read_text().split() for name in names]


def bare(uuids: list[str]) -> list[str]:
    """Without what NVML puts in front."""
    return [uuid.split("-", 1)[1] for uuid in uuids]


def test_the_inventory_equals_the_list_of_nvidia_smi(found: GpuView) -> None:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no nvidia-smi on PATH")
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    for gpu in found.gpus:
        assert gpu.uuid in listed.stdout
        assert gpu.name
        assert gpu.memory_bytes >= 0
    assert found.problems == ()


def test_each_task_sees_its_slice_and_nothing_else(found: GpuView, tmp_path: Path) -> None:
    uuids = bare([gpu.uuid for gpu in found.gpus])
    workflow(tmp_path, len(uuids), len(uuids), 1)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen(tmp_path, len(uuids)) == [[uuid] for uuid in uuids]
    (node,) = json.loads((tmp_path / "sflow_output" / "r" / ".sflow/nodes.json").read_text())
    assert bare([gpu["uuid"] for gpu in node["inventory"]["gpus"]]) == uuids


def test_a_task_with_all_gpus_sees_them_in_our_order(found: GpuView, tmp_path: Path) -> None:
    if any(gpu.uuid.startswith("MIG-") for gpu in found.gpus):
        pytest.skip("a process can use a single instance of a partitioned GPU")
    uuids = bare([gpu.uuid for gpu in found.gpus])
    workflow(tmp_path, len(uuids), 1, len(uuids))
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen(tmp_path, 1) == [uuids]


def test_slices_count_within_uuids_that_were_given(found: GpuView, tmp_path: Path) -> None:
    given = [gpu.uuid for gpu in reversed(found.gpus)]
    workflow(tmp_path, len(given), len(given), 1)
    done = run(tmp_path, CUDA_VISIBLE_DEVICES=",".join(given))
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen(tmp_path, len(given)) == [[uuid] for uuid in bare(given)]


def test_more_gpus_than_there_are_end_the_run_before_it_begins(found: GpuView, tmp_path: Path) -> None:
    has = len(found.gpus)
    workflow(tmp_path, has + 1, 1, 1)
    done = run(tmp_path)
    assert done.returncode == 3
    assert f"node localhost has {has} GPU" in done.stderr
    assert f"gpus_per_node says {has + 1}" in done.stderr
    assert not (tmp_path / "sflow_output" / "r").exists()


@pytest.fixture
def held(found: GpuView) -> Iterator[str]:
    """A foreign process with a sixth of the first GPU's memory."""
    size = found.gpus[0].memory_bytes // 6
    environment = {**os.environ, **found.environment((0,), os.environ)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(size)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    if holder.stdout.readline() != "held\n":
        pytest.skip(f"its memory cannot be taken: {holder.communicate()[1].strip()}")
    yield str(holder.pid)
    holder.communicate()


def test_a_gpu_in_use_is_a_warning_and_refused_if_that_is_wanted(
    found: GpuView, held: str, tmp_path: Path
) -> None:
    workflow(tmp_path, len(found.gpus), 1, 1)
    done = run(tmp_path)
    warning = "node localhost: GPU 0 is in use already: "
    assert done.returncode == 0
    assert warning in done.stdout + done.stderr
    refused = run(tmp_path, "--require-idle-gpus", "--run-id", "other")
    assert refused.returncode == 3
    assert warning in refused.stderr
    if "cannot be seen from here" not in refused.stderr:  # NVML shows processes of its own pid namespace only
        assert f"pid {held} " in refused.stderr


def test_a_run_waits_until_a_gpu_is_free(found: GpuView, held: str, tmp_path: Path) -> None:
    workflow(tmp_path, len(found.gpus), 1, 1)
    refused = run(tmp_path, "--wait-for-gpus", "3")
    assert refused.returncode == 3
    assert "after 3 s GPU 0 is in use: " in refused.stderr
    assert "waiting for GPUs of localhost: GPU 0 is in use: " in refused.stdout + refused.stderr
    os.kill(int(held), signal.SIGKILL)
    done = run(tmp_path, "--wait-for-gpus", "60", "--run-id", "other")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_gpu_that_does_nothing_is_a_hang(found: GpuView, tmp_path: Path) -> None:
    workflow(tmp_path, len(found.gpus), replicas=1, each=1)
    text = (tmp_path / "w.yaml").read_text()
    silent = text[: text.index("      script:")] + "      script: [sleep 1000]\n"
    (tmp_path / "w.yaml").write_text(silent + "      hang: {no_gpu_use_for: 3s}\n")
    ended = run(tmp_path)
    assert ended.returncode == 1
    assert "hangs: it has not used its GPUs for 3 s" in ended.stdout + ended.stderr
