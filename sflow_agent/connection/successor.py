"""Finds the address of a controller that has taken the run over elsewhere, in the run directory. Used by `link.py`.

That controller has the key which the agent expects, or the agent does not talk to it: who may write the file decides only
where the agent asks. It is read in a thread, because a file system may not answer.
"""

import msgspec

from protocol.machine.loop_signals import QuietThread
from protocol.messages.config import ControllerPlace
from sflow_agent.connection.connections import Connections

LOOK_EVERY_S = 1.0
MOST_BYTES = 64 * 1024


class SuccessorSearch:
    """Looks for a newer controller while the one that the agent knows is silent."""

    def __init__(self, run_directory: str, connections: Connections) -> None:
        self._path = f"{run_directory}/{ControllerPlace.FILE}"
        self._connections = connections
        self._read: ControllerPlace | None = None
        self._thread: QuietThread | None = None
        self._next_look = 0.0

    def found(self, now: float, incarnation: int) -> bool:
        """Return whether there is a controller newer than `incarnation`, once: its addresses are the ones to dial then."""
        place, self._read = self._read, None
        if place is not None and place.incarnation > incarnation:
            endpoints = [*zip(place.control_endpoints, place.log_endpoints, strict=False)]
            is_other = bool(endpoints) and endpoints != self._connections.addresses
            self._connections.addresses = endpoints or self._connections.addresses
            return is_other
        if now >= self._next_look and (self._thread is None or not self._thread.is_alive()):
            self._next_look = now + LOOK_EVERY_S
            self._thread = QuietThread(self._look, "successor")
            self._thread.start()
        return False

    def _look(self) -> None:
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123
                self._read = msgspec.json.decode(file.read(MOST_BYTES), type=ControllerPlace)
        except (OSError, msgspec.DecodeError):
            return
