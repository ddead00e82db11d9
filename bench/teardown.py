"""Seconds from a stop, or from a `kill -9`, until none of 50 services with children is left.

Each service is a shell with a child. All of them are watched by pidfd, so that looking costs nothing, and when the
last one has ended a scan of `/proc` must find no process of the run. The same by hand: shells in process groups of
their own, and a shell that signals each group.
"""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Set
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, report, scratch, sized
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim

SERVICES = sized(50, 2)
GRACE_S = sized(2.0, 0.2)
REPETITIONS = 7
WITHIN_S = 60.0
MARK = "SFLOW_WORKFLOW_OUTPUT_DIR"
"""Has the run directory in the environment of all that a run starts; here also of what is started by hand."""
HEARING, DEAF = "sleep 1000; true", "trap '' TERM; while true; do sleep 1000; done"
BY_HAND = """
for script in "$@"; do setsid bash -c "$script" & groups+=($!); done
read -r
for group in "${groups[@]}"; do kill -TERM -- -$group; done
if [ -n "$GRACE" ]; then sleep "$GRACE"; for group in "${groups[@]}"; do kill -KILL -- -$group; done; fi
wait
"""


def processes_of(directory: Path) -> set[int]:
    """Living processes that carry the mark."""
    mark, found = f"{MARK}={directory}".encode(), set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                is_ours = mark in Path(entry.path, "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if is_ours:  # a zombie has no environment any more
                found.add(int(entry.name))
    return found


def all_up(directory: Path, name: str, besides: Set[int] = frozenset()) -> set[int]:
    """The processes once every service has its child, `besides` what starts them."""
    deadline = time.monotonic() + WITHIN_S
    while len(found := processes_of(directory) - besides) < 2 * SERVICES:
        if time.monotonic() > deadline:
            sys.exit(f"{name}: only {len(found)} of {2 * SERVICES} processes came up")
        time.sleep(0.05)
    return found


def seconds_until_gone(
    pids: set[int], directory: Path, begin: Callable[[], object], name: str
) -> tuple[float, float]:
    """(from `begin` to the end of the last process, to the first scan of /proc that finds none)."""
    poller = select.poll()
    watched = {os.pidfd_open(pid) for pid in pids}
    for descriptor in watched:
        poller.register(descriptor, select.POLLIN)
    started = time.perf_counter()
    begin()
    while watched:
        for descriptor, _ in poller.poll(WITHIN_S * 1000) or sys.exit(f"{name}: {len(watched)} are left"):
            poller.unregister(descriptor)
            os.close(descriptor)
            watched.discard(descriptor)
    ended = time.perf_counter() - started
    while left := processes_of(directory):
        if time.perf_counter() > started + WITHIN_S:
            sys.exit(f"{name}: {left} appeared later and are left")
    return ended, time.perf_counter() - started


def scripts(*, is_one_deaf: bool) -> list[str]:
    """What the services run."""
    return [HEARING] * (SERVICES - 1) + [DEAF if is_one_deaf else HEARING]


def workflow(*, is_one_deaf: bool) -> str:
    """All services, and nothing that ends by itself."""
    lines = ['version: "0.1"', "workflow:", "  name: teardown", "  keep_alive: true", "  tasks:"]
    for number, script in enumerate(scripts(is_one_deaf=is_one_deaf)):
        lines.append(
            f'    - {{name: s{number}, kind: service, script: ["{script}"], stop: {{grace: {GRACE_S}}}}}'
        )
    return "\n".join(lines) + "\n"


class Measurement:
    """Runs the cases; notes what the whole run took besides."""

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        self.whole: dict[str, list[float]] = {}

    def run(self, name: str, *, is_one_deaf: bool = False, kill: str = "") -> float:
        """One run, ended by SIGINT, or by `kill -9` of the agent, or of all that could take over."""
        file = self._cwd / "workflow.yaml"
        file.write_text(workflow(is_one_deaf=is_one_deaf))
        output = Path(tempfile.mkdtemp(prefix="out-", dir=self._cwd))
        command = [*SFLOW_CTL, "run", str(file), "--output-dir", str(output), "--run-id", "r", "--quiet"]
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=self._cwd, stdin=null, stdout=null, stderr=null)
        directory = output / "r"
        pids = all_up(directory, name)
        agent = agent_of(directory)
        targets = {"agent": [agent], "both": [process.pid, controller_of(directory)]}.get(kill, [process.pid])
        numbers = (signal.SIGSTOP, signal.SIGKILL) if kill else (signal.SIGINT,)

        def end() -> None:
            for number in numbers:  # stopped first: neither may act on the other's death
                for target in targets:
                    os.kill(target, number)

        seconds, until_scanned = seconds_until_gone(pids, directory, end, name)
        process.wait()
        wait_for_end(agent)
        self.whole.setdefault(name, []).append(until_scanned)
        return seconds

    def by_hand(self, name: str, *, is_one_deaf: bool = False) -> float:
        """The same by a shell that signals process groups."""
        directory = Path(tempfile.mkdtemp(prefix="hand-", dir=self._cwd))
        environment = {**os.environ, MARK: str(directory), "GRACE": f"{GRACE_S:g}" if is_one_deaf else ""}
        shell = subprocess.Popen(
            ["bash", "-c", BY_HAND, "bash", *scripts(is_one_deaf=is_one_deaf)],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert shell.stdin is not None
        to_shell = shell.stdin.fileno()
        pids = all_up(directory, name, besides={shell.pid})
        seconds, _ = seconds_until_gone(pids, directory, lambda: os.write(to_shell, b"\n"), name)
        shell.stdin.close()
        shell.wait()
        return seconds


def agent_of(directory: Path) -> int:
    """The agent's pid, by the journal."""
    for entry in entries_of(directory, EVERYTHING):
        hello = getattr(entry.event, "hello", None)
        if hello is not None:
            return int(hello.pid)
    sys.exit("no agent has joined")


def controller_of(directory: Path) -> int:
    """The controller's pid, by its claim."""
    claim = read_claim(directory / layout.CLAIM)
    assert claim is not None
    return claim.pid


def wait_for_end(agent: int) -> None:
    """The next measurement begins when nothing of this one runs."""
    deadline = time.monotonic() + WITHIN_S
    while Path(f"/proc/{agent}").exists():
        if time.monotonic() > deadline:
            sys.exit(f"agent {agent} does not end")
        time.sleep(0.01)


def main() -> None:
    """A table and a line of JSON."""
    with scratch() as cwd:
        bench = Measurement(cwd)
        candidates: dict[str, Callable[[], float]] = {
            "stop": lambda: bench.run("stop"),
            "stop, by hand": lambda: bench.by_hand("stop, by hand"),
            f"stop, one deaf, grace {GRACE_S:g} s": lambda: bench.run("one deaf", is_one_deaf=True),
            "the same by hand": lambda: bench.by_hand("one deaf, by hand", is_one_deaf=True),
            "kill -9 of the agent": lambda: bench.run("agent", kill="agent"),
            "kill -9 of supervisor and controller": lambda: bench.run("both", kill="both"),
        }
        results = interleaved(candidates, REPETITIONS)
    notes = {
        f"worst until a scan of /proc finds none, {name}": f"{max(values):.3f} s"
        for name, values in bench.whole.items()
    }
    report("teardown", "s", results, {"services": SERVICES, "processes left": 0, **notes})


if __name__ == "__main__":
    main()
