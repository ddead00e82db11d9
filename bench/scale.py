"""A run on 1,000 nodes whose agents are on this machine: registration, heartbeats, one task on each node, no node lost.

The controller is a whole `sflow-ctl run` in a Slurm job that a stand-in for `srun` imitates. The agents are the real link of an
agent each, with its own sockets and CURVE keys, many to a process; they start nothing, and report at once what they are to run.
Processor time is of the controller's process; its soft limit of open files is 1,024 at first.
"""

import contextlib
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import zmq

from bench.measure import SFLOW_CTL, report, scratch, sized
from protocol.messages.facts import FromAgent, Goodbye, Hello, RankExited, RankStarted
from protocol.messages.node import Inventory
from protocol.messages.orders import Leave, Spawn, ToAgent
from protocol.session.codec import decode_step_config
from protocol.session.version import PROTOCOL_VERSION
from sflow_agent.configuration import for_this_node
from sflow_agent.limits import allow_many
from sflow_agent.link import ControllerLink
from sflow_ctl.core.events import AgentJoined, AgentLost
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.fleet.step import CONFIG_VARIABLE
from sflow_ctl.runtime.journal.reader import EVERYTHING, entries_of

NODES, PROCESSES = sized((1_000, 4), (6, 2))
QUIET_S = sized(20.0, 1.0)
"""For so long the controller's processor time is measured while nothing but heartbeats happens."""
PASS_S = 0.2
TASK = "quiet"
WORKFLOW = """version: "0.1"
backends: {{pool: {{type: slurm, account: lab, partition: main, time: "01:00:00", nodes: {nodes}, gpus_per_node: 1}}}}
operators: {{one: {{type: srun, ntasks: 1}}}}
workflow:
  name: scale
  tasks:
    - {{name: each, replicas: {{count: {nodes}}}, resources: {{nodes: {{count: 1}}}}, script: ["true"]}}
    - {{name: quiet, depends_on: [each], resources: {{nodes: {{count: 1}}}}, script: ["true"]}}
"""


# ---------------------------------------------------------------------- the agents


class Agent:
    """The link of a node's agent, and the shortest answers to what is ordered."""

    def __init__(self, environ: Mapping[str, str], encoded: str) -> None:
        import base64

        config = for_this_node(decode_step_config(base64.b64decode(encoded)), environ)
        self._node, self._name = config.node, config.node_name
        self._ends: list[tuple[float, RankExited]] = []
        self.has_left = False
        self.link = ControllerLink(config, self._hello, time.monotonic())

    def turn(self, now: float) -> None:
        """One pass of an agent's loop."""
        self.has_left = self.link.tick(now) is not None or self.has_left
        for order in self.link.receive(now):
            for fact in self._answers(order, now):
                self.link.report(fact)
        while self._ends and self._ends[0][0] <= now:
            self.link.report(self._ends.pop(0)[1])
        self.link.flush(now)

    def _answers(self, order: ToAgent, now: float) -> Iterator[FromAgent]:
        if isinstance(order, Spawn):
            for spec in order.ranks:
                rank = spec.rank
                yield RankStarted(rank=rank, pid=1000 + self._node, started_at_ns=time.time_ns())
                after_s = 2 * QUIET_S + 5 if rank.attempt.task == TASK else 0.0
                self._ends.append((now + after_s, RankExited(rank=rank, exit_code=0, runtime_s=after_s)))
        elif isinstance(order, Leave):
            yield Goodbye()
            self.has_left = True

    def _hello(self, session: str, number: int, controller_incarnation: int) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION, install_path="/opt", session=session, session_number=number, node=self._node,
            agent_incarnation=1, controller_incarnation=controller_incarnation, pid=1000 + self._node,
            node_name=self._name, sent_at_ns=time.time_ns(), shares_run_directory=True,
            inventory=Inventory(host=self._name, cpus=8, cpus_online=8, memory_bytes=1 << 36),
        )  # fmt: skip


def agents_main(names: list[str]) -> None:
    """Be the agents of these nodes until all have left."""
    encoded = os.environ[CONFIG_VARIABLE]
    allow_many()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 20 * len(names) + 100)
    with mock.patch("zmq.Context", return_value=context):  # else a thread for the sockets of each
        agents = [Agent({"SLURMD_NODENAME": name}, encoded) for name in names]
    last_s = None
    while last_s is None or time.monotonic() < last_s:
        if last_s is None and all(agent.has_left for agent in agents):
            last_s = time.monotonic() + 2.0  # for what is on its way
        began = time.monotonic()
        for agent in agents:
            agent.turn(time.monotonic())
        time.sleep(max(0.0, PASS_S - (time.monotonic() - began)))
    os._exit(0)


