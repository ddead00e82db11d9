"""Seconds from `kill -9` of the controller until another one schedules again, with 200 live tasks.

A task ends while there is no controller, and the one that waits for it notes when it began: the exit was taken in, and an order
given. The tasks that live must be the same processes afterwards. Besides, what the supervisor costs: its memory.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, report, scratch, sized
from sflow_ctl.report.summary import read_summary
from sflow_ctl.runtime.journal.reader import entries_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim

COUNTS = sized((1, 200), (2,))
REPETITIONS = 7
WITHIN_S = 60.0


def workflow(tasks: int) -> str:
    """Services, one task that ends when there is no controller, and one that follows it."""
    lines = ['version: "0.1"', "workflow:", "  name: recovery", "  tasks:"]
    lines += [
        f'    - {{name: live{one}, kind: service, script: ["exec sleep 1000"]}}' for one in range(tasks)
    ]
    lines.append('    - {name: ends, script: ["until [ -e go ]; do sleep 0.005; done"]}')
    lines.append('    - {name: follows, depends_on: [ends], script: ["echo $EPOCHREALTIME"]}')
    return "\n".join(lines) + "\n"


class Measurement:
    """Kills controllers; notes what else is worth a line."""

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        self.took_s: list[float] = []
        """As the runs say themselves."""
        self.supervisor_kb: list[int] = []

    def recover(self, tasks: int) -> float:
        """One run whose controller is killed."""
        output = Path(tempfile.mkdtemp(prefix="out-", dir=self._cwd))
        (output / "workflow.yaml").write_text(workflow(tasks))
        null = subprocess.DEVNULL
        command = [*SFLOW_CTL, "run", "workflow.yaml", "--output-dir", str(output), "--run-id", "r", "-q"]
        process = subprocess.Popen(command, cwd=output, stdin=null, stdout=null, stderr=null)
        directory = output / "r"
        pids = self._running(directory, tasks)
        claim = read_claim(directory / layout.CLAIM)
        assert claim is not None
        self.supervisor_kb.append(resident_kb(process.pid))
        killed_at = time.time_ns() / 1e9
        os.kill(claim.pid, signal.SIGKILL)
        (output / "go").touch()
        if process.wait(WITHIN_S) != 0:
            sys.exit(f"the run ended with {process.returncode}: see {directory}")
        began_at = float((directory / "follows/follows.log").read_text())
        whole = read_summary((directory / layout.SUMMARY).read_bytes())
        if len(whole.takeovers) != 1 or any(task.attempts != 1 for task in whole.tasks):
            sys.exit(f"{whole.takeovers}: a task was started again, or nothing was taken over")
        if started(directory) != {**pids, "follows": started(directory)["follows"]}:
            sys.exit("a task has another process than before")
        self.took_s.append(whole.takeovers[0].took_s)
        return began_at - killed_at

    def _running(self, directory: Path, tasks: int) -> dict[str, int]:
        deadline = time.monotonic() + WITHIN_S
        while len(pids := started(directory)) < tasks + 1:
            if time.monotonic() > deadline:
                sys.exit(f"only {len(pids)} of {tasks + 1} tasks have started")
            time.sleep(0.05)
        return pids


def started(directory: Path) -> dict[str, int]:
    """The process of each task that has one, by the journal."""
    found: dict[str, int] = {}
    if not directory.exists():
        return found
    for entry in entries_of(directory, (b'"new":"running"',)):
        if entry.transition is not None and entry.transition.pid is not None:
            found[entry.transition.task] = entry.transition.pid
    return found


def resident_kb(pid: int) -> int:
    """What a process has that it does not share with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def main() -> None:
    """A table and a line of JSON."""
    with scratch() as cwd:
        bench = Measurement(cwd)

        def case(tasks: int) -> Callable[[], float]:
            return lambda: bench.recover(tasks)

        results = interleaved({f"{tasks} live": case(tasks) for tasks in COUNTS}, REPETITIONS)
    notes = {
        "worst until all agents have reported": f"{max(bench.took_s):.3f} s",
        "memory of the supervisor alone": f"{max(bench.supervisor_kb) / 1024:.1f} MB",
        "tasks started again": 0,
    }
    report("recovery", "s", results, notes)


if __name__ == "__main__":
    main()
