"""The keeper of a local run: ends its tasks when controller, agent and guardian have been killed at the same moment.

A process that the guardian makes before the agent, with a session and a name of its own, so that what kills the others by
name, session or process group does not find it. It only waits. In a job the site's Slurm does its work.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable

from protocol.machine.procfs import is_same_process, start_ticks
from sflow_agent.processes.syscalls import hide_name, open_pidfd

NAME = "task-keeper"
"""What `ps` shows. Not ours, nor the interpreter's: `pkill -9 sflow` and `killall -9 python` spare it."""
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_LOOK_EVERY_MS = 200
"""Where a process cannot be watched by a descriptor."""


class Keeper:
    """The keeper as guardian and agent see it: both hold the end of a pipe, and its closing says that both are dead."""

    def __init__(self, clean_up: Callable[[], object]) -> None:
        """Start it. `clean_up` runs in its process, after the run's processes are ended. Raises: OSError."""
        lifeline, self._held = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._held)
            with contextlib.suppress(BaseException):
                _keep(lifeline, clean_up)
            os._exit(0)
        os.close(lifeline)

    def expect(self, controller: int, marker: str) -> None:
        """Tell it, as the agent, whose run this is: until that process ends, a controller ends what the agent has left.

        It is the supervisor, which outlives a controller that is killed.
        """
        with contextlib.suppress(OSError):  # it was killed
            os.write(self._held, f"{controller} {start_ticks(controller) or 0} {marker}".encode())

    def end(self) -> None:
        """End it, as the guardian's last act: nothing is left that it could have to end."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _keep(lifeline: int, clean_up: Callable[[], object]) -> None:
    os.setsid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    hide_name(NAME)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    said = b""
    while block := os.read(lifeline, 4096):
        said += block
    if not said:
        return  # the agent had no task yet
    controller, started, marker = said.decode().split(" ", 2)
    if is_same_process(int(controller), int(started)):
        clean_up()  # the containers are this agent's alone; a controller does not know them
        _await_end(int(controller), int(started))
    from sflow_agent.processes.predecessors import end_predecessors

    end_predecessors([marker], has_containers=False, spares_agents=True)
    clean_up()


def _await_end(pid: int, started: int) -> None:
    """Wait until the process that had this pid then has ended."""
    poller, is_watched = select.poll(), False
    with contextlib.suppress(ProcessLookupError):
        descriptor = open_pidfd(pid)
        if descriptor is not None:
            poller.register(descriptor, select.POLLIN)
            is_watched = True
    while is_same_process(pid, started):
        poller.poll(None if is_watched else _LOOK_EVERY_MS)
