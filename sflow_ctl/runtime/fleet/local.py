"""Starts agents on this machine and notices when they end. One guardian-agent pair per node of the plan.

An agent waits for its configuration on stdin, so one can be started before the workflow file has been read;
closing its stdin without a configuration ends it.
"""

import contextlib
import errno
import os
import select
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from protocol.errors import LaunchError
from protocol.machine.marks import LAST_AGENT
from protocol.machine.prctl import adopt_orphans
from protocol.machine.procfs import is_agent, is_living, own_children
from protocol.text.signal_names import signal_name
from sflow_ctl.runtime.agent_process import AgentProcess, end_unused, reap, spawn_agent, take_early
from sflow_ctl.runtime.supervision.kept import KeptAgent, KeptStep
from sflow_ctl.runtime.supervision.lifeline import lifeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from protocol.messages.config import AgentConfig
    from sflow_ctl.runtime.fleet.leftovers import OrphanSweep

_CLOSE_WAIT_S = 5.0
_QUOTED_BYTES = 2000
_SWEPT_WITHIN_S = 20.0
"""As long as a sweep takes at most."""


class AgentEnd(NamedTuple):
    """The end of a node's agent. Of one that was killed with its guardian, a second one follows when all is swept."""

    node: int
    how: str
    is_cleared: bool
    """Nothing of the run is left there but `survivors`."""
    survivors: tuple[str, ...] = ()
    """What could not be ended, "pid name"."""
    may_be_replaced: bool = False
    """Another agent may be started on the node, unless something of the run is left there."""
    is_here: bool = False
    """The node is this machine."""


class ReplacementOrder(Struct, frozen=True):
    """A node that is to get another agent."""

    node: int
    marker: str
    """Of the run's processes."""
    end: AgentEnd | None
    """The end of its agents; None while their step runs, on other nodes."""
    restarts: int
    """How often the next guardian may start an agent again itself."""
    make_config: "Callable[[], AgentConfig]"
    """Makes the configuration, with a key that is good for one hello."""


