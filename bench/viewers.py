"""What viewers cost a run: a task prints 100 MB/s and a chain of tasks runs beside it, with 20 viewers and with none, in turn.

One of the viewers is stopped by SIGSTOP before the first line. The viewers are nicer than the run: elsewhere they are on other
machines. How much they have shown is beside the figures, so that viewers that starve are seen.
"""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, median, report, scratch, sized
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of

VIEWERS = sized(20, 3)
MEGABYTES = sized(400, 4)
PER_S = 100
"""MB that the task prints in a second."""
HOPS = sized(40, 4)
ROUNDS = 5
NICER = 10
WITHIN_S = 120.0
PACED = f"""import os, sys, time
line = b"x" * 98 + b" \\n"
block = line * 2500
start = time.monotonic()
for number in range({MEGABYTES} * 4):
    time.sleep(max(0.0, start + number / {4 * PER_S} - time.monotonic()))
    left = memoryview(block)
    while left:
        left = left[os.write(1, left):]
open(sys.argv[1], "w").write(str(time.monotonic() - start))
"""


def workflow(go: Path, paced: Path, took: Path) -> str:
    """Both begin when a file is there, so that viewers see the first line."""
    wait = f"until [ -e {go} ]; do sleep 0.05; done"
    tasks = [f"    - {{name: hose, script: ['{wait}', 'exec {sys.executable} {paced} {took}']}}\n"]
    for number in range(HOPS):
        before = f", depends_on: [c{number - 1}]" if number else ""
        script = f"'{wait}; sleep 0.5'" if not number else "'true'"
        tasks.append(f"    - {{name: c{number}, script: [{script}]{before}}}\n")
    return f'version: "0.1"\nworkflow:\n  name: seen\n  tasks:\n{"".join(tasks)}'


class Figures:
    """Of each run: MB/s of the task, ms per hop of the chain, processor seconds of the run's processes."""

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        self.hops: dict[int, list[float]] = {}
        self.processor: dict[int, list[float]] = {}
        self.shown: list[float] = []
        """MB that each viewer that was not stopped has written."""

    def run(self, viewers: int) -> float:
        """Return the MB/s of the task with so many viewers, the first of them stopped."""
        inside = Path(tempfile.mkdtemp(prefix="run-", dir=self._cwd))
        go, paced, took = inside / "go", inside / "paced.py", inside / "took"
        paced.write_text(PACED)
        (inside / "w.yaml").write_text(workflow(go, paced, took))
        before = _children_s()
        words = [*SFLOW_CTL, "run", "w.yaml", "-q", "--no-report", "--run-id", "r", "--max-running", "8"]
        process = subprocess.Popen(
            words, cwd=inside, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        directory = inside / "sflow_output/r"
        _wait_for(lambda: (directory / ".sflow/connection.json").exists(), "the run")
        started = [_viewer(directory, inside / f"viewer-{number}") for number in range(viewers)]
        shown = [inside / f"viewer-{number}" for number in range(viewers)]
        try:
            _wait_for(lambda: all(b"hose" in one.read_bytes() for one in shown), "viewers that show the task")
            for one in started[:1]:
                one.send_signal(signal.SIGSTOP)
            go.touch()
            _wait_for(took.exists, "the task")
            self.shown += [one.stat().st_size / 1e6 for one in shown[1:]]
            if process.wait(WITHIN_S) != 0:
                raise SystemExit("the run failed")
            used = _children_s() - before  # viewers count when they have been waited for
        finally:
            for one in started:
                one.kill()
                one.wait()
            process.kill()
            process.wait()
        size = (directory / "hose/hose.log").stat().st_size
        if size != MEGABYTES * 1_000_000:
            raise SystemExit(f"the log has {size} bytes")
        (directory / "hose/hose.log").unlink()
        self.processor.setdefault(viewers, []).append(used)
        self.hops.setdefault(viewers, []).append(_ms_per_hop(directory))
        return MEGABYTES / float(took.read_text())


def _viewer(directory: Path, shown: Path) -> subprocess.Popen[bytes]:
    with shown.open("wb") as file:
        return subprocess.Popen(
            [*SFLOW_CTL, "attach", directory],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.DEVNULL,
            preexec_fn=partial(os.nice, NICER),
        )


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ms_per_hop(directory: Path) -> float:
    ends = [
        entry.at
        for entry in entries_of(directory, EVERYTHING)
        if entry.transition is not None
        and entry.transition.new is TaskState.COMPLETED
        and entry.transition.task != "hose"
    ]
    return median([(after - before) * 1000 for before, after in pairwise(ends)])


def _wait_for(is_there: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not is_there():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {WITHIN_S:g} s for {what}")
        time.sleep(0.02)


def main() -> None:
    """MB/s of the task, ms per hop of the chain, processor seconds of the run, with and without viewers."""
    with scratch() as cwd:
        figures = Figures(cwd)
        rates = interleaved(
            {_name(viewers): partial(figures.run, viewers) for viewers in (0, VIEWERS)}, ROUNDS
        )
    without, beside = (median(rates[_name(viewers)]) for viewers in (0, VIEWERS))
    notes = {
        "with viewers, of the rate without": f"{beside / without:.1%}",
        "MB shown by a viewer, median": f"{median(figures.shown):.1f} of {MEGABYTES}"
        if figures.shown
        else "-",
    }
    report("viewers", "MB/s of the task", rates, notes)
    report("viewers.chain", "ms per hop beside it", _counted(figures.hops))
    report("viewers.cpu", "s of processor time of the run", _counted(figures.processor))


def _counted(values: dict[int, list[float]]) -> dict[str, Sequence[float]]:
    """Without the round that warms caches."""
    return {_name(viewers): found[sized(1, 0) :] for viewers, found in values.items()}


def _name(viewers: int) -> str:
    return f"{viewers} viewers, one stopped" if viewers else "no viewer"


if __name__ == "__main__":
    main()
