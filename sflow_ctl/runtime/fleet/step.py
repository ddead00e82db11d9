"""Starts the agents of a Slurm job with one `srun`, and notices when that ends.

Its output is never parsed, only quoted.
"""

import base64
import contextlib
import errno
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping

from protocol.errors import LaunchError
from protocol.messages.config import AgentConfig, StepConfig
from protocol.session.codec import encode
from protocol.text.signal_names import signal_name
from sflow_ctl.runtime.children import memory_file, uninterrupted, watch_child
from sflow_ctl.runtime.descriptors import with_inherited_limit
from sflow_ctl.runtime.fleet.local import AgentEnd
from sflow_ctl.runtime.record.processes import process_start_ticks
from sflow_ctl.runtime.slurm.allocation import Allocation
from sflow_ctl.runtime.slurm.node_sweep import NodeSweeps
from sflow_ctl.runtime.supervision.kept import KeptStep
from sflow_ctl.runtime.supervision.lifeline import lifeline
from sflow_ctl.slurm.hints import telling_lines
from sflow_ctl.slurm.step_command import outside_of_job, step_argv, step_environment

CONFIG_VARIABLE = "SFLOW_AGENT_CONFIG"
FROM_INPUT = "-"
"""The value of that variable if the agent reads its configuration from its standard input, which srun passes on."""
_QUOTED_BYTES = 2000
_END_WAIT_S = 10.0
_STEP_ENDS_WITHIN_S, _PER_NODE_S = 3.0, 0.02
"""After the goodbye of all agents. srun waits for ever for a node whose slurmstepd was killed."""
_LAST_WAIT_S = 0.5
"""Then srun may still end by itself: with SIGTERM it waits for such a node, for Slurm's KillWait and longer."""


