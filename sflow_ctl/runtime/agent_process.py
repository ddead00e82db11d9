"""Starts the process of an agent on this machine, also before it is known whether one is needed.

Called by `__main__` before the command line is imported, and by `fleet/local.py`, which gives agents their configuration.
Imports next to nothing: the interpreter of the agent starts while this one imports the rest.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence

from protocol.machine.marks import LAST_AGENT
from protocol.streams.door import INNER, make_door
from sflow_ctl.runtime.children import memory_file, watch_child
from sflow_ctl.runtime.descriptors import with_inherited_limit
from sflow_ctl.runtime.supervision.supervisor import begins_run

_LAUNCHED = ("SLURM_", "OMPI_", "PMI_", "MV2_", "PALS_", "FLUX_")
"""Variables with these prefixes say that agents may be needed elsewhere, or that another process does the work."""


class AgentProcess:
    """A guardian as its parent sees it."""

    __slots__ = ("door", "exit_status", "is_adopted", "node", "pid", "pidfd", "stderr", "stdin")

    def __init__(self, pid: int, pidfd: int, stdin: int, stderr: int, door: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.stdin = stdin
        self.stderr = stderr
        """An anonymous file with its stderr and its agent's; quoted when it fails."""
        self.door = door
        """The outer end of its door, for its connections."""
        self.is_adopted = False
        """It was started by a controller that was killed, and is the supervisor's child now."""
        self.node: int | None = None
        self.exit_status: int | None = None


_early: list[AgentProcess] = []


def start_early(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Start an agent if these arguments of the program begin a run that is likely to need one here.

    Only a guess, from the words themselves: an agent that is not needed ends when `take_early` is given back, or its
    standard input is closed. An error is left to the launcher, which tries again and reports it.
    """
    if not begins_run(argv) or any(name.startswith(_LAUNCHED) for name in environ):
        return
    try:
        _early.append(spawn_agent())
    except OSError:
        return


def take_early() -> list[AgentProcess]:
    """Return what `start_early` has started, once: the caller gives it a configuration, or ends it."""
    taken = _early[:]
    _early.clear()
    return taken


def spawn_agent() -> AgentProcess:
    """Start one guardian-agent pair in its own session: a terminal's Ctrl-C is for the controller only. Raises: OSError."""
    config_read, config_write = os.pipe2(os.O_CLOEXEC)
    stderr = null = outer = inner = -1
    try:
        outer, inner = make_door()
        stderr = memory_file("sflow-agent-stderr")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        argv = with_inherited_limit((sys.executable, "-I", "-X", "utf8", "-m", "sflow_agent"))
        pid = os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, config_read, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, stderr, 2),
                (os.POSIX_SPAWN_DUP2, inner, INNER),  # last: one of the others may have that number here
            ),
            setsid=True,
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
            setsigmask=(LAST_AGENT,),  # until it has a handler
        )
        return AgentProcess(pid, watch_child(pid), config_write, stderr, outer)
    except OSError:
        for descriptor in (config_write, stderr, outer):
            if descriptor >= 0:
                os.close(descriptor)
        raise
    finally:
        for descriptor in (config_read, null, inner):
            if descriptor >= 0:
                os.close(descriptor)


def end_unused(agents: Sequence[AgentProcess], timeout_s: float) -> None:
    """End agents that have no configuration; return when they are gone."""
    for agent in agents:
        os.close(agent.stdin)
    for agent in agents:
        reap(agent, timeout_s)
        os.close(agent.stderr)
        os.close(agent.door)


def reap(agent: AgentProcess, timeout_s: float) -> None:
    """Wait for the end of an agent's guardian, kill it if it is late, and note its exit status."""
    import select  # not needed to start one

    poller = select.poll()
    poller.register(agent.pidfd, select.POLLIN)
    if not poller.poll(timeout_s * 1000):
        os.kill(agent.pid, signal.SIGKILL)
    _, status = os.waitpid(agent.pid, 0)
    agent.exit_status = os.waitstatus_to_exitcode(status)
    os.close(agent.pidfd)
