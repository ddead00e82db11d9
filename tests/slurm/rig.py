"""A real Slurm with several nodes on one machine: start it, use it, break it, end it.

The keeper is the first process of an outer PID namespace. Every machine is below it, so that the end of the keeper is
the end of everything. Nothing of the machine that this runs on is changed but one directory.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from tests.slurm import first_process, record
from tests.slurm.configuration import write_configuration
from tests.slurm.jobs import Jobs
from tests.slurm.links import Network
from tests.slurm.machine import ENVIRONMENT, HERE, Machine, start_first_process
from tests.slurm.processes import Process
from tests.slurm.record import Record
from tests.slurm.settings import HEAD, Settings
from tests.support import PATIENCE_S, wait_until

SLURMCTLD_PORT = 6817
PROGRAMS = ("slurmctld", "slurmd", "srun", "munged", "nsenter", "ip", "bridge", "tc", "iptables")


class Cluster(Jobs):
    """Nodes are `node0`, `node1`...; slurmctld and Slurm's commands run on `head`."""

    def __init__(self, directory: Path, known: Record, lifeline: int | None = None) -> None:
        assert known.keeper is not None
        self.directory = directory
        self.settings = known.settings
        self._record = known
        self._lifeline = lifeline
        self._started: list[subprocess.Popen[str]] = []
        self._keeper = known.keeper
        self._network = Network(known.keeper)

    @classmethod
    def start(cls, settings: Settings, directory: Path, *, ends_with_us: bool = True) -> "Cluster":
        """Return when all nodes are idle. Remains of an owner that was killed are ended first."""
        record.end_ownerless()
        record.end(directory)
        directory.mkdir(parents=True, exist_ok=True)
        known = Record(settings, record.this_process() if ends_with_us else None)
        known.write(directory)
        write_configuration(settings, directory)
        known.keeper, lifeline = _start_keeper(directory, ends_with_us)
        known.write(directory)
        cluster = cls(directory, known, lifeline)
        try:
            cluster._start()
        except BaseException:
            cluster.end()
            raise
        return cluster

    @classmethod
    def at(cls, directory: Path) -> "Cluster | None":
        """The cluster that another process has started there; None if none runs."""
        known = Record.read(directory)
        if known is None or known.keeper is None or not known.keeper.is_alive:
            return None
        return cls(directory, known)

    def end(self) -> None:
        """Every process, namespace and file of it."""
        record.end(self.directory)
        self._reap_started()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    @property
    def nodes(self) -> list[str]:
        """In Slurm's order."""
        return self.settings.node_names

    @property
    def shared(self) -> Path:
        """The same directory on all nodes; so is the whole file system but what is a node's own."""
        return self.directory / "shared"

    @property
    def logs(self) -> Path:
        """Slurm's own."""
        return self.directory / "log"

    # Using nodes.

    def run_in_node(
        self,
        node: str,
        argv: Sequence[str | Path],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        within_s: float = PATIENCE_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end, in the shared directory and with an empty environment."""
        return subprocess.run(
            self.argv(node, argv, env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def start_in_node(
        self, node: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts a command there, with standard output and error in one pipe. `restore` ends it."""
        process = subprocess.Popen(
            self.argv(node, argv, env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def argv(self, node: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> list[str]:
        """Return the command to execute outside to run a command in a node."""
        return self._machine(node).argv([str(word) for word in argv], self.shared, env or {})

    def enter_network(self, node: str) -> list[str]:
        """Return the words before a command that is to run outside, in a node's network."""
        return ["nsenter", "--target", str(self._machine(node).first.pid), "--net", "--"]

    def processes_in_node(self, node: str) -> list[Process]:
        """All but the daemons that every node has; none if it has no power. Pids are those seen from outside."""
        machine = self._find(node)
        return machine.processes() if machine else []

    def make_own_directory(self, node: str, path: Path) -> Path:
        """The path is the node's own disk from now on. Returns where that disk can be seen from outside."""
        disk = self._machine(node).own_directory(path, self.directory)
        self._record.own_directories.setdefault(node, []).append(str(path))
        self._record.write(self.directory)
        return disk

    def node_states(self) -> dict[str, str]:
        """`idle`, `mixed`, `allocated`, `completing`, `down`, `drained`...; with `*` while not responding."""
        asked = ["sinfo", "-hNpmain", "-o%N %T"]

        def answered() -> str | None:
            done = self.run_in_node(HEAD, asked)
            return done.stdout if done.returncode == 0 else None

        said = wait_until(
            answered, f"slurmctld answers; see {self.logs}"
        )  # a new one of 24.11 may not listen yet
        return dict(line.split() for line in said.splitlines())

    def wait_node(self, node: str, *states: str, within_s: float = PATIENCE_S) -> None:
        """Wait until the node is in one of the states."""
        self._wait_states(lambda seen: seen[node] in states, f"{node} {' or '.join(states)}", within_s)

    def wait_idle(self, within_s: float = PATIENCE_S) -> None:
        """Until all nodes are."""
        self._wait_states(lambda seen: set(seen.values()) == {"idle"}, "all nodes idle", within_s)

    # Breaking nodes, and repairing them.

    def cut(self, node: str) -> None:
        """Off the network, silently; what runs on it runs on."""
        self._network.cut(self._machine(node))

    def loss(self, node: str, percent: float) -> None:
        """Drop that part of the packets to the node."""
        self._network.lose(self._machine(node), percent)

    def slow(self, node: str, kbit_per_s: int, latency_ms: int) -> None:
        """A link of that speed, in both directions, with a queue that holds packets for at most that long."""
        self._network.slow(self._machine(node), kbit_per_s, latency_ms)

    def add_black_hole_address(self, node: str) -> str:
        """Returns a second address of the node: packets from others to it vanish."""
        return self._network.add_black_hole_address(self._machine(node))

    def heal(self, node: str) -> None:
        """Undoes all that was done to the node's network; on an intact one does nothing."""
        self._network.heal(self._machine(node))

    def kill_slurmd(self, node: str) -> None:
        """SIGKILL; jobs on the node run on."""
        self._kill_daemon(node, "slurmd")

    def start_slurmd(self, node: str) -> None:
        """Does nothing while one runs."""
        if self._machine(node).daemon("slurmd") is None:
            self._machine(node).shell("slurmd")

    def kill_slurmctld(self) -> None:
        """SIGKILL; jobs run on. What it has not saved yet, every 5 s, it will not know again: see `is_saved`."""
        self._kill_daemon(HEAD, "slurmctld")

    def is_saved(self, job: int) -> bool:
        """Return whether a restarted slurmctld would know that the job runs."""
        saved = self.directory / "state" / "job_state"
        starts = self.slurm("squeue", "--noheader", f"--jobs={job}", "--format=%S").strip()
        since = datetime.fromisoformat(starts).timestamp()
        return saved.exists() and saved.stat().st_mtime > since + 1  # squeue's times are whole seconds

    def start_slurmctld(self) -> None:
        """Returns when it listens; does nothing while one runs."""
        head = self._machine(HEAD)
        if head.daemon("slurmctld") is None:
            head.shell("slurmctld")
        wait_until(lambda: head.listens(SLURMCTLD_PORT), f"slurmctld; see {self.logs}")

    def reconfigure(self) -> None:
        """Have slurmctld and all nodes read slurm.conf again; return when slurmctld answers: 24.11 starts a new one."""
        self.scontrol("reconfigure")
        self.node_states()

    def power_off(self, node: str) -> None:
        """Without a goodbye: first the link is gone, then every process. Does nothing to a node without power."""
        machine = self._find(node)
        if machine is None:
            return
        self._network.unplug(machine)
        machine.first.kill()
        del self._record.machines[node]
        self._record.write(self.directory)

    def mark_down(self, node: str) -> None:
        """Slurm's verdict on a broken node, without the wait for it."""
        self.scontrol("update", f"nodename={node}", "state=down", "reason=test")

    def power_on(self, node: str) -> None:
        """Does nothing to a node that has power."""
        if self._find(node) is None:
            self._boot(node)
            self.start_slurmd(node)

    def restore(self) -> None:
        """No jobs, all nodes idle, all links whole; what tests wrote stays."""
        for node in self.nodes:
            self.power_on(node)
        for machine in self.settings.machine_names:
            self.heal(machine)
        self.start_slurmctld()
        self.node_states()
        for node in self.nodes:
            self.start_slurmd(node)
        self.scancel("--user=root")
        for machine in self.settings.machine_names:
            self._end_processes(machine)
        self._reap_started()
        wait_until(
            lambda: not any(self.processes_in_node(node) for node in self.nodes), "Slurm's steps have ended"
        )
        if any(state.endswith("*") for state in self.node_states().values()):
            self.reconfigure()  # asks all nodes at once
        self._wait_states(lambda seen: not self._resume(seen), "all nodes idle", PATIENCE_S)

    def _start(self) -> None:
        self._network.make()
        for name in self.settings.machine_names:
            self._boot(name)
        self.start_slurmctld()  # a slurmd that does not find it waits for a second
        for node in self.nodes:
            self.start_slurmd(node)
        self.wait_idle()

    def _boot(self, name: str) -> None:
        own = [Path(path) for path in self._record.own_directories.get(name, ())]
        machine = Machine.start(name, self._keeper, self.directory, own)
        self._record.machines[name] = machine.first
        self._record.write(self.directory)
        self._network.plug_in(machine)

    def _find(self, name: str) -> Machine | None:
        first = self._record.machines.get(name)
        return Machine(name, first) if first is not None and first.is_alive else None

    def _machine(self, name: str) -> Machine:
        machine = self._find(name)
        if machine is None:
            raise ValueError(f"{name} has no power, or is none of {' '.join(self.settings.machine_names)}")
        return machine

    def _kill_daemon(self, machine: str, name: str) -> None:
        daemon = self._machine(machine).daemon(name)
        if daemon is not None:
            daemon.kill()

    def _resume(self, seen: dict[str, str]) -> bool:
        """False if all are idle. Nodes that are not for a reason that lasts are asked to forget it."""
        for node, state in seen.items():
            if state.startswith(("down", "drain")):
                self.run_in_node(HEAD, ["scontrol", "update", f"nodename={node}", "state=resume"])
        return set(seen.values()) != {"idle"}

    def _end_processes(self, machine: str) -> None:
        """Of tests and of jobs. A slurmstepd is left to end by itself: Slurm drains a node that loses one."""
        for process in self.processes_in_node(machine):
            if process.name != "slurmstepd":
                process.kill()

    def _reap_started(self) -> None:
        for process in self._started:
            process.communicate()
        self._started.clear()

    def _wait_states(self, arrived: Callable[[dict[str, str]], bool], what: str, within_s: float) -> None:
        seen: dict[str, str] = {}

        def look() -> bool:
            nonlocal seen
            seen = self.node_states()
            return bool(seen) and arrived(seen)

        try:
            wait_until(look, what, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; {seen}; see {self.logs}") from None


def _start_keeper(directory: Path, ends_with_us: bool) -> tuple[Process, int | None]:
    """Return the keeper, and the end of the pipe whose closing ends it."""
    flags = first_process.NEW_PIDS | first_process.NEW_NETWORK
    if not ends_with_us:
        return start_first_process(flags, "sleep", "infinity"), None
    reader, writer = os.pipe()
    try:
        keeper = [sys.executable, "-I", "-S", str(HERE / "keeper.py"), str(directory)]
        return start_first_process(flags, *keeper, stdin=reader), writer
    finally:
        os.close(reader)


def reason_for_none() -> str | None:
    """Why no cluster can be started here; None if one can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [program for program in PROGRAMS if shutil.which(program, path=ENVIRONMENT["PATH"]) is None]
    return f"not installed: {', '.join(missing)} (`python3 dev.py test` installs them)" if missing else None
