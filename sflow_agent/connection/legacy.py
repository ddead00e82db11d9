"""What an agent leaves to the one that is started in its place: its configuration, with its session's keys and controller.

In memory that guardian and agent share, which no other process can read. The agent notes it once there is a session; the
guardian only keeps it, and judges whether another agent may be started. Imports as little as possible, for the guardian.
"""

import mmap
import struct

WITHIN_S = 600.0
"""The time in which restarts are counted: an agent that is killed again and again must not look like a node. The controller
counts all of a node, and says how many are left for each guardian."""
_SLOT_BYTES = 1 << 18
_HEADER = struct.Struct("=ii")
"""The length of the configuration, and how often an agent may be started again."""


class Legacy:
    """Made before the first agent is forked."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1 + 2 * _SLOT_BYTES)
        self.follows = ""
        """How the agent before ended, as "was killed by SIGKILL"; empty for the first one."""
        self._restarts: list[float] = []

    def note(self, config: bytes, restarts: int) -> None:
        """Note, as the agent, what the next one is to be started with. One that is killed meanwhile leaves the earlier note."""
        if len(config) > _SLOT_BYTES - _HEADER.size:
            return
        slot = 1 - self._memory[0]
        start = 1 + slot * _SLOT_BYTES
        _HEADER.pack_into(self._memory, start, len(config), restarts)
        self._memory[start + _HEADER.size : start + _HEADER.size + len(config)] = config
        self._memory[0] = slot

    def config(self) -> bytes:
        """Return what was noted last; empty before that."""
        start, (length, _) = self._slot()
        return self._memory[start + _HEADER.size : start + _HEADER.size + length]

    def begin_next(self, how: str, now: float) -> str | None:
        """Count another agent after one that has ended like this; return why there is to be none, or None if it may start."""
        _, (length, most) = self._slot()
        if not length or not most:
            return "no other one is started"
        self._restarts = [at for at in self._restarts if at > now - WITHIN_S]
        if len(self._restarts) >= most:
            return "no other one is started any more"
        self._restarts.append(now)
        self.follows = how
        return None

    def _slot(self) -> tuple[int, tuple[int, int]]:
        start = 1 + self._memory[0] * _SLOT_BYTES
        length, restarts = _HEADER.unpack_from(self._memory, start)
        return start, (length, restarts)
