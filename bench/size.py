"""No-op tasks that may all start at once, few and many: the rate, the memory, and the whole plan.

5,000 and 100,000 copies on one local node without `--max-running`; a flat cost per task has a ratio of 1. Processor time
is of all processes; memory is the peak of the controller, and of its agent. Takes the command of another installation, which is
measured for planning alone: `python -m bench.size [ELSEWHERE/.venv/bin/sflow-ctl]`.
"""

import functools
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.log_firehose import Memory
from bench.measure import SFLOW_CTL, interleaved, median, report, scratch, sized

FEW, MANY = sized((5_000, 100_000), (10, 20))
ROUNDS = 2


def workflow(cwd: Path, count: int) -> Path:
    """Write the file of so many tasks."""
    path = cwd / f"{count}.yaml"
    path.write_text(
        'version: "0.1"\nworkflow:\n  name: wide\n  tasks:\n'
        f'    - {{name: t, replicas: {{count: {count}}}, script: ["true"]}}\n'
    )
    return path


class Run:
    """Runs of one size."""

    def __init__(self, cwd: Path, count: int) -> None:
        self._cwd, self.count = cwd, count
        self._number = 0
        self.peak = {"controller": 0.0, "agent": 0.0}
        self.cpu_ms = 0.0
        """Of a task, in the last run."""

    def rate(self) -> float:
        """Return the tasks a second of one whole process."""
        self._number += 1
        name = f"out-{self.count}-{self._number}"
        command: list[str | Path] = [*SFLOW_CTL, "run", workflow(self._cwd, self.count), "-q"]
        command += ["--output-dir", name]
        before, started = _children_s(), time.perf_counter()
        process = subprocess.Popen(
            command, cwd=self._cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        memory = Memory(process.pid)
        memory.start()
        status = process.wait()
        elapsed = time.perf_counter() - started
        memory.is_over.set()
        memory.join()
        if status != 0:
            sys.exit(f"the run of {self.count} tasks ended with {status}")
        self.cpu_ms = (_children_s() - before) * 1000 / self.count
        self.peak = {kind: max(value, memory.peak[kind]) for kind, value in self.peak.items()}
        return self.count / elapsed


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def planning(cwd: Path, command: Sequence[str], count: int, peaks: dict[str, float], name: str) -> float:
    """Return the seconds of planning; note the peak resident memory in MB."""
    started = time.perf_counter()
    with subprocess.Popen(
        [*command, "run", "--dry-run", "-q", workflow(cwd, count)], cwd=cwd, stdout=subprocess.DEVNULL
    ) as process:
        memory = Memory(process.pid)
        memory.start()
        status = process.wait()
        memory.is_over.set()
        memory.join()
    if status != 0:
        sys.exit(f"planning {count} tasks ended with {status}")
    peaks[name] = max(peaks.get(name, 0.0), memory.peak["controller"])
    return time.perf_counter() - started


def main() -> None:
    """Tasks a second, and seconds of planning."""
    installations = {"": SFLOW_CTL} | ({", before": sys.argv[1:2]} if len(sys.argv) > 1 else {})
    with scratch() as cwd:
        runs = {f"{count} tasks": Run(cwd, count) for count in (FEW, MANY)}
        rates = interleaved({name: run.rate for name, run in runs.items()}, ROUNDS)
        few, many = runs.values()
        notes = {
            f"rate of {MANY}, of {FEW}": round(
                median(rates[f"{MANY} tasks"]) / median(rates[f"{FEW} tasks"]), 3
            ),
            f"processor ms of a task, of {FEW} and {MANY}": f"{few.cpu_ms:.2f}, {many.cpu_ms:.2f}",
            f"peak MB of controller and agent, {MANY}": " and ".join(
                f"{value:.0f}" for value in many.peak.values()
            ),
        }
        report("size.run", "tasks/s", rates, notes)
        peaks: dict[str, float] = {}
        plans = {
            f"{count} tasks{which}": functools.partial(
                planning, cwd, command, count, peaks, f"peak MB, {count} tasks{which}"
            )
            for count in (FEW, MANY)
            for which, command in installations.items()
        }
        report("size.plan", "s", interleaved(plans, 3), {name: round(value) for name, value in peaks.items()})


if __name__ == "__main__":
    main()
