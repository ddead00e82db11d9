"""Runs inside jobs of a real Slurm on this machine (`tests/slurm`).

How soon the first task starts, and how fast 500 tasks run, beside 500 job steps. Needs root and Debian's Slurm.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from bench.measure import SFLOW_CTL, machine, median, report
from tests.slurm.record import PREFIX
from tests.slurm.rig import Cluster, reason_for_none
from tests.slurm.settings import Settings

SIZES = (1, 2, 4, 8, 16)
REPETITIONS = 5
TASKS = 500
STEPS_AT_ONCE = 16
"""More job steps at once only wait for each other here."""
WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: NODES, gpus_per_node: 1}}
operators: {one: {type: srun, ntasks: 1}}
workflow:
  name: bench
  tasks:
    - {name: first, operator: one, script: ["date +%s.%N"]}
"""
MANY = WORKFLOW[: WORKFLOW.index("    - {name: first")] + (
    f"    - {{name: t, operator: one, replicas: {{count: {TASKS}}}, resources: {{nodes: {{count: 1}}}}, script: ['true']}}\n"
)


def in_job(cluster: Cluster, script: str, nodes: int) -> str:
    """What a batch script of a job prints; it must succeed."""
    number = cluster.sbatch(f"set -e\n{script}", nodes=nodes, exclusive=True)
    job = cluster.wait_job(number, within_s=300)
    if job.state != "COMPLETED":
        sys.exit(f"job {number} is {job.state}:\n{cluster.output(number)}")
    return cluster.output(number)


def first_task_s(cluster: Cluster, nodes: int) -> float:
    """From the start of `sflow-ctl run` in the batch script to the first task's first line."""
    file = cluster.shared / f"first-{nodes}.yaml"
    file.write_text(WORKFLOW.replace("NODES", str(nodes)))
    output = Path(tempfile.mkdtemp(dir=cluster.shared))
    command = " ".join([*SFLOW_CTL, "run", str(file), "--output-dir", str(output), "--run-id", "r", "-q"])
    said = in_job(cluster, f"date +%s.%N; {command}", nodes)
    started = float(said.splitlines()[0])
    return float((output / "r" / "first" / "first.log").read_text()) - started


def tasks_per_s(cluster: Cluster) -> float:
    """500 tasks over 4 nodes, the whole command."""
    file = cluster.shared / "many.yaml"
    file.write_text(MANY.replace("NODES", "4"))
    output = Path(tempfile.mkdtemp(dir=cluster.shared))
    command = " ".join([*SFLOW_CTL, "run", str(file), "--output-dir", str(output), "--run-id", "r", "-q"])
    return TASKS / _timed(in_job(cluster, f"date +%s.%N; {command}; date +%s.%N", 4))


def steps_per_s(cluster: Cluster) -> float:
    """500 job steps of one process each over the same nodes."""
    step = "srun --overlap --exact --nodes=1 --ntasks=1 --mem=0 true"
    script = f"date +%s.%N; seq {TASKS} | xargs -P{STEPS_AT_ONCE} -I_ {step}; date +%s.%N"
    return TASKS / _timed(in_job(cluster, script, 4))


def _timed(said: str) -> float:
    """Seconds between the two times among what a job has printed."""
    times = [float(line) for line in said.splitlines() if re.fullmatch(r"\d+\.\d{9}", line)]
    return times[-1] - times[0]


def main() -> None:
    """Two tables."""
    reason = reason_for_none()
    if reason is not None:
        sys.exit(f"no Slurm cluster can be started here: {reason}")
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    cluster = Cluster.start(Settings(nodes=max(SIZES), gpus=1), directory)
    try:
        results: dict[str, list[float]] = {f"{nodes} nodes": [] for nodes in SIZES}
        for number in range(REPETITIONS + 1):
            for nodes in SIZES:
                value = first_task_s(cluster, nodes)
                if number:
                    results[f"{nodes} nodes"].append(value)
        report("slurm_first_task", "s", results)
        tasks = [tasks_per_s(cluster) for _ in range(REPETITIONS)]
        steps = [steps_per_s(cluster) for _ in range(2)]
        ratio = round(median(tasks) / median(steps), 1)
        report(
            "slurm_500", "per s", {"tasks": tasks, "job steps": steps}, {"ratio": ratio, "machine": machine()}
        )
    finally:
        cluster.end()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
