"""One task that prints 200 MB in 100-byte lines: alone, with a console that watches, and with logs
streamed from a spool.

The floor is the same program writing to a file by itself. Every byte is compared. Beside it: the memory
of controller and agent, sampled while it runs.
"""

import filecmp
import subprocess
import threading
import time
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, median, report, scratch
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.journal import read_journal

MEGABYTES = 200
LINE = "x" * 98 + " "
WRITER = f"yes '{LINE}' | head -c {MEGABYTES * 1_000_000}"
WORKFLOW = f'version: "0.1"\nworkflow:\n  name: fire\n  tasks:\n    - name: hose\n      script:\n        - "{WRITER}"\n'


class Memory(threading.Thread):
    """The largest resident memory of sflow processes seen so far, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak: dict[str, float] = {}
        self.is_over = threading.Event()

    def run(self) -> None:
        """Looks every 20 ms."""
        while not self.is_over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    command = path.read_bytes()
                    kind = (
                        "agent"
                        if b"sflow_agent" in command
                        else "controller"
                        if b"sflow-ctl" in command
                        else None
                    )
                    if kind is not None:
                        status = (path.parent / "status").read_text()
                        resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
                        self.peak[kind] = max(self.peak.get(kind, 0.0), resident)
                except (OSError, IndexError, ValueError):
                    continue


def task_seconds(directory: Path) -> float:
    """How long the task itself ran."""
    for entry in read_journal((directory / "events.jsonl").read_bytes().splitlines()):
        if entry.transition is not None and entry.transition.new is TaskState.COMPLETED:
            return entry.transition.runtime_s or 0.0
    raise SystemExit("the task did not complete")


def run(cwd: Path, number: list[int], *options: str, watched: bool = False) -> float:
    """MB/s of the task, or of the whole run where somebody must receive every byte."""
    number[0] += 1
    (cwd / "w.yaml").write_text(WORKFLOW)
    run_id = f"r{number[0]}"
    started = time.perf_counter()
    process = subprocess.Popen(
        [*SFLOW_CTL, "run", "w.yaml", "--run-id", run_id, "--output-dir", "out", *options],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    while process.stdout.read(1 << 16):
        pass
    if process.wait() != 0:
        raise SystemExit("the run failed")
    whole = time.perf_counter() - started
    directory = cwd / "out" / run_id
    if not filecmp.cmp(directory / "hose" / "hose.log", cwd / "floor.log", shallow=False):
        raise SystemExit("the log is not what the program wrote")
    return MEGABYTES / (whole if watched else task_seconds(directory))


def main() -> None:
    """MB per second."""
    number = [0]
    with scratch() as cwd:

        def floor() -> float:
            started = time.perf_counter()
            subprocess.run(["bash", "-c", f"{WRITER} > floor.log"], cwd=cwd, check=True)
            return MEGABYTES / (time.perf_counter() - started)

        memory = Memory()
        memory.start()
        results = interleaved(
            {
                "to a file by itself": floor,
                "sflow-ctl run -q": lambda: run(cwd, number, "-q"),
                "console watching, whole run": lambda: run(cwd, number, watched=True),
                "spooled and streamed, whole run": lambda: run(
                    cwd, number, "-q", "--log-spool", str(cwd / "spool"), watched=True
                ),
            },
            5,
        )
        memory.is_over.set()
    share = median(results["sflow-ctl run -q"]) / median(results["to a file by itself"])
    peaks = {f"peak resident, {kind}": f"{value:.0f} MB" for kind, value in sorted(memory.peak.items())}
    report("log_firehose", "MB/s", results, {"share of the floor": f"{share:.0%}", **peaks})


if __name__ == "__main__":
    main()
