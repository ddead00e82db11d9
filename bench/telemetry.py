"""What measuring costs a node with 1, 50 and 500 tasks: percent of one CPU that its agent takes more than without telemetry.

Tasks are a shell with a child that sleeps; the agent's processes are measured from outside, in turn with and without. The
least that can be done, one look at each process with psutil, is the floor.
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil

from bench.measure import SFLOW_CTL, interleaved, median, report, scratch, sized
from sflow_ctl.report.telemetry.series import Telemetry
from sflow_ctl.runtime.telemetry.reader import read_telemetry

COUNTS = sized((1, 50, 500), (1, 2))
MEASURE_S = sized(10.0, 1.5)
WITHIN_S = 120.0


class Node:
    """Runs with many idle tasks."""

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        self.telemetry: dict[int, Telemetry] = {}

    def percent(self, tasks: int, *, is_on: bool) -> float:
        """Return how much of a CPU the agent takes while its tasks do nothing."""
        output = Path(tempfile.mkdtemp(prefix="out-", dir=self._cwd))
        (self._cwd / "w.yaml").write_text(
            f'version: "0.1"\nsettings: {{telemetry: {{enabled: {str(is_on).lower()}}}}}\nworkflow:\n  name: w\n  tasks:\n'
            f'    - {{name: t, replicas: {{count: {tasks}}}, script: ["sleep 1000; true"]}}\n'
        )
        process = subprocess.Popen(
            [*SFLOW_CTL, "run", "w.yaml", "-q", "--output-dir", output, "--run-id", "r"],
            cwd=self._cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            agents = _await_agent(process.pid, tasks)
            time.sleep(sized(3.0, 0.5))  # the first measurements load what they need
            before, began = _cpu_s(agents), time.perf_counter()
            time.sleep(MEASURE_S)
            used, elapsed = _cpu_s(agents) - before, time.perf_counter() - began
        finally:
            process.terminate()
            process.wait()
        if is_on:
            self.telemetry[tasks] = read_telemetry(output / "r")
        return 100 * used / elapsed


def _await_agent(pid: int, tasks: int) -> list[psutil.Process]:
    """Return the processes of the run's agent once all of its tasks run."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        below = psutil.Process(pid).children(recursive=True)
        agents = [one for one in below if "sflow_agent" in _arguments(one)]
        sleeping = sum(_arguments(one)[:1] == ["sleep"] for one in below)
        if agents and sleeping >= tasks:
            return agents
        if time.monotonic() > deadline:
            sys.exit(f"{sleeping} of {tasks} tasks run")
        time.sleep(0.2)


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (one.cpu_times() for one in processes))


def psutil_percent(count: int) -> float:
    """Return how much of a CPU one look a second at so many processes takes with psutil."""
    sleeping = [subprocess.Popen(["sleep", "1000"]) for _ in range(count)]
    try:
        began, looks = time.thread_time(), sized(20, 2)
        for _ in range(looks):
            for one in sleeping:
                process = psutil.Process(one.pid)
                with process.oneshot():
                    process.cpu_times(), process.memory_info(), process.num_threads(), process.io_counters()
                process.num_fds()
        return 100 * (time.thread_time() - began) / looks
    finally:
        for one in sleeping:
            one.kill()
            one.wait()


def main() -> None:
    """The agent's share of a CPU, and the size of what it sends."""
    with scratch() as cwd:
        node = Node(cwd)
        results = interleaved(
            {
                f"{tasks} tasks, {'on' if is_on else 'off'}": partial(node.percent, tasks, is_on=is_on)
                for tasks in COUNTS
                for is_on in (False, True)
            },
            2,
        )
        results |= {f"psutil, {2 * tasks} processes": [psutil_percent(2 * tasks)] for tasks in COUNTS}
        notes: dict[str, object] = {}
        for tasks in COUNTS:
            more = median(results[f"{tasks} tasks, on"]) - median(results[f"{tasks} tasks, off"])
            notes[f"{tasks} tasks, more than without"] = f"{more:.2f} % of a CPU"
            rows = [one for one in node.telemetry[tasks].nodes() if len(one.times_ms) > 1]
            if rows:
                span_s = (rows[0].times_ms[-1] - rows[0].times_ms[0]) / 1000
                notes[f"{tasks} tasks, every"] = f"{span_s / (len(rows[0].times_ms) - 1):.2f} s"
        notes["load"] = f"{os.getloadavg()[0]:.1f}"
        report("telemetry", "% of a CPU", results, notes)


if __name__ == "__main__":
    main()
