"""The one way in which the scheduler's functions act: they add commands here, in order.

Orders to start ranks are collected per node and sent as one message. An order to stop an attempt never overtakes them.
"""

from collections.abc import Collection

from protocol.ids import AttemptId, RankId
from protocol.messages.orders import Spawn, Stop, ToAgent
from protocol.messages.rank_spec import RankSpec
from sflow_ctl.core.commands import Command, RecordTransition, SendToAgent, Warn
from sflow_ctl.core.states import Transition


class Effects:
    """Commands of the present event."""

    __slots__ = ("_commands", "_spawns")

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._spawns: dict[int, list[RankSpec]] = {}

    def perform(self, command: Command) -> None:
        """Add a command."""
        self._commands.append(command)

    def send(self, node: int, message: ToAgent) -> None:
        """Send an order to a node's agent."""
        if isinstance(message, Stop):
            self._send_spawns_of(node, message.attempt)
        self._commands.append(SendToAgent(node=node, message=message))

    def record(self, transition: Transition) -> None:
        """Record a task's change of state."""
        self._commands.append(RecordTransition(transition=transition))

    def warn(self, text: str) -> None:
        """Warn the viewers of the run."""
        self._commands.append(Warn(text=text))

    def spawn(self, node: int, spec: RankSpec) -> None:
        """Order a rank to be started, with the next `send_spawns`."""
        self._spawns.setdefault(node, []).append(spec)

    def send_spawns(self) -> None:
        """Send the orders to start ranks, one message for each node."""
        for node, specs in self._spawns.items():
            self.send(node, Spawn(ranks=tuple(specs)))
        self._spawns.clear()

    def _send_spawns_of(self, node: int, attempt: AttemptId) -> None:
        """Send the orders to start an attempt's ranks there: an agent ignores a stop of what it does not have."""
        specs = self._spawns.pop(node, [])
        others = [spec for spec in specs if spec.rank.attempt != attempt]
        if others:
            self._spawns[node] = others
        if len(others) < len(specs):
            starting = tuple(spec for spec in specs if spec.rank.attempt == attempt)
            self.send(node, Spawn(ranks=starting))

    def withdraw_spawns(self, spared: Collection[str]) -> list[RankId]:
        """Drop the orders to start ranks that have not been sent, but for those of `spared` tasks; return their ranks."""
        withdrawn: list[RankId] = []
        for node, specs in self._spawns.items():
            withdrawn += [spec.rank for spec in specs if spec.rank.attempt.task not in spared]
            self._spawns[node] = [spec for spec in specs if spec.rank.attempt.task in spared]
        self._spawns = {node: specs for node, specs in self._spawns.items() if specs}
        return withdrawn

    def take(self) -> list[Command]:
        """Return the commands so far, and start again without any."""
        commands, self._commands = self._commands, []
        return commands
