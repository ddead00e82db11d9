"""A check by a program: it runs beside the task with the task's environment, and exits with 0 when all is well."""

from protocol.messages.rank_spec import RankSpec
from sflow_agent.descriptors import Descriptors
from sflow_agent.probes.checks.check import Done
from sflow_agent.processes.program import Program, how_it_ended
from sflow_agent.processes.spawn import SpawnError
from sflow_agent.processes.table import Processes

KEPT_BYTES = 4096
"""Of what it prints, the end: for the sentence that says why it failed."""
LINE_CHARACTERS = 300


class ActiveExecCheck:
    """One run of the program."""

    def __init__(
        self,
        argv: tuple[str, ...],
        spec: RankSpec,
        processes: Processes,
        descriptors: Descriptors,
        done: Done,
    ) -> None:
        self._name = argv[0]
        self._done = done
        self._program = Program(argv, spec, processes, descriptors, self._ended, KEPT_BYTES)

    @property
    def doing(self) -> str:
        """See `ActiveCheck`."""
        return f"{self._name} did not exit{self._last_line()}"

    def begin(self) -> None:
        """See `ActiveCheck`."""
        try:
            self._program.begin()
        except SpawnError as error:
            self._done(False, error.reason)

    def close(self) -> None:
        """See `ActiveCheck`. Kills the program with its whole group."""
        self._program.close()

    def _ended(self, exit_status: int | None, number: int | None) -> None:
        line = self._last_line()
        how = f"{self._name} {how_it_ended(exit_status, number)}{line}"
        self._done(exit_status == 0, line.removeprefix(": ") if exit_status == 0 and line else how)

    def _last_line(self) -> str:
        lines = self._program.printed.decode(errors="replace").split("\n")
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {line[:LINE_CHARACTERS]}" if line else ""
