"""A sweep of 200 cells beside one server in one job of a real Slurm, against one job for each cell by slurmforge's arrays.

From the submission of the job, or of the array, until the last of it has ended; `true` is the program of each cell. The cells of
slurmforge have no server: each would have to start its own. Eight cells run at once in both. Needs root and Debian's Slurm.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import SFLOW_CTL, report, sized
from tests.conformance.reference.install import environment
from tests.slurm.record import PREFIX
from tests.slurm.rig import Cluster, reason_for_none
from tests.slurm.settings import HEAD, Settings

ZERO = "0.2.2"
"""The last slurmforge whose cells are jobs of an array."""
NODES, GPUS = 4, 2
WITHIN_S = 480
OURS = """version: "0.1"
variables: {{N: 0}}
sweep: {{axes: {{N: [{values}]}}}}
backends: {{pool: {{type: slurm, account: lab, partition: main, time: "00:10:00", nodes: {nodes}, gpus_per_node: {gpus}}}}}
workflow:
  name: cells
  tasks:
    - name: server
      resources: {{nodes: {{count: 1}}}}
      ports: {{http: 1}}
      probes: {{readiness: {{tcp_port: {{port: "${{{{ port.http }}}}"}}}}}}
      script: ["exec {python} -m http.server $SFLOW_PORT_HTTP"]
    - name: cell
      depends_on: [server]
      resources: {{nodes: {{count: 1}}, gpus: {{count: 1}}}}
      script: ["true $N"]
"""
THEIRS = """project: bench
experiment_name: cells
cluster: {{partition: main, account: lab, time_limit: "00:10:00", nodes: 1, gpus_per_node: 1, cpus_per_task: 1, mem: 100M}}
run: {{command: "true", command_mode: argv, external_runtime: {{nnodes: 1, nproc_per_node: 1}}}}
sweep: {{enabled: true, shared_axes: {{run.command: [{values}]}}}}
output: {{base_output_dir: ./runs, batch_name: b}}
artifacts: {{checkpoint_globs: [], extra_globs: []}}
resources: {{max_available_gpus: {at_once}, max_gpus_per_job: 1}}
dispatch: {{group_overflow_policy: serial}}
"""


def ours_s(cluster: Cluster, count: int) -> float:
    """One job with the server and all cells."""
    values = ", ".join(map(str, range(count)))
    file = cluster.shared / "cells.yaml"
    file.write_text(OURS.format(values=values, nodes=NODES, gpus=GPUS, python=sys.executable))
    output = Path(tempfile.mkdtemp(dir=cluster.shared))
    command = " ".join([*SFLOW_CTL, "run", str(file), "--output-dir", str(output), "--run-id", "r", "-q"])
    begin = time.monotonic()
    number = cluster.sbatch(f"exec {command}", nodes=NODES, gres=f"gpu:{GPUS}")
    job = cluster.wait_job(number, within_s=WITHIN_S)
    if job.state != "COMPLETED":
        sys.exit(f"job {number} is {job.state}:\n{cluster.output(number)}")
    return time.monotonic() - begin


def theirs_s(cluster: Cluster, count: int) -> float:
    """The array that slurmforge has written."""
    programs = environment(ZERO, "slurmforge").parent
    folder = cluster.shared / "theirs"
    folder.mkdir()
    values = ", ".join(f'"true {number}"' for number in range(count))
    (folder / "experiment.yaml").write_text(THEIRS.format(values=values, at_once=NODES * GPUS))
    subprocess.run(
        [programs / "sforge", "generate", "--config", folder / "experiment.yaml"], cwd=folder, check=True, capture_output=True
    )  # fmt: skip
    (script,) = (folder / "runs/bench/cells/batch_b/sbatch").glob("array_group_*.sh")
    script.write_text(script.read_text().replace("#SBATCH --qos=normal\n", ""))  # the cluster has none
    begin = time.monotonic()
    path = f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"
    done = cluster.run_in_node(HEAD, ["sbatch", "--parsable", str(script)], env={"PATH": path})
    if done.returncode:
        sys.exit(done.stderr)
    while cluster.slurm("squeue", "-h", "-r", "-o", "%i").strip():
        if time.monotonic() - begin > WITHIN_S:
            left = len(cluster.slurm("squeue", "-h", "-r", "-o", "%i").splitlines())
            sys.exit(f"{left} of {count} jobs of the array have not ended within {WITHIN_S} s")
        time.sleep(0.5)
    elapsed = time.monotonic() - begin
    results = list((folder / "runs").rglob("attempt_result.json"))
    if len(results) != count:
        sys.exit(f"{len(results)} of {count} cells have a result")
    return elapsed


def main() -> None:
    """Both in one run of one cluster."""
    reason = reason_for_none()
    if reason is not None:
        sys.exit(f"no Slurm cluster can be started here: {reason}")
    count = sized(200, 6)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    cluster = Cluster.start(Settings(nodes=NODES, gpus=GPUS), directory)
    try:
        ours = [ours_s(cluster, count) for _ in range(2)]
        theirs = [theirs_s(cluster, count)]
        ratio = round(theirs[0] / max(ours), 1)
        report(
            "sweep_in_job",
            "s",
            {"one job": ours, "one job for each cell": theirs},
            {"cells": count, "ratio": ratio},
        )
    finally:
        cluster.end()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