class LocalLauncher:
    """Agents as child processes."""

    def __init__(self) -> None:
        self.open_door: Callable[[int, int], object] = _close_door
        """Called with a node and the outer end of its agent's door, which is the callee's from then on."""
        self._epoll = select.epoll()
        self._spare: list[AgentProcess] = []
        self._agents: dict[int, AgentProcess] = {}
        """By pidfd."""
        self._adopted: dict[int, AgentProcess] = {}
        """Those of a controller that was killed, by pid: the supervisor waits for them, and says how they have ended."""
        self._configs: dict[int, AgentConfig] = {}
        """Of the nodes whose agents are started again if they are killed with their guardians."""
        self._awaiting: dict[int, ReplacementOrder] = {}
        """By node, whose agent is started again when all is swept."""
        self._sweeps: list[OrphanSweep] = []
        self._swept = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._swept, select.EPOLLIN)

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when an agent has ended."""
        return self._epoll.fileno()

    def prestart(self) -> None:
        """Have an agent whose configuration will follow: the one that was started early, or a new one. Raises: LaunchError."""
        self._spare += take_early() or [_spawn()]

    def discard_spares(self) -> None:
        """End started agents that are not needed; return when they are gone."""
        end_unused(self._spare, _CLOSE_WAIT_S)
        self._spare.clear()

    def start(self, configs: "list[AgentConfig]") -> None:
        """Give each configuration to an agent, unless it has one. Raises: LaunchError."""
        started = {agent.node for agent in (*self._agents.values(), *self._adopted.values())}
        for config in configs:
            if config.node not in started:
                self._start(config)
        self._configs |= {config.node: config for config in configs}
        adopt_orphans()

    def _start(self, config: "AgentConfig") -> None:
        from msgspec.structs import replace

        from protocol.session.codec import encode  # not needed to prestart

        line = lifeline()
        above = None if line is None else line.supervisor
        agent = self._spare.pop() if self._spare else _spawn()
        agent.node = config.node
        self.open_door(config.node, agent.door)
        self._agents[agent.pidfd] = agent
        self._epoll.register(agent.pidfd, select.EPOLLIN)
        with contextlib.suppress(BrokenPipeError):  # dead already: its pidfd reports it, with the reason
            os.write(agent.stdin, encode(replace(config, controller_pid=os.getpid(), supervisor_pid=above)))
        os.close(agent.stdin)

    def kept(self) -> list[tuple[KeptAgent | KeptStep, int]]:
        """Return all agents, for the controller that takes over, each with the descriptor of its standard error."""
        return [
            (KeptAgent(node=agent.node, pid=agent.pid), agent.stderr)
            for agent in (*self._agents.values(), *self._adopted.values())
            if agent.node is not None
        ]

    def adopt(self, agents: "Sequence[tuple[KeptAgent, int]]", configs: "Sequence[AgentConfig]") -> None:
        """Take over the agents of a controller that was killed. Their ends, also in the meantime, are reported as others are."""
        line = lifeline()
        assert line is not None
        for known, stderr in agents:
            agent = AgentProcess(known.pid, -1, -1, stderr, -1)
            agent.node, agent.is_adopted = known.node, True
            self._adopted[known.pid] = agent
        self._configs = {config.node: config for config in configs}
        if agents:
            self._epoll.register(line.fileno, select.EPOLLIN | select.EPOLLET)  # once: others read it, too
        adopt_orphans()

    def ended(self) -> list[AgentEnd]:
        """The ends of agents since the last call; never blocks.

        A guardian that was killed has ended nothing: what its agent does not end in time either is swept meanwhile. Then both
        are started again, if `replace` is called before the next call of this.
        """
        result = self._take_swept()
        gone = self._adopted_ends()
        for pidfd, _ in self._epoll.poll(0):
            if pidfd not in self._agents:
                continue
            agent = self._agents.pop(pidfd)
            self._epoll.unregister(pidfd)
            reap(agent, 0.0)
            gone.append(agent)
        for agent in gone:
            assert agent.node is not None
            assert agent.exit_status is not None
            is_cleared = agent.exit_status >= 0
            how = _describe_end(agent)
            may_be_replaced = not is_cleared and agent.node in self._configs
            result.append(
                AgentEnd(agent.node, how, is_cleared, may_be_replaced=may_be_replaced, is_here=True)
            )
            if not is_cleared:
                self._begin_sweep(agent)
            os.close(agent.stderr)
        return result

    def _adopted_ends(self) -> list[AgentProcess]:
        """Return the adopted agents that have ended since the last call."""
        line = lifeline()
        ended = []
        for agent in list(self._adopted.values()) if line is not None else ():
            assert line is not None
            agent.exit_status = line.take_end(agent.pid)
            if agent.exit_status is None and not line.is_supervised and not is_living(agent.pid):
                agent.exit_status = 0  # it had the time that it needs; how it ended is not known
            if agent.exit_status is not None:
                ended.append(self._adopted.pop(agent.pid))
        return ended

    def _begin_sweep(self, agent: AgentProcess) -> None:
        from sflow_ctl.runtime.fleet.leftovers import OrphanSweep  # only when a guardian was killed

        assert agent.node is not None
        living = [other.pid for other in (*self._agents.values(), *self._adopted.values(), *self._spare)]
        done = partial(os.eventfd_write, self._swept, 1)
        self._sweeps.append(OrphanSweep(agent.node, agent.pid, living, done))

    def _take_swept(self) -> list[AgentEnd]:
        """Return the nodes that have been swept since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._swept)
        over = [one for one in self._sweeps if one.survivors is not None]
        self._sweeps = [one for one in self._sweeps if one.survivors is None]
        ends = []
        for one in over:
            order, survivors = self._awaiting.pop(one.node, None), one.survivors or ()
            if order is not None:
                problem = "some of its processes could not be ended" if survivors else self._restart(order)
                if problem is None:
                    continue
                assert order.end is not None
                ends.append(AgentEnd(one.node, f"{order.end.how}; {problem}", is_cleared=False))
            ends.append(AgentEnd(one.node, "its processes were ended", True, survivors))
        return ends

    def _restart(self, order: ReplacementOrder) -> str | None:
        """Start guardian and agent of a node again; return why that failed."""
        from msgspec.structs import replace

        assert order.end is not None
        follows = order.end.how.removeprefix("its agent ").partition(":")[0]
        try:
            self._start(replace(self._configs[order.node], follows=follows, restarts=order.restarts))
        except LaunchError as error:
            return str(error)
        return None

    def said(self) -> str:
        """Return an empty text: an agent's output is quoted in how it ended."""
        return ""

    def end(self) -> None:
        """End agents that have no task yet."""
        for agent in (*self._agents.values(), *self._adopted.values()):
            _kill(agent.pid, signal.SIGTERM)
        self.wait_all(_CLOSE_WAIT_S)

    def kill(self, node: int) -> None:
        """Kill a node's agent; its guardian lives and ends the tasks.

        If that is impossible, kill the guardian.
        """
        self._configs.pop(node, None)
        self._awaiting.pop(node, None)
        for agent in (*self._agents.values(), *self._adopted.values()):
            if agent.node == node:
                agents = [pid for pid in own_children(agent.pid) if is_agent(pid)]
                _kill(agent.pid, LAST_AGENT)
                for pid in agents or [agent.pid]:
                    _kill(pid, signal.SIGKILL)
                    _kill(pid, signal.SIGCONT)

    def replace(self, order: ReplacementOrder) -> bool:
        """Start guardian and agent again when all that they have left is swept; return whether that is tried.

        Not for a node that is only silent: the ends of this machine's agents are seen.
        """
        if order.end is None or not any(one.node == order.node for one in self._sweeps):
            return False
        self._awaiting[order.node] = order
        return True

    def sweep(self, _node: int, _marker: str) -> None:
        """Do nothing: what a guardian that was killed has left is swept when its end is seen."""

    def wait_all(self, timeout_s: float) -> list[int]:
        """Wait until every agent has ended; kill those that are late, and return their nodes."""
        self._configs.clear()  # none is started again
        self._awaiting.clear()
        deadline = time.monotonic() + timeout_s
        while (self._agents or self._adopted) and (left := deadline - time.monotonic()) > 0:
            self.ended()
            if (self._agents or self._adopted) and self._epoll.poll(left):
                self.ended()
        everyone = (*self._agents.values(), *self._adopted.values())
        late = [agent for agent in everyone if agent.node is not None]
        for agent in late:
            for pid in (*own_children(agent.pid), agent.pid):
                _kill(pid, signal.SIGKILL)
            if not agent.is_adopted:
                reap(agent, _CLOSE_WAIT_S)
        self._agents.clear()
        self._adopted.clear()
        for sweep in self._sweeps:
            sweep.join(_SWEPT_WITHIN_S)
        return [agent.node for agent in late if agent.node is not None]


def _close_door(_node: int, outer: int) -> None:
    os.close(outer)


def _spawn() -> AgentProcess:
    """Start an agent. Raises: LaunchError."""
    try:
        return spawn_agent()
    except OSError as error:
        hint = "raise `ulimit -u` or `ulimit -n`" if error.errno in (errno.EAGAIN, errno.EMFILE) else None
        raise LaunchError.of("agent-not-started", f"cannot start an agent: {error}", hint=hint) from error


def _describe_end(agent: AgentProcess) -> str:
    status = agent.exit_status
    assert status is not None
    text = (
        f"its agent was killed by {signal_name(-status)}" if status < 0 else f"its agent ended with {status}"
    )
    size = os.fstat(agent.stderr).st_size
    said = (
        os.pread(agent.stderr, _QUOTED_BYTES, max(0, size - _QUOTED_BYTES)).decode(errors="replace").strip()
    )
    return f"{text}: {said}" if said else text


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(
        ProcessLookupError, PermissionError
    ):  # ended, or a process of a task that changed its user
        os.kill(pid, number)
