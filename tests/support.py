"""Shared by integration and fault tests.

The real command line as a process, waiting with a deadline, leftovers by marker.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from protocol.machine.marks import RUN_MARKER
from sflow_agent.guarding.keeper import NAME as KEEPER
from sflow_ctl.report.summary import Summary, read_summary
from sflow_ctl.runtime.journal.entry import Entry
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PATIENCE_S = 60.0
"""A deadline, not an expectation: machines here are slow and shared."""


def wait_until(condition: Callable[[], T | None], what: str, within_s: float = PATIENCE_S) -> T:
    """Return the condition's value once it is true. Fail with its name, and the last value seen."""
    deadline = time.monotonic() + within_s
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}; last seen: {seen!r}")
        time.sleep(0.01)


def await_takeover(directory: Path, times: int = 1, within_s: float = PATIENCE_S) -> None:
    """Wait until another controller has taken over a run, given by its directory, for so many times."""
    journal = directory / ".sflow/events.jsonl"

    def is_taken_over() -> bool:
        return journal.read_bytes().count(b'"kind":"takeover"') == times

    wait_until(is_taken_over, f"the run is taken over {times} times", within_s)


def command(*arguments: str | Path) -> list[str]:
    """`sflow-ctl` of the interpreter that runs the tests."""
    return [sys.executable, "-m", "sflow_ctl", *map(str, arguments)]


def sflow_ctl(
    *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, within_s: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


@dataclass
class Run:
    """A run that is active, or has ended."""

    process: subprocess.Popen[str]
    directory: Path

    @classmethod
    def start(
        cls,
        workflow: str,
        cwd: Path,
        *arguments: str,
        run_id: str = "r",
        env: Mapping[str, str] | None = None,
    ) -> "Run":
        """Starts a workflow given as text; returns once its run directory exists."""
        file = cwd / f"{run_id}.yaml"
        file.write_text(workflow)
        process = subprocess.Popen(
            command("run", file, "--run-id", run_id, *arguments),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        run = cls(process, cwd / "sflow_output" / run_id)
        wait_until(lambda: run.directory.exists() or process.poll() is not None, "the run directory")
        return run

    def entries(self) -> list[Entry]:
        """The journal so far."""
        return list(entries_of(self.directory, EVERYTHING))

    def states(self) -> dict[str, str]:
        """Task to its newest state."""
        transitions = (entry.transition for entry in self.entries())
        return {transition.task: transition.new.value for transition in transitions if transition is not None}

    def wait_for(self, task: str, state: str, within_s: float = PATIENCE_S) -> None:
        """Wait until the journal has the task in that state."""
        wait_until(lambda: self.states().get(task) == state, f"{task} {state}; {self.states()}", within_s)

    def pid_of(self, task: str) -> int:
        """The main process of the task's newest attempt."""

        def started() -> int | None:
            pids = [
                e.transition.pid
                for e in self.entries()
                if e.transition and e.transition.task == task and e.transition.pid
            ]
            return pids[-1] if pids else None

        return wait_until(started, f"{task} has a process")

    def agents(self) -> list[int]:
        """The pids of the agents, in node order."""

        def joined() -> list[int] | None:
            pids = {
                entry.event.hello.node: entry.event.hello.pid
                for entry in self.entries()
                if entry.event is not None and hasattr(entry.event, "hello")
            }
            return [pids[node] for node in sorted(pids)] or None

        return wait_until(joined, "an agent has joined")

    def kill_all(self, *, spares_keeper: bool = False) -> None:
        """Kill supervisor, controller, keeper, guardian and agent of the only node; none can react to another's end."""
        (agent,) = self.agents()
        guardian = parent_of(agent)
        children = map(int, Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split())
        (keeper,) = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == KEEPER]
        kill_at_once((*(() if spares_keeper else (keeper,)), *both_of(self.process.pid), guardian, agent))

    @property
    def controller(self) -> int:
        """The pid of the present controller."""
        return controller_of(self.process.pid)

    def kill_controller(self) -> int:
        """Kill the controller: its supervisor starts another one. Return its pid."""
        pid = self.controller
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_both(self) -> None:
        """Kill supervisor and controller at once: no controller follows."""
        kill_run(self.process)

    def finish(self, within_s: float = PATIENCE_S) -> tuple[int, str]:
        """(exit status, all output) once it has ended."""
        output, _ = self.process.communicate(timeout=within_s)
        return self.process.returncode, output

    def summary(self) -> Summary:
        """Return the run's summary."""
        return read_summary((self.directory / ".sflow/summary.json").read_bytes())

    @property
    def run_id(self) -> str:
        """Every marker of this run begins with it."""
        return self.directory.name

    def kill(self) -> None:
        """Kill all remaining processes of the run, at the end of a test."""
        for pid in [*both_of(self.process.pid), *marked(self.run_id, self.directory)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def both_of(supervisor: int) -> list[int]:
    """The supervisor of a run, and its controller if that lives."""
    with contextlib.suppress(OSError):
        ours = Path(f"/proc/{supervisor}/cmdline").read_bytes()
        below = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        return [supervisor, *(int(pid) for pid in below if _is_copy(pid, ours))]
    return [supervisor]


def _is_copy(pid: str, command_line: bytes) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() == command_line and is_alive(int(pid))
    return False


def controller_of(supervisor: int) -> int:
    """The controller of a run; it may be about to be replaced."""
    return wait_until(lambda: both_of(supervisor)[1:], "the run has a controller")[0]


def kill_at_once(pids: Sequence[int]) -> None:
    """Kill processes so that none of them acts on the death of another."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def kill_run(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """Kill a run's supervisor and its controller at once: no controller follows."""
    kill_at_once(both_of(process.pid))


def marked(run_id: str, directory: Path | None = None) -> list[int]:
    """Processes that carry a run's marker; with a directory, only those of that very run directory."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            variables = Path(entry.path, "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        is_ours = any(variable.startswith(f"{RUN_MARKER}={run_id}-".encode()) for variable in variables)
        if is_ours and directory is not None:
            is_ours = f"SFLOW_WORKFLOW_OUTPUT_DIR={directory}".encode() in variables
        if is_ours:
            found.append(int(entry.name))
    return found


def nothing_left(run: Run, within_s: float = 15.0) -> None:
    """No process with the run's marker is left, at the latest after 15 s."""
    wait_until(lambda: not marked(run.run_id, run.directory), f"{marked(run.run_id)} gone", within_s)


def parent_of(pid: int) -> int:
    """A process's parent."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[1])


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def read_json(path: Path) -> object:
    """Return the content of a JSON file."""
    return msgspec.json.decode(path.read_bytes())


def lines_with(output: str, *parts: str) -> Sequence[str]:
    """The lines of an output that hold all of these."""
    return [line for line in output.splitlines() if all(part in line for part in parts)]
