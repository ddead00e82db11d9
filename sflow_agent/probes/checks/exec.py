"""A check by a program: it runs beside the task with the task's environment, and must exit with 0."""

from protocol.messages.rank_spec import RankSpec
from sflow_agent.descriptors import Descriptors
from sflow_agent.probes.checks.check import Done
from sflow_agent.processes.program import Program, how_it_ended
from sflow_agent.processes.spawn import SpawnError
from sflow_agent.processes.table import Processes

KEPT_BYTES = 4096
"""The number of bytes kept from the end of its output, for the sentence about its failure."""
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
        """The sentence about the missing exit, with the program's last line."""
        return f"{self._name} did not exit{self._last_line()}"

    def begin(self) -> None:
        """Start the program."""
        try:
            self._program.begin()
        except SpawnError as error:
            self._done(False, error.reason)

    def close(self) -> None:
        """Kill the program with its whole group."""
        self._program.close()

    def _ended(self, exit_status: int | None, number: int | None) -> None:
        line = self._last_line()
        how = f"{self._name} {how_it_ended(exit_status, number)}{line}"
        self._done(exit_status == 0, line.removeprefix(": ") if exit_status == 0 and line else how)

    def _last_line(self) -> str:
        lines = self._program.printed.decode(errors="replace").split("\n")
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {line[:LINE_CHARACTERS]}" if line else ""