class StepLauncher:
    """One job step with an agent on each node. The same interface as `LocalLauncher`."""

    def __init__(
        self,
        allocation: Allocation,
        *,
        python: str | None = None,
        extra: tuple[str, ...] = (),
        no_kill: bool = False,
    ) -> None:
        self._allocation = allocation
        self._python = python or sys.executable
        self._nodes: list[int] = []
        self._names: Mapping[int, str] = {}
        self._sweeps = NodeSweeps(allocation, self._python, extra)
        self._swept: list[int] = []
        """Lost nodes on which nothing is left, not reported yet."""
        self._extra = extra
        self._no_kill = no_kill
        self._said = memory_file("srun-output")
        self._epoll = select.epoll()
        self._epoll.register(self._sweeps.fileno, select.EPOLLIN)
        self._pid = 0
        self._pidfd = -1
        self._code = 0
        """How srun ended; negative is a signal."""
        self._end: str | None = None
        self._started = 0
        self._is_adopted = self._is_orphan = False
        self._code_of_adopted: int | None = None

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when the step has ended."""
        return self._epoll.fileno()

    def launch(
        self, config: StepConfig | AgentConfig, environ: Mapping[str, str], nodes: Mapping[int, str]
    ) -> None:
        """Start the step on these nodes of the job (number in the run to name); its agents connect by themselves.

        The configuration of a single agent travels over srun's standard input: tasks run, which can read an environment.

        Raises: LaunchError.
        """
        is_single = isinstance(config, AgentConfig)
        self._nodes, self._names = list(nodes), nodes
        if environ.get("SLURM_JOB_ID") not in (None, self._allocation.job_id):
            environ = outside_of_job(environ)
        argv = step_argv(
            (*_with_jobs_name(environ), self._python, "-I", "-X", "utf8", "-m", "sflow_agent"),
            job_id=self._allocation.job_id,
            parts=self._allocation.step_parts(nodes.values()),
            gpus_on_node=self._allocation.gpus_on_node,
            no_kill=self._no_kill,
            passes_input=is_single,
            extra=self._extra,
        )
        environment = step_environment(environ)
        encoded = encode(config)
        environment[CONFIG_VARIABLE] = FROM_INPUT if is_single else base64.b64encode(encoded).decode()
        stdin = _pipe_with(encoded) if is_single else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if shutil.which(argv[0]) is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            argv = with_inherited_limit(argv)  # Slurm gives the step the limits of srun
            with uninterrupted():
                self._pid = os.posix_spawnp(
                    argv[0],
                    argv,
                    environment,
                    file_actions=(
                        (os.POSIX_SPAWN_DUP2, stdin, 0),
                        (os.POSIX_SPAWN_DUP2, self._said, 1),
                        (os.POSIX_SPAWN_DUP2, self._said, 2),
                    ),
                    setsid=True,  # a terminal's Ctrl-C is for the controller; srun would only print its status
                    setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
                    setsigmask=(),
                )
                self._end = None
                self._started = process_start_ticks(self._pid)
                self._pidfd = watch_child(self._pid)
                self._epoll.register(self._pidfd, select.EPOLLIN)
        except OSError as error:
            hint = "run inside an allocation, where Slurm's commands are on PATH"
            raise LaunchError.of(
                "srun-not-started", f"cannot start srun: {error.strerror}", hint=hint
            ) from error
        finally:
            os.close(stdin)

    def kept(self) -> "tuple[KeptStep, int] | None":
        """Return the step, for the controller that takes over, and the descriptor of its output; None once it has ended."""
        if self._pid == 0 or self._end is not None:
            return None
        step = KeptStep(self._pid, dict(self._names), self._started, self._is_orphan)
        return step, self._said

    def adopt(self, step: KeptStep, said: int) -> None:
        """Take over the step of a controller that was killed: the supervisor waits for its srun now."""
        os.close(self._said)
        self._said = said
        if step.is_orphan:
            self.watch(step)
            return
        line = lifeline()
        assert line is not None
        self._pid, self._started, self._is_adopted = step.pid, step.started, True
        self._nodes, self._names = list(step.nodes), step.nodes
        self._pidfd = os.dup(line.fileno)  # readable when the supervisor says how a child has ended
        self._epoll.register(self._pidfd, select.EPOLLIN | select.EPOLLET)  # once: others read it, too

    def watch(self, step: KeptStep) -> bool:
        """Take over a step whose srun no process waits for; return False if that is not here any more: see `stand_in`."""
        self._nodes, self._names = list(step.nodes), step.nodes
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(step.pid)
            if step.started and process_start_ticks(step.pid) == step.started:
                self._pid, self._started, self._is_orphan = step.pid, step.started, True
                self._pidfd = descriptor
                self._epoll.register(descriptor, select.EPOLLIN)
                return True
            os.close(descriptor)
        return False

    def stand_in(self, nodes: Mapping[int, str]) -> None:
        """Stand for a step that a dead controller has started elsewhere: only its agents' silence shows its end."""
        self._nodes, self._names = list(nodes), nodes

    def successor(self) -> "StepLauncher":
        """Return a launcher for one more step of the same job."""
        return StepLauncher(self._allocation, python=self._python, extra=self._extra, no_kill=self._no_kill)

    def sweeps_of_job(self) -> NodeSweeps:
        """Return what can look at the job's nodes, and end there what is left of a run."""
        return NodeSweeps(self._allocation, self._python, self._extra)

    def name_of(self, node: int) -> str | None:
        """Return the name of a node of the step; None for any other."""
        return self._names.get(node)

    def forget(self, node: int) -> None:
        """Let another step have this node: the end of this one says nothing of it any more."""
        self._names = {other: name for other, name in self._names.items() if other != node}
        self._nodes = list(self._names)

    def start(self, configs: list[AgentConfig]) -> None:
        """Do nothing: the agents are up before the plan is made."""

    def ended(self) -> list[AgentEnd]:
        """The end of every node's agent, once, when the step has ended; never blocks.

        The step of an srun that was killed may still run.
        """
        self._swept += self._sweeps.clear()
        ends = [AgentEnd(node, "what was left there was ended", is_cleared=True) for node in self._swept]
        self._swept.clear()
        if self._has_ended(0):
            how = self._reap()
            ends += [
                AgentEnd(node, how, is_cleared=self._code >= 0, may_be_replaced=self._code > 0)
                for node in self._nodes
            ]
        return ends

    def kill(self, node: int) -> None:
        """Do nothing: an abandoned agent is refused when it connects; otherwise it ends after its orphan grace time."""

    def sweep(self, node: int, marker: str) -> None:
        """End what the run has left on a node of the step whose agent and guardian were killed; `ended` reports it."""
        if node in self._names:
            self._sweeps.begin(node, self._names[node], marker)

    def wait_all(self, timeout_s: float) -> list[int]:
        """Wait until the step and all sweeps have ended; end what is late, and return the step's nodes if it is.

        All agents that there are have said goodbye: only Slurm is waited for.
        """
        now = time.monotonic()
        deadline = now + timeout_s
        step_deadline = now + min(timeout_s, _STEP_ENDS_WITHIN_S + _PER_NODE_S * len(self._nodes))
        while self._pidfd >= 0 and (left := step_deadline - time.monotonic()) > 0:
            if self._has_ended(left):
                self._reap()
            self._swept += self._sweeps.clear()
        self._swept += self._sweeps.wait(max(0.0, deadline - time.monotonic()))
        if self._pidfd < 0:
            return []
        self.end(_LAST_WAIT_S)
        return list(self._nodes)

    def _has_ended(self, within_s: float) -> bool:
        """Return whether the step has ended; wait for an end of anything for at most so long."""
        if self._is_adopted:
            return self._has_adopted_ended(within_s)
        return any(descriptor == self._pidfd for descriptor, _ in self._epoll.poll(within_s))

    def _has_adopted_ended(self, within_s: float) -> bool:
        if self._pidfd < 0:
            return False  # it has been reported
        line = lifeline()
        assert line is not None
        for wait_s in (0, within_s):
            self._epoll.poll(wait_s)
            if self._code_of_adopted is None:
                self._code_of_adopted = line.take_end(self._pid)
            if self._code_of_adopted is not None:
                return True
        return False

    def end(self, within_s: float = _END_WAIT_S) -> None:
        """End the step with all its processes: srun kills its tasks when it is terminated, and is killed after `within_s`."""
        self._sweeps.end()
        if self._pidfd < 0:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if self._is_orphan:
                    signal.pidfd_send_signal(self._pidfd, number)
                else:
                    os.kill(self._pid, number)
            if self._has_ended(within_s):
                break
        self._reap()

    def said(self) -> str:
        """Return the last output of srun and the agents, without lines that explain nothing."""
        size = os.fstat(self._said).st_size
        last = os.pread(self._said, _QUOTED_BYTES, max(0, size - _QUOTED_BYTES))
        return telling_lines(last.decode(errors="replace"))

    def _reap(self) -> str:
        if self._pidfd >= 0:
            how = self._how_it_ended()
            said = self.said()
            self._end = f"the agents' job step (srun) {how}" + (f": {said}" if said else "")
            self._epoll.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        assert self._end is not None
        return self._end

    def _how_it_ended(self) -> str:
        """Note srun's status, and return the words for it. That of an orphan only init knows: its nodes may not be clear."""
        if self._is_orphan:
            self._code = -signal.SIGKILL
            return "has ended"
        if self._is_adopted:
            self._code = self._code_of_adopted or 0
        else:
            _, status = os.waitpid(self._pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
        return f"was killed by {signal_name(-self._code)}" if self._code < 0 else f"ended with {self._code}"


def _pipe_with(content: bytes) -> int:
    """Return a descriptor to read this from, once: less than a pipe holds."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(writing, "wb") as file:
        file.write(content)
    return reading


def _with_jobs_name(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the beginning of a step's command that gives SLURM_JOB_NAME back to the job: srun sets it to the step's name."""
    name = environ.get("SLURM_JOB_NAME")
    return ("env", f"SLURM_JOB_NAME={name}") if name else ("env", "-u", "SLURM_JOB_NAME")
