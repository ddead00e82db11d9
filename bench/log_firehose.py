"""Runs one task that prints 200 MB in lines of 100 bytes.

Alone, with a console that watches, and with logs streamed from a spool.

The floor is the same program writing to a file by itself. Every byte is compared. Beside it: the memory
of controller and agent, sampled while they run, for 20 MB and for 200; and the hops of a chain of tasks
beside the flood, against the same chain beside the same program run without sflow-ctl.
"""

import filecmp
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.chain import tasks as chain_tasks
from bench.measure import SFLOW_CTL, TINY, interleaved, median, report, run_workflow, scratch, sized
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.journal.entry import Entry
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of

MEGABYTES, FEW_MEGABYTES = sized((200, 20), (4, 1))
LINE = "x" * 98 + " "
HEAD = 'version: "0.1"\nworkflow:\n  name: fire\n  tasks:\n'


def writer(megabytes: int) -> str:
    """The program."""
    return f"yes '{LINE}' | head -c {megabytes * 1_000_000}"


def hose(megabytes: int, log: str = "") -> str:
    """The program as a task; `log` is the field of that name."""
    field = f"      log: {log}\n" if log else ""
    return f'    - name: hose\n{field}      script:\n        - "{writer(megabytes)}"\n'


class Memory(threading.Thread):
    """The largest resident memory of a controller and of its agents while they run, in MB."""

    def __init__(self, controller: int) -> None:
        super().__init__(daemon=True)
        self.peak = {"controller": 0.0, "agent": 0.0}
        self.is_over = threading.Event()
        self._controller = controller

    def run(self) -> None:
        """Looks every 20 ms."""
        while not self.is_over.wait(0.02):
            for pid in (self._controller, *descendants(self._controller)):
                self._look(pid)

    def _look(self, pid: int) -> None:
        """Note what an agent, the supervisor or its controller has resident; tasks do not count."""
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            kind = "agent" if b"sflow_agent" in command else "controller"
            if kind == "controller" and b"sflow" not in command:
                return
            status = Path(f"/proc/{pid}/status").read_text()
            resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
            self.peak[kind] = max(self.peak[kind], resident)
        except (OSError, IndexError):  # it has ended
            return


def descendants(pid: int) -> Iterator[int]:
    """Children, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from descendants(child)


def entries(directory: Path) -> Iterator[Entry]:
    """The journal of a run."""
    return entries_of(directory, EVERYTHING)


def task_seconds(directory: Path) -> float:
    """How long the task itself ran."""
    for entry in entries(directory):
        if entry.transition is not None and entry.transition.new is TaskState.COMPLETED:
            return entry.transition.runtime_s or 0.0
    raise SystemExit("the task did not complete")


class Firehose:
    """Runs in one directory, each compared with the program's own file."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.peak: dict[str, float] = {}
        self._number = 0

    def floor(self, megabytes: int = MEGABYTES) -> float:
        """MB/s of the program by itself, into a new file."""
        (self.cwd / f"floor-{megabytes}.log").unlink(missing_ok=True)
        started = time.perf_counter()
        subprocess.run(
            ["bash", "-c", f"{writer(megabytes)} > floor-{megabytes}.log"], cwd=self.cwd, check=True
        )
        return megabytes / (time.perf_counter() - started)

    def run(self, *options: str, whole: bool = False, megabytes: int = MEGABYTES, log: str = "") -> float:
        """MB/s of the task, or of the whole run where a reader must receive every byte."""
        self._number += 1
        run_id = f"r{self._number}"
        (self.cwd / "w.yaml").write_text(HEAD + hose(megabytes, log))
        command = [*SFLOW_CTL, "run", "w.yaml", "--run-id", run_id, "--output-dir", "out", *options]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        )
        memory = Memory(process.pid)
        memory.start()
        assert process.stdout is not None
        while process.stdout.read(1 << 20):
            pass
        if process.wait() != 0:
            raise SystemExit("the run failed")
        elapsed = time.perf_counter() - started
        memory.is_over.set()
        memory.join()
        for kind, value in memory.peak.items():
            key = f"peak resident, {kind}, {megabytes} MB printed"
            self.peak[key] = max(self.peak.get(key, 0.0), value)
        directory = self.cwd / "out" / run_id
        ours, its_own = directory / "hose" / "hose.log", self.cwd / f"floor-{megabytes}.log"
        if not filecmp.cmp(ours, its_own, shallow=False):
            raise SystemExit("the log is not what the program wrote")
        ours.unlink()
        return megabytes / (elapsed if whole else task_seconds(directory))

    def hops_beside_the_task(self, *options: str) -> float:
        """Milliseconds per hop of a chain while the task prints."""
        _, directory = run_workflow(HEAD + hose(MEGABYTES) + chain_tasks(), self.cwd, *options)
        ends = []
        for entry in entries(directory):
            if entry.transition is not None and entry.transition.new is TaskState.COMPLETED:
                if entry.transition.task == "hose":
                    if not TINY:
                        break
                    continue
                ends.append(entry.at)
        if len(ends) < sized(5, 2):
            raise SystemExit(f"only {len(ends)} tasks ended while the flood went on")
        return median([(after - before) * 1000 for before, after in itertools.pairwise(ends)])

    def hops_beside_the_program(self) -> float:
        """The same while the program prints to a file by itself."""
        endless = f"yes '{LINE}' | head -c 20G > beside.log"
        program = subprocess.Popen(["bash", "-c", endless], cwd=self.cwd, start_new_session=True)
        try:
            _, directory = run_workflow(HEAD + chain_tasks(), self.cwd)
        finally:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
            (self.cwd / "beside.log").unlink(missing_ok=True)
        ends = [
            entry.at
            for entry in entries(directory)
            if entry.transition is not None and entry.transition.new is TaskState.COMPLETED
        ]
        return median([(after - before) * 1000 for before, after in itertools.pairwise(ends)])


def main() -> None:
    """MB per second."""
    with scratch() as cwd:
        fire = Firehose(cwd)
        spool = ("-q", "--log-spool", str(cwd / "spool"))
        fire.floor(FEW_MEGABYTES)
        for options in (("-q",), (), spool):
            fire.run(*options, megabytes=FEW_MEGABYTES)
        results = interleaved(
            {
                "to a file by itself": fire.floor,
                "sflow-ctl run -q": lambda: fire.run("-q"),
                "sflow-ctl run -q, log: direct": lambda: fire.run("-q", log="direct"),
                "console watching, whole run": lambda: fire.run(whole=True),
                "spooled and streamed, whole run": lambda: fire.run(*spool, whole=True),
            },
            5,
        )
        hops = interleaved(
            {
                "chain beside the task, ms per hop": lambda: fire.hops_beside_the_task("-q"),
                "chain beside the task, console watching, ms per hop": fire.hops_beside_the_task,
                "chain beside the program by itself, ms per hop": fire.hops_beside_the_program,
            },
            5,
        )
    floor = median(results["to a file by itself"])
    shares = {f"{name}, of the floor": f"{median(values) / floor:.0%}" for name, values in results.items()}
    notes = {name: f"{median(values):.2f}" for name, values in hops.items()}
    notes |= {name: f"{value:.0f} MB" for name, value in sorted(fire.peak.items())}
    report("log_firehose", "MB/s", results, {**shares, **notes})


if __name__ == "__main__":
    main()
