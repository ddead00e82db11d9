"""Seconds in which 2,000 live ranks of one node are stopped by Ctrl-C: until the last has ended, and until the run has.

By the controller's journal, and by the process of the run. The floor is a shell that signals as many process groups.
"""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, report, scratch, sized
from sflow_ctl.core.events import StopRequested
from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.runtime.journal.reader import TRANSITION, JournalReader, entries_of

RANKS = sized(2_000, 5)
WITHIN_S = 180.0
BY_HAND = """
for n in $(seq "$1"); do setsid sleep 1000 & groups+=($!); done
sleep 1
date +%s.%N
for group in "${groups[@]}"; do kill -TERM -- -$group; done
wait
date +%s.%N
"""


class Stops:
    """Runs that are stopped."""

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        self._whole_s = 0.0

    def ranks_s(self) -> float:
        """Return the seconds from the signal to the end of the last rank."""
        output = Path(tempfile.mkdtemp(prefix="out-", dir=self._cwd))
        (self._cwd / "w.yaml").write_text(
            'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n'
            f'    - {{name: t, replicas: {{count: {RANKS}}}, script: ["exec sleep 1000"]}}\n'
        )
        process = subprocess.Popen(
            [*SFLOW_CTL, "run", "w.yaml", "-q", "--output-dir", output, "--run-id", "r"],
            cwd=self._cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _await_all(output / "r", process)
            started = time.perf_counter()
            process.send_signal(signal.SIGINT)
            process.wait(WITHIN_S)
            self._whole_s = time.perf_counter() - started
        finally:
            process.kill()
            process.wait()
        entries = list(entries_of(output / "r", (TRANSITION, b'"stop_requested"')))
        asked = next(entry.wall_ns for entry in entries if isinstance(entry.event, StopRequested))
        ends = [entry.wall_ns for entry in entries if entry.transition and entry.transition.new in TERMINAL]
        if len(ends) != RANKS:
            sys.exit(f"{len(ends)} of {RANKS} tasks have ended")
        return (max(ends) - asked) / 1e9

    def whole_s(self) -> float:
        """Return the seconds from the signal to the end of the last run's process."""
        return self._whole_s

    def by_hand_s(self) -> float:
        """Return the seconds in which a shell does the same."""
        done = subprocess.run(
            ["bash", "-c", BY_HAND, "bash", str(RANKS)], capture_output=True, text=True, check=True
        )
        begin, end = map(float, done.stdout.split())
        return end - begin


def _await_all(directory: Path, process: "subprocess.Popen[bytes]") -> None:
    reader, running, deadline = JournalReader(directory), set[str](), time.monotonic() + WITHIN_S
    while len(running) < RANKS:
        if time.monotonic() > deadline or process.poll() is not None:
            sys.exit(f"{len(running)} of {RANKS} tasks run")
        try:
            new = [entry.transition for entry in reader.entries((TRANSITION,))]
        except FileNotFoundError:
            new = []
        running |= {one.task for one in new if one is not None and one.new is TaskState.RUNNING}
        time.sleep(0.1)


def main() -> None:
    """Seconds from Ctrl-C."""
    with scratch() as cwd:
        stops = Stops(cwd)
        report(
            f"stops of {RANKS} live ranks",
            "s",
            interleaved(
                {"last rank": stops.ranks_s, "whole run": stops.whole_s, "a shell": stops.by_hand_s}, 3
            ),
        )


if __name__ == "__main__":
    main()