# ---------------------------------------------------------------------- the run


def names() -> list[str]:
    """Return the names of the nodes."""
    return [f"n{number:04}" for number in range(NODES)]


def stand_ins(directory: Path) -> dict[str, str]:
    """Make Slurm's commands, and return the environment of a job."""
    directory.mkdir()
    share = -(-NODES // PROCESSES)
    starts = [
        shlex.join([sys.executable, "-m", "bench.scale", "agents", *names()[first : first + share]])
        for first in range(0, NODES, share)
    ]
    root = Path(__file__).parents[1]
    first = f"date +%s%N > {directory}/began\ncd {root}\ntrap 'kill $(jobs -p); exit 143' TERM\n"
    commands = {
        "srun": first + " &\n".join(starts) + " &\nwait",
        "scontrol": "echo slurm 22.05.8",
        "squeue": "echo 50:00",
    }
    for name, script in commands.items():
        (directory / name).write_text(f"#!/bin/bash\n{script}\n")
        (directory / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{directory}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": ",".join(names()),
        "SLURM_JOB_NUM_NODES": str(NODES),
    }


def few_files() -> None:
    """Begin with the soft limit of open files that a login gives."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))


class Times:
    """When things happened, by the journal, in ns since 1970."""

    def __init__(self, directory: Path) -> None:
        self.joined: list[int] = []
        """When the first hello of each node arrived."""
        self.lost = 0
        self.running: dict[str, int] = {}
        for entry in entries_of(directory, EVERYTHING):
            if isinstance(entry.event, AgentJoined):
                self.joined.append(entry.event.hello.sent_at_ns + entry.event.clock_ahead_ns)
            self.lost += isinstance(entry.event, AgentLost)
            change = entry.transition
            if change is not None and change.new is TaskState.RUNNING:
                self.running[change.task] = entry.wall_ns


def controller_of(pid: int) -> int:
    """Return the process that has the sockets of the agents: the run's, or a child of it."""
    found = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return max(found, key=lambda one: open_files(one))


def agent_processes() -> Iterator[int]:
    """Yield the processes that are agents."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"bench.scale\0agents\0" in path.read_bytes():
                yield int(path.parent.name)


def open_files(pid: int) -> int:
    """Return how many files a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Seconds of registration, and the share of a core."""
    with scratch() as cwd:
        (cwd / "w.yaml").write_text(WORKFLOW.format(nodes=NODES))
        environ, run = stand_ins(cwd / "bin"), cwd / "out" / "r"
        began = time.time_ns()
        process = subprocess.Popen(
            [*SFLOW_CTL, "run", "w.yaml", "-q", "--output-dir", "out", "--run-id", "r"],
            cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=(cwd / "said").open("w"), stderr=subprocess.STDOUT,
            preexec_fn=few_files, start_new_session=True,
        )  # fmt: skip
        try:
            while TASK not in Times(run).running:
                if process.poll() is not None or time.time_ns() - began > 300e9:
                    sys.exit(f"the run did not come so far:\n{(cwd / 'said').read_text()}")
                time.sleep(1)
            time.sleep(2)
            controller = controller_of(process.pid)
            files = open_files(controller)
            of_agents = sum(map(cpu_s, agent_processes()))
            before, clock = cpu_s(controller), time.monotonic()
            time.sleep(QUIET_S)
            share = 100 * (cpu_s(controller) - before) / (time.monotonic() - clock)
            peak = Path(f"/proc/{controller}/status").read_text().partition("VmHWM:")[2].split()[0]
            times, step_began = Times(run), int((cwd / "bin" / "began").read_text())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if len(times.joined) != NODES or times.lost:
            sys.exit(f"{len(times.joined)} agents joined, {times.lost} were lost")
        each = [wall_ns for task, wall_ns in times.running.items() if task != TASK]
        report(
            "scale",
            "s; percent of a core",
            {
                "start of the step to the last agent": [(max(times.joined) - step_began) / 1e9],
                "start of the run to the first task": [(min(each) - began) / 1e9],
                "first task to the last of one on each node": [(max(each) - min(each)) / 1e9],
                "heartbeats, percent of a core": [share],
            },
            {
                "nodes": NODES,
                "processor s until then, controller and agents": f"{before:.1f} and {of_agents:.1f}",
                "nodes lost": times.lost,
                "open files": files,
                "peak MB": round(int(peak) / 1024),
            },
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["agents"]:
        agents_main(sys.argv[2:])
    main()
