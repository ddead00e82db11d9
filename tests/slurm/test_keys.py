"""What a task of a real job finds of the keys of its run, and what they open: S4."""

import json
import sys

from tests.slurm.rig import Cluster
from tests.slurm.runs import fresh
from tests.slurm.test_runs import submit
from tests.support import ROOT

__all__ = ["fresh"]


def test_s4_keys_in_the_environment_of_a_real_srun_open_nothing(cluster: Cluster) -> None:
    thief = f"PYTHONPATH={ROOT} {sys.executable} -m tests.faults.key_thief {cluster.shared}"
    number = submit(
        cluster,
        f"    - {{name: t, resources: {{nodes: {{indices: [0]}}}}, script: ['sleep 1; {thief}']}}\n",
        nodes=2,
    )
    job = cluster.wait_job(number, within_s=90)
    assert job.state == "COMPLETED", cluster.output(number)
    line = (cluster.shared / "out/run/t/t.log").read_text().splitlines()[-1]
    seen = json.loads(line[line.index("{") :])
    assert any("srun" in where for where in seen["found"]), "the test looks in the right place"
    assert seen["secrets"] == []
    assert {answer.partition(": ")[2] for answer in seen["answers"]} == {"0 bytes"}
