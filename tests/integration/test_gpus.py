"""GPUs on this machine, from the command line to a task's environment, without a driver.

Variables say what there is. With a driver: `test_real_gpus.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sflow_ctl.runtime.fleet.fleet import NVIDIA_CONTROL
from tests.support import PATIENCE_S, ROOT

pytestmark = pytest.mark.skipif(
    NVIDIA_CONTROL.exists(), reason="this machine has a driver, which is asked instead"
)
WITH_DRIVER = """
import sys
from pathlib import Path
from sflow_ctl.runtime.fleet import fleet
fleet.NVIDIA_CONTROL = Path("/dev/null")
from sflow_ctl.__main__ import main
sys.exit(main())
"""
WORKFLOW = """version: "0.1"
backends: {here: {type: local, gpus_per_node: COUNT}}
workflow:
  name: w
  tasks:
    - name: g
      replicas: {count: 2}
      resources: {gpus: {count: 1}}
      script: ['echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER $SFLOW_TASK_GPUS']
    - {name: none, script: ['echo ${CUDA_VISIBLE_DEVICES-unset} ${CUDA_DEVICE_ORDER-unset}']}
"""


def run(
    tmp_path: Path, gpus: int | None, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run on a machine with the GPUs in `CUDA_VISIBLE_DEVICES`; `gpus` is the number in the file."""
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("COUNT", "null" if gpus is None else str(gpus)))
    return subprocess.run(
        [sys.executable, "-c", WITH_DRIVER, "run", "w.yaml", "--run-id", "r", *arguments],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "SFLOW_SIMULATE_GPUS": "0",
            "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"],
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def said(tmp_path: Path, task: str) -> str:
    return (tmp_path / "sflow_output" / "r" / task / f"{task}.log").read_text().strip()


def test_slices_count_within_the_gpus_of_this_process(tmp_path: Path) -> None:
    done = run(tmp_path, 2, CUDA_VISIBLE_DEVICES="6,3")
    assert done.returncode == 0, done.stderr
    assert [said(tmp_path, name) for name in ("g_0", "g_1")] == ["6 PCI_BUS_ID 0", "3 PCI_BUS_ID 1"]
    assert said(tmp_path, "none") == "6,3 unset"
    (node,) = json.loads((tmp_path / "sflow_output" / "r" / ".sflow/nodes.json").read_text())
    assert len(node["inventory"]["gpus"]) == 2


def test_an_order_of_the_users_own_is_kept(tmp_path: Path) -> None:
    done = run(tmp_path, 2, CUDA_VISIBLE_DEVICES="6,3", CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert done.returncode == 0, done.stderr
    assert said(tmp_path, "g_1") == "3 FASTEST_FIRST 1"


def test_names_pass_through_and_have_no_order(tmp_path: Path) -> None:
    done = run(tmp_path, 2, CUDA_VISIBLE_DEVICES="GPU-a,GPU-b")
    assert done.returncode == 0, done.stderr
    assert said(tmp_path, "g_1") == "GPU-b 1"


def test_fewer_gpus_than_in_the_file_end_the_run_before_it_begins(tmp_path: Path) -> None:
    done = run(tmp_path, 4, CUDA_VISIBLE_DEVICES="6,3")
    assert done.returncode == 3
    assert "error[gpus-missing]: node localhost has 2 GPUs for this run; gpus_per_node is 4" in done.stderr
    assert "--simulate-gpus" in done.stderr
    assert not (tmp_path / "sflow_output" / "r").exists()


def test_more_gpus_than_there_are_can_be_pretended(tmp_path: Path) -> None:
    done = run(tmp_path, 4, "--simulate-gpus", CUDA_VISIBLE_DEVICES="6")
    assert done.returncode == 0, done.stderr
    assert [said(tmp_path, name).split()[0] for name in ("g_0", "g_1")] == ["0", "1"]


def test_uncounted_gpus_are_assumed_with_a_warning(tmp_path: Path) -> None:
    done = run(tmp_path, 2)
    assert done.returncode == 0, done.stderr
    assert "warning: node localhost: GPUs were not counted" in done.stdout + done.stderr
    assert said(tmp_path, "g_1").split()[0] == "1"


def test_a_gpu_that_a_node_does_not_have_is_not_given_away(tmp_path: Path) -> None:
    done = run(tmp_path, None, CUDA_VISIBLE_DEVICES="6")
    assert done.returncode == 1
    assert (
        "it was given GPU 1, and this node has 1 GPU for the run, counted from 0" in done.stdout + done.stderr
    )
