"""Jobs of the Slurm rig, which is started for the round. Needs root, and one rig at a time."""

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from protocol.machine.procfs import environment, parent_of
from sflow_ctl.slurm.nodelist import expand_nodelist
from tests.delaying_link import end_delaying, start_delaying
from tests.faults.chaos.jumping_clock import LONGEST_JUMP_S, JumpingClock, can_jump
from tests.faults.chaos.schedule import Round
from tests.faults.chaos.site import LONGEST_DELAY_S, LONGEST_PAUSE_S, Site
from tests.faults.chaos.small_disk import SmallDisk
from tests.slurm.jobs import ENDED
from tests.slurm.processes import Process
from tests.slurm.record import PREFIX
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL
from tests.slurm.settings import HEAD, Settings
from tests.support import wait_until

BACKEND = 'type: slurm, account: lab, partition: main, time: "00:10:00"'
GPUS = 4
DELAY_QUEUE = 7
OURS = ("sflow_agent", "sflow_ctl", "task.sh")


class RigSite(Site):
    """One job for the run, and another one for each resume; the controller is on the first node of each."""

    def __init__(self, chosen: Round, directory: Path) -> None:
        super().__init__(directory / "disk" / "run")
        self._round, self._home = chosen, directory
        self._disk = SmallDisk(
            directory, stalls=chosen.has_stalls
        )  # before the nodes, which see what is mounted
        place = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._cluster = Cluster.start(Settings(nodes=chosen.nodes, gpus=GPUS), place)
        has_clock = chosen.has_jumps and can_jump()
        self._clock = JumpingClock(directory, self._cluster.nodes) if has_clock else None
        self._delaying: subprocess.Popen[bytes] | None = None
        self._job = self._suspended = 0
        self._output = directory / "output.txt"
        self._nodes: list[str] = []
        """The job's, once they are known."""
        self._status: int | None = None

    def start(self, output: Path, *, is_resume: bool) -> None:
        self._cluster.restore()
        self._output, self._status, self._nodes = output, None, []
        chosen = self._round
        if is_resume:
            what = f"--resume {self._disk.seen_as}"
        else:
            what = f"{self._home / 'w.yaml'} --output-dir {self._disk.seen_as.parent} --run-id run"
        # Agents of a job do not see whether the controller lives: a loaded machine needs more patience than a local run.
        times = f"--lost-after={chosen.lost_after_s + 6} --orphan-grace={chosen.orphan_grace_s + 10}"
        gres = {"gres": f"gpu:{chosen.gpus_per_node}"} if chosen.gpus_per_node else {}
        clock = {} if self._clock is None else self._clock.environment
        variables = "".join(f"{name}={value} " for name, value in clock.items())
        script = f"{variables}exec {SFLOW_CTL} run {what} {times} --join-within 20"
        self._job = self._cluster.sbatch(script, nodes=chosen.nodes, no_kill=True, **gres)

    def status(self) -> int | None:
        if self._status is not None:
            return self._status
        job = self._cluster.job(self._job)
        if job.node_list and not self._nodes:
            self._nodes = expand_nodelist(job.node_list)
        if job.state in ENDED:
            status, _, number = job.exit_code.partition(":")
            is_killed = job.state in ("NODE_FAIL", "CANCELLED", "TIMEOUT")
            self._status = -signal.SIGKILL if is_killed else -int(number) if int(number) else int(status)
            with self._output.open("a") as file:
                file.write(self._cluster.output(self._job))
        return self._status

    def runs(self) -> list[int]:
        controllers = self._with("sflow_ctl run")
        return [pid for pid in controllers if parent_of(pid) not in controllers]

    def controllers(self) -> list[int]:
        every = self._with("sflow_ctl run")
        return [pid for pid in every if parent_of(pid) in every] or every

    def agents(self) -> list[int]:
        every = self._with("sflow_agent")
        return [pid for pid in every if parent_of(pid) in every]

    def guardians(self) -> list[int]:
        every = self._with("sflow_agent")
        return [pid for pid in every if parent_of(pid) not in every]

    def tasks(self) -> list[int]:
        every = (process for node in self._cluster.nodes for process in self._processes(node))
        return [one.pid for one in every if _is_of_task(one.pid)]

    def left(self) -> list[str]:
        return [
            f"{process.pid} {node} {process.command[:120]}"
            for node in (HEAD, *self._cluster.nodes)
            for process in self._processes(node)
            if any(word in process.command for word in OURS) or _is_of_task(process.pid)
        ]

    def kill_left(self) -> None:
        self._cluster.scancel(self._job)
        for text in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text.split()[0]), signal.SIGKILL)
        wait_until(lambda: self.status() is not None, "the job has ended")

    def cut(self, pick: float) -> None:
        for node in self._other_node(pick):
            self._cluster.cut(node)

    def reset(self, pick: float) -> None:
        rule = "iptables -A INPUT -i eth0 -p tcp -j REJECT --reject-with tcp-reset"
        for node in self._other_node(pick):
            self._cluster.run_in_node(node, rule.split())

    def lossy(self, pick: float) -> None:
        for node in self._other_node(pick):
            self._cluster.loss(node, 10 + 50 * pick)

    def delay(self, pick: float) -> None:
        for node in self._other_node(pick) if self._delaying is None else ():
            enter = self._cluster.enter_network(node)
            self._delaying = start_delaying(enter, DELAY_QUEUE, 0.05 + pick * LONGEST_DELAY_S)
            rule = f"iptables -A INPUT -i eth0 -p tcp -j NFQUEUE --queue-num {DELAY_QUEUE} --queue-bypass"
            self._cluster.run_in_node(node, rule.split())

    def heal(self) -> None:
        for node in self._cluster.nodes:
            with contextlib.suppress(ValueError):  # without power
                self._cluster.heal(node)
        if self._delaying is not None:
            end_delaying(self._delaying)
            self._delaying = None

    def fill_disk(self) -> None:
        self._disk.fill()

    def free_disk(self) -> None:
        self._disk.free()

    def stall(self) -> None:
        self._disk.stall()

    def resume(self) -> None:
        self._disk.resume()

    def jump_clock(self, pick: float) -> None:
        if (clock := self._clock) is None:
            return  # this machine has no compiler
        for node in self._any_node(pick):
            clock.set_time_of_day((2 * pick - 1) * LONGEST_JUMP_S, node)

    def correct_clocks(self) -> None:
        if self._clock is not None:
            self._clock.correct()

    def pause(self, pick: float) -> None:
        if (clock := self._clock) is None:
            return  # this machine has no compiler
        for node in self._any_node(pick):
            clock.pause(pick * LONGEST_PAUSE_S, node)

    def suspend(self) -> None:
        if self._nodes and self._cluster.job(self._job).state == "RUNNING":
            self._suspended = self._job
            self._cluster.scontrol("suspend", str(self._job))

    def unsuspend(self) -> None:
        if self._suspended and self._cluster.job(self._suspended).state == "SUSPENDED":
            self._cluster.scontrol("resume", str(self._suspended))
        self._suspended = 0

    def power_off(self, pick: float) -> None:
        for node in self._other_node(pick):
            self._cluster.power_off(node)

    def end(self) -> None:
        if self._delaying is not None:
            end_delaying(self._delaying)
        self._cluster.end()
        self._disk.end()

    def _other_node(self, pick: float) -> list[str]:
        """Return a node of the job without the controller, if the job has begun and has several."""
        return _picked(self._nodes[1:], pick)

    def _any_node(self, pick: float) -> list[str]:
        return _picked(self._nodes, pick)

    def _with(self, word: str) -> list[int]:
        """Return the processes of all nodes whose command has a word, node by node."""
        return [
            process.pid
            for node in self._cluster.nodes
            for process in self._processes(node)
            if word in process.command and process.name not in ("slurmstepd", "srun", "task-keeper")
        ]

    def _processes(self, node: str) -> list[Process]:
        return self._cluster.processes_in_node(node)


def _picked(nodes: list[str], pick: float) -> list[str]:
    return [nodes[min(int(pick * len(nodes)), len(nodes) - 1)]] if nodes else []


def _is_of_task(pid: int) -> bool:
    return any(variable.startswith(b"SFLOW_RANK=") for variable in environment(pid))
