"""Runs one program beside a rank: with the rank's environment and directory, its output captured through a pipe.

It belongs to the rank's tree. When it ends, or is closed, its whole process group ends with it.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable

from protocol.messages.rank_spec import RankSpec
from protocol.text.signal_names import signal_name
from sflow_agent.descriptors import Descriptors
from sflow_agent.processes.table import Processes


class Program:
    """One run. `ended` is called with the exit status or the signal, once, unless it is closed before."""

    def __init__(
        self,
        argv: tuple[str, ...],
        spec: RankSpec,
        processes: Processes,
        descriptors: Descriptors,
        ended: Callable[[int | None, int | None], None],
        kept_bytes: int,
    ) -> None:
        self._argv = argv
        self._spec = spec
        self._processes = processes
        self._descriptors = descriptors
        self._on_end = ended
        self._kept_bytes = kept_bytes
        self._group: int | None = None
        self._output: int | None = None
        self._printed = bytearray()

    @property
    def printed(self) -> bytes:
        """Return the end of its output so far, at most `kept_bytes`."""
        return bytes(self._printed)

    def begin(self) -> None:
        """Start the program. Raises: SpawnError, OSError."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_end, True)  # the program's own end must be an ordinary one
        self._output = read_end
        try:
            self._group = self._processes.start_check(self._spec, self._argv, write_end, self._ended)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(write_end)
        self._descriptors.add(read_end, select.EPOLLIN, self._read)

    def close(self) -> None:
        """Kill the program with its whole group; take its output so far. May be called twice."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)
            self._group = None
        if self._output is not None:
            self._read()
            self._descriptors.remove(self._output)
            os.close(self._output)
            self._output = None

    def _read(self) -> None:
        assert self._output is not None
        taken = 0
        while taken < self._kept_bytes:  # a program that prints without end has its turn again
            try:
                data = os.read(self._output, 65536)
            except BlockingIOError:
                return
            if not data:  # all processes of its group have closed it
                self._descriptors.remove(self._output)
                return
            taken += len(data)
            self._printed += data
            del self._printed[: -self._kept_bytes]

    def _ended(self, exit_status: int | None, number: int | None) -> None:
        if self._output is None:
            return  # closed before
        # Processes that it has left running end with it: only the tree of the task lives on.
        self.close()
        self._on_end(exit_status, number)


def how_it_ended(exit_status: int | None, number: int | None) -> str:
    """Return "exited with 7" or "was killed by SIGKILL"."""
    return f"was killed by {signal_name(number)}" if number is not None else f"exited with {exit_status}"
