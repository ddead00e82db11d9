"""Runs inside jobs of a real Slurm on this machine (`tests/slurm`).

How soon the first task starts, and how fast 500 tasks run, beside 500 job steps. `python -m bench.slurm size` runs 5,000 and
100,000 tasks instead, once each on four nodes: the rate, and the most memory of the controller and of an agent. Needs root and
Debian's Slurm.
"""

import os
import re
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from bench.measure import SFLOW_CTL, machine, median, report
from tests.slurm.record import PREFIX
from tests.slurm.rig import Cluster, reason_for_none
from tests.slurm.settings import Settings

SIZES = (1, 2, 4, 8, 16)
REPETITIONS = 5
TASKS = 500
FEW, MANY = 5_000, 100_000
"""Tasks of the runs of `size`."""
STEPS_AT_ONCE = 16
"""More job steps at once only wait for each other here."""
WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "01:00:00", nodes: NODES, gpus_per_node: 1}}
operators: {one: {type: srun, ntasks: 1}}
workflow:
  name: bench
  tasks:
    - {name: first, operator: one, script: ["date +%s.%N"]}
"""
MANY_TASKS = WORKFLOW[: WORKFLOW.index("    - {name: first")] + (
    "    - {name: t, operator: one, replicas: {count: COUNT}, resources: {nodes: {count: 1}}, script: ['true']}\n"
)


def in_job(cluster: Cluster, script: str, nodes: int, within_s: float = 300) -> str:
    """What a batch script of a job prints; it must succeed."""
    number = cluster.sbatch(f"set -e\n{script}", nodes=nodes, exclusive=True, time=int(within_s // 60) + 1)
    job = cluster.wait_job(number, within_s=within_s)
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


def tasks_per_s(cluster: Cluster, count: int = TASKS, within_s: float = 300) -> float:
    """So many tasks over 4 nodes, the whole command."""
    file = cluster.shared / "many.yaml"
    file.write_text(MANY_TASKS.replace("NODES", "4").replace("COUNT", str(count)))
    output = Path(tempfile.mkdtemp(dir=cluster.shared))
    command = " ".join([*SFLOW_CTL, "run", str(file), "--output-dir", str(output), "--run-id", "r", "-q"])
    return count / _timed(in_job(cluster, f"date +%s.%N; {command}; date +%s.%N", 4, within_s))


class Peaks(threading.Thread):
    """The most memory, in MB by `VmHWM`, that a controller and an agent of a cluster have had."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.mb = {"controller": 0.0, "agent": 0.0}
        self.cpu_s = {"controller": 0.0, "agent": 0.0}
        """Processor seconds of the one that used most."""
        self.is_over = threading.Event()
        self._cluster = cluster

    def run(self) -> None:
        """Looks every half second."""
        while not self.is_over.wait(0.5):
            for node in self._cluster.nodes:
                for process in self._cluster.processes_in_node(node):
                    self._look(process.pid, process.command)

    def _look(self, pid: int, command: str) -> None:
        kind = "agent" if "sflow_agent" in command else "controller" if " run " in command else ""
        if not kind or "sflow" not in command:
            return
        try:
            status, stat = Path(f"/proc/{pid}/status").read_text(), Path(f"/proc/{pid}/stat").read_text()
        except OSError:  # it has ended
            return
        if "VmHWM:" in status:
            self.mb[kind] = max(self.mb[kind], int(status.partition("VmHWM:")[2].split()[0]) / 1024)
            used = sum(map(int, stat.rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
            self.cpu_s[kind] = max(self.cpu_s[kind], used)


def size(cluster: Cluster) -> None:
    """Few tasks and many."""
    rates, notes = dict[str, list[float]](), dict[str, object]()
    for count in (FEW, MANY):
        peaks = Peaks(cluster)
        peaks.start()
        rates[f"{count} tasks"] = [tasks_per_s(cluster, count, 3000)]
        peaks.is_over.set()
        peaks.join()
        for kind, value in peaks.mb.items():
            notes[f"{kind}, {count} tasks"] = (
                f"{value:.0f} MB at most, {peaks.cpu_s[kind]:.1f} s of processor time"
            )
    few, many = (values[0] for values in rates.values())
    report("slurm_size", "tasks/s", rates, {f"rate of {MANY}, of {FEW}": round(many / few, 3), **notes})


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
    """Two tables, or the one of sizes."""
    reason = reason_for_none()
    if reason is not None:
        sys.exit(f"no Slurm cluster can be started here: {reason}")
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    is_size = sys.argv[1:] == ["size"]
    cluster = Cluster.start(Settings(nodes=4 if is_size else max(SIZES), gpus=1), directory)
    try:
        if is_size:
            size(cluster)
            return
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
