"""What a task can read of the run's keys, and what they are good for: S4, S10."""

import json
import os
import sys
from pathlib import Path

from tests.faults.fake_slurm import FakeSlurm
from tests.faults.test_slurm_launch import log, run
from tests.support import ROOT

THIEF = f"PYTHONPATH={ROOT} {sys.executable} -m tests.faults.key_thief r"


def test_s4_what_a_task_finds_in_sruns_environment_opens_nothing(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    status, output = run(
        slurm, f"    - {{name: t, resources: {{nodes: {{count: 1}}}}, script: ['{THIEF}']}}\n"
    )
    assert status == 0, output
    seen = json.loads(
        log(slurm).splitlines()[-1].partition("{")[1] + log(slurm).splitlines()[-1].partition("{")[2]
    )
    assert seen["found"], "srun has the configuration: the test looks in the right place"
    assert seen["secrets"] == []
    assert set(seen["answers"]) == {"node 0: 0 bytes", "node 1: 0 bytes"}
    said = (tmp_path / "sflow_output/r/sflow.log").read_text()
    assert "connections with a void key" in said


def test_s4_no_key_of_a_local_run_is_in_an_environment_or_command_line(tmp_path: Path) -> None:
    from tests.support import sflow_ctl

    (tmp_path / "w.yaml").write_text(
        f'version: "0.1"\nworkflow: {{name: w, tasks: [{{name: t, script: ["{THIEF}"]}}]}}\n'
    )
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "sflow_output/r/t/t.log").read_text())
    assert seen == {"found": [], "answers": [], "secrets": []}
