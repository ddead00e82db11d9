"""Runs commands beside a rank once: those that stop it, and those that examine its hang."""

from functools import partial

from protocol.ids import RankId
from protocol.messages.facts import MAX_SIDE_OUTPUT_BYTES, SidePurpose
from protocol.messages.rank_spec import RankSpec, SideCommand
from sflow_agent.core.events import CommandEnded
from sflow_agent.descriptors import Descriptors
from sflow_agent.processes.program import Program, how_it_ended
from sflow_agent.processes.spawn import SpawnError
from sflow_agent.processes.table import Processes


class SideCommands:
    """The running commands, and the ended ones that were not returned yet."""

    def __init__(self, processes: Processes, descriptors: Descriptors) -> None:
        self._processes = processes
        self._descriptors = descriptors
        self._ended: list[CommandEnded] = []
        self._running: dict[tuple[RankId, SidePurpose], tuple[Program, SideCommand]] = {}

    def run(self, spec: RankSpec, purpose: SidePurpose) -> None:
        """Start the rank's command for this purpose; `poll` will return its result."""
        command = _command(spec, purpose)
        program = Program(
            command.argv,
            spec,
            self._processes,
            self._descriptors,
            partial(self._has_ended, spec.rank, purpose),
            MAX_SIDE_OUTPUT_BYTES,
        )
        try:
            program.begin()
        except (SpawnError, OSError) as error:
            reason = error.reason if isinstance(error, SpawnError) else error.strerror
            self._ended.append(CommandEnded(spec.rank, purpose, b"", f"could not be started: {reason}"))
            return
        self._running[spec.rank, purpose] = program, command

    def end(self, rank: RankId, purpose: SidePurpose) -> None:
        """End a command whose time has passed."""
        running = self._running.pop((rank, purpose), None)
        if running is not None:
            program, command = running
            program.close()
            problem = f"did not end within {command.timeout_s:g} s"
            self._ended.append(CommandEnded(rank, purpose, program.printed, problem))

    def next_wakeup(self) -> float | None:
        """Return 0 while a command has ended."""
        return 0.0 if self._ended else None

    def poll(self, _now: float, /) -> list[CommandEnded]:
        """Return the commands that have ended since the last call: a source of the loop."""
        ended, self._ended = self._ended, []
        return ended

    def _has_ended(
        self, rank: RankId, purpose: SidePurpose, exit_status: int | None, number: int | None
    ) -> None:
        program, _ = self._running.pop((rank, purpose))
        problem = "" if exit_status == 0 else how_it_ended(exit_status, number)
        self._ended.append(CommandEnded(rank, purpose, program.printed, problem))


def _command(spec: RankSpec, purpose: SidePurpose) -> SideCommand:
    commands = {"stop": spec.stopping.command, "hang": spec.hang.command if spec.hang is not None else None}
    command = commands[purpose]
    assert command is not None
    return command
