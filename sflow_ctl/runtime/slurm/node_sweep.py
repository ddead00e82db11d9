"""Ends what a run has left on a node of the job whose agent and guardian were killed at once, by one more job step there.

Where Slurm does not track processes by control groups they would run on after the job. `fleet/step.py` begins the steps.
"""

import contextlib
import os
import select
import signal
import time

from sflow_ctl.runtime.children import uninterrupted, watch_child
from sflow_ctl.runtime.slurm.allocation import Allocation
from sflow_ctl.slurm.step_command import step_argv, step_environment


class NodeSweeps:
    """The sweeps of lost nodes. One of a node that is off, or cut off, does not end by itself."""

    def __init__(self, allocation: Allocation, python: str, extra: tuple[str, ...]) -> None:
        self._allocation, self._python, self._extra = allocation, python, extra
        self._epoll = select.epoll()
        self._running: dict[int, tuple[int, int]] = {}
        """(pid, node) by the descriptor that watches it."""
        self._failed: list[tuple[int, int]] = []

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when a sweep has ended."""
        return self._epoll.fileno()

    def begin(self, node: int, name: str, marker: str) -> None:
        """Start the sweep of a node for the run with this marker; one that cannot be started has failed."""
        argv = step_argv(
            (self._python, "-I", "-X", "utf8", "-m", "sflow_agent.processes.predecessors", marker),
            job_id=self._allocation.job_id,
            parts=self._allocation.step_parts([name]),
            gpus_on_node=None,
            extra=self._extra,
        )
        nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        with contextlib.suppress(OSError), uninterrupted():
            pid = os.posix_spawnp(
                argv[0],
                argv,
                step_environment(os.environ),
                file_actions=nothing,
                setsid=True,
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
                setsigmask=(),
            )
            descriptor = watch_child(pid)
            self._running[descriptor] = pid, node
            self._epoll.register(descriptor, select.EPOLLIN)
            return
        self._failed.append((node, -1))

    def clear(self) -> list[int]:
        """Return the nodes on which nothing of the run is left, by sweeps that have ended since the last call."""
        return [node for node, status in self.ended() if status == 0]

    def ended(self) -> list[tuple[int, int]]:
        """Return (node, exit status) of the sweeps that have ended since the last call; -1 of one that did not start."""
        failed, self._failed = self._failed, []
        return [*failed, *(self._reap(descriptor) for descriptor, _ in self._epoll.poll(0))]

    def wait(self, timeout_s: float) -> list[int]:
        """Wait until all sweeps have ended, for so long; end the others. Return the nodes on which nothing is left."""
        deadline = time.monotonic() + timeout_s
        clear = self.clear()
        while self._running and (left := deadline - time.monotonic()) > 0:
            self._epoll.poll(left)
            clear += self.clear()
        self.end()
        return clear

    def end(self) -> None:
        """End what still runs: srun's helper ends the step of one that is killed."""
        for descriptor, (pid, _) in list(self._running.items()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._reap(descriptor)

    def close(self) -> None:
        """End what still runs; there is no further sweep."""
        self.end()
        self._epoll.close()

    def _reap(self, descriptor: int) -> tuple[int, int]:
        pid, node = self._running.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        self._epoll.unregister(descriptor)
        os.close(descriptor)
        return node, os.waitstatus_to_exitcode(status)
