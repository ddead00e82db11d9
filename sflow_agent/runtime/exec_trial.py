"""A check by a program: it runs beside the task with the task's environment, and exits with 0 when all is well."""

import contextlib
import os
import select
import signal

from protocol.messages import RankSpec
from protocol.signal_names import signal_name
from sflow_agent.runtime.descriptors import Descriptors
from sflow_agent.runtime.processes import Processes
from sflow_agent.runtime.spawn import SpawnError
from sflow_agent.runtime.trial import Done

KEPT_BYTES = 4096
"""Of what it prints, the end: for the sentence that says why it failed."""
LINE_CHARACTERS = 300


class ExecTrial:
    """One run of the program."""

    def __init__(
        self,
        argv: tuple[str, ...],
        spec: RankSpec,
        processes: Processes,
        descriptors: Descriptors,
        done: Done,
    ) -> None:
        self._argv = argv
        self._spec = spec
        self._processes = processes
        self._descriptors = descriptors
        self._done = done
        self._group: int | None = None
        self._output: int | None = None
        self._printed = b""

    @property
    def doing(self) -> str:
        """See `Trial`."""
        return f"{self._argv[0]} did not exit{self._last_line()}"

    def begin(self) -> None:
        """See `Trial`."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_end, True)  # the program's own end must be an ordinary one
        self._output = read_end
        try:
            self._group = self._processes.start_check(self._spec, self._argv, write_end, self._ended)
        except SpawnError as error:
            self.close()
            self._done(False, error.reason)
            return
        finally:
            os.close(write_end)
        self._descriptors.add(read_end, select.EPOLLIN, self._read)

    def close(self) -> None:
        """See `Trial`. Kills the program with its whole group."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)
            self._group = None
        if self._output is not None:
            self._descriptors.remove(self._output)
            os.close(self._output)
            self._output = None

    def _read(self) -> None:
        assert self._output is not None
        try:
            data = os.read(self._output, 65536)
        except BlockingIOError:
            return
        self._printed = (self._printed + data)[-KEPT_BYTES:]
        if not data:  # all of its group have closed it
            self._descriptors.remove(self._output)

    def _ended(self, exit_status: int | None, number: int | None) -> None:
        if self._output is None:
            return  # given up before
        self._read()
        # What it has left running goes with it: only the tree of the task lives on.
        self.close()
        if exit_status == 0:
            self._done(True, f"{self._argv[0]} exited with 0{self._last_line()}")
            return
        how = f"was killed by {signal_name(number)}" if number is not None else f"exited with {exit_status}"
        self._done(False, f"{self._argv[0]} {how}{self._last_line()}")

    def _last_line(self) -> str:
        lines = self._printed.decode(errors="replace").split("\n")
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {line[:LINE_CHARACTERS]}" if line else ""
