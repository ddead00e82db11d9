"""Seconds from `sflow-ctl apply` to the start of a changed task: of the whole command, and from the request to the process.

By the command, by the controller's journal, and by the program, which writes down when it starts. The servers beside it keep
their pids.
"""

import subprocess
import time
from pathlib import Path

import psutil

from bench.measure import SFLOW_CTL, interleaved, report, scratch, sized
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of

TASKS = sized(50, 2)
"""Servers beside the changed task."""
REPETITIONS = sized(7, 1)
WITHIN_S = 120.0
WORKFLOW = """version: "0.1"
workflow:
  name: w
  keep_alive: true
  tasks:
    - {name: srv, replicas: {count: TASKS}, kind: service, script: ["exec sleep 1000"]}
    - {name: bench, depends_on: [srv], script: ["date +%s.%N > begun; echo NUMBER"]}
"""


class Applies:
    """One live run, to which a plan with another benchmark is applied again and again."""

    def __init__(self, cwd: Path) -> None:
        self._cwd, self._number = cwd, 0
        self._directory = cwd / "out/r"
        self._controller_s = 0.0
        self._write()
        self._process = subprocess.Popen(
            [*SFLOW_CTL, "run", "w.yaml", "-q", "--output-dir", "out", "--run-id", "r"],
            cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._await_attempt()
        self._servers = self._server_pids()

    def whole_s(self) -> float:
        """Return the seconds from the start of the command to that of the task's program."""
        self._write()
        started = time.time_ns() / 1e9
        subprocess.run(
            [*SFLOW_CTL, "apply", self._directory, "w.yaml"],
            cwd=self._cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        self._await_attempt()
        return self._begun() - started

    def controller_s(self) -> float:
        """Return the seconds from the request of a command, as the controller takes it in, to the start of the program."""
        self.whole_s()
        entries = entries_of(self._directory, (b'"operator_request"',))
        asked = max(entry.wall_ns for entry in entries if entry.event is not None)
        return self._begun() - asked / 1e9

    def close(self) -> None:
        """End the run."""
        is_same = self._server_pids() == self._servers
        subprocess.run(
            [*SFLOW_CTL, "stop", "--kill", self._directory], stdout=subprocess.DEVNULL, check=False
        )
        self._process.wait(WITHIN_S)
        if not is_same:
            raise SystemExit("a server was started again")

    def _server_pids(self) -> set[int]:
        below = psutil.Process(self._process.pid).children(recursive=True)
        pids = {one.pid for one in below if one.name() == "sleep"}
        assert len(pids) == TASKS, f"{len(pids)} servers"
        return pids

    def _write(self) -> None:
        self._number += 1
        text = WORKFLOW.replace("TASKS", str(TASKS)).replace("NUMBER", str(self._number))
        (self._cwd / "w.yaml").write_text(text)

    def _begun(self) -> float:
        return float((self._cwd / "begun").read_text())

    def _await_attempt(self) -> None:
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            changes = (entry.transition for entry in entries_of(self._directory, EVERYTHING))
            ended = [
                one.attempt
                for one in changes
                if one is not None and one.task == "bench" and one.new is TaskState.COMPLETED
            ]
            if ended and ended[-1] == self._number:
                return
            time.sleep(0.02)
        raise TimeoutError(f"attempt {self._number} of bench")


def main() -> None:
    """Measure, and print."""
    with scratch() as cwd:
        applies = Applies(cwd)
        try:
            candidates = {"whole command": applies.whole_s, "from the request": applies.controller_s}
            results = interleaved(candidates, REPETITIONS)
        finally:
            applies.close()
    report(f"apply beside {TASKS} servers", "s", results)


if __name__ == "__main__":
    main()
