"""Seconds from `kill -9` of the controller until another one schedules again, with 200 live tasks.

A task ends while there is no controller, and the one that waits for it notes when it began: the exit was taken in, and an order
given. The tasks that live must be the same processes afterwards. Once each with 10,000 and 100,000 tasks that have ended before.
Besides, what the supervisor costs: its memory.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, report, scratch, sized
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.summary import read_summary
from sflow_ctl.runtime.journal.reader import JournalReader, entries_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim

COUNTS = sized((1, 200), (2,))
REPETITIONS = 7
ENDED = sized((10_000, 100_000), (20,))
"""Tasks that have ended before the controller is killed, beside the largest of `COUNTS`."""
WITHIN_S = 60.0
TASKS_A_S = 50
"""What any machine does."""


def workflow(tasks: int, ended: int) -> str:
    """Services, tasks that have ended, one that ends when there is no controller, and one that follows it."""
    lines = ['version: "0.1"', "workflow:", "  name: recovery", "  tasks:"]
    lines += [
        f'    - {{name: live{one}, kind: service, script: ["exec sleep 1000"]}}' for one in range(tasks)
    ]
    if ended:
        lines.append(f'    - {{name: t, replicas: {{count: {ended}}}, script: ["true"]}}')
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

    def recover(self, tasks: int, ended: int = 0) -> float:
        """One run whose controller is killed."""
        output = Path(tempfile.mkdtemp(prefix="out-", dir=self._cwd))
        (output / "workflow.yaml").write_text(workflow(tasks, ended))
        null = subprocess.DEVNULL
        command = [*SFLOW_CTL, "run", "workflow.yaml", "--output-dir", str(output), "--run-id", "r", "-q"]
        process = subprocess.Popen(command, cwd=output, stdin=null, stdout=null, stderr=null)
        directory = output / "r"
        pids = self._running(directory, tasks, ended)
        claim = read_claim(directory / layout.CLAIM)
        assert claim is not None
        self.supervisor_kb.append(resident_kb(process.pid))
        killed_at = time.time_ns() / 1e9
        os.kill(claim.pid, signal.SIGKILL)
        (output / "go").touch()
        if process.wait(WITHIN_S + ended / TASKS_A_S) != 0:
            sys.exit(f"the run ended with {process.returncode}: see {directory}")
        began_at = float((directory / "follows/follows.log").read_text())
        whole = read_summary((directory / layout.SUMMARY).read_bytes())
        if len(whole.takeovers) != 1 or any(task.attempts != 1 for task in whole.tasks):
            sys.exit(f"{whole.takeovers}: a task was started again, or nothing was taken over")
        later = started(directory)
        if later != {**pids, "follows": later["follows"]}:
            sys.exit("a task has another process than before")
        self.took_s.append(whole.takeovers[0].took_s)
        return began_at - killed_at

    def _running(self, directory: Path, tasks: int, ended: int) -> dict[str, int]:
        deadline = time.monotonic() + WITHIN_S + ended / TASKS_A_S
        journal = JournalReader(directory)
        pids: dict[str, int] = {}
        done = 0
        while len(pids) < tasks + 1 + ended or done < ended:
            if time.monotonic() > deadline:
                sys.exit(f"only {len(pids)} of {tasks + 1 + ended} tasks have started")
            time.sleep(0.05)
            with contextlib.suppress(FileNotFoundError):
                for entry in journal.entries((b'"new":"running"', b'"new":"completed"')):
                    assert entry.transition is not None
                    done += entry.transition.new is TaskState.COMPLETED
                    if entry.transition.pid is not None:
                        pids[entry.transition.task] = entry.transition.pid
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
        for ended in ENDED:
            results[f"{COUNTS[-1]} live, {ended} ended"] = [bench.recover(COUNTS[-1], ended)]
    notes = {
        "worst until all agents have reported": f"{max(bench.took_s):.3f} s",
        "memory of the supervisor alone": f"{max(bench.supervisor_kb) / 1024:.1f} MB",
        "tasks started again": 0,
    }
    report("recovery", "s", results, notes)


if __name__ == "__main__":
    main()
