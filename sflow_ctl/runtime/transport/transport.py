"""The interface of what carries packets between the controller and its agents. `network.py` and `local.py` implement it.

It knows which node has sent a packet, and nothing of what is in it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from protocol.errors import LaunchError
from protocol.streams.frame_stream import FrameStream
from protocol.streams.waiting import Waiting
from sflow_ctl.runtime.descriptors import MORE_FILES, allow_many, too_few
from sflow_ctl.runtime.transport.ports import OpenPort

if TYPE_CHECKING:
    from sflow_ctl.runtime.transport.admission import Admission

Way = bytes | FrameStream
"""A connection, as the transport knows it; what is sent there arrives at the process that has made it."""


class Arrival(NamedTuple):
    """A packet of an agent."""

    way: Way
    node: int | None
    """The node that the sender has proved to be of; None where it has not."""
    is_enrolling: bool
    """What proves it is only good for naming a key."""
    frame: bytes


class LogArrival(NamedTuple):
    """A piece of a log or a file."""

    way: Way
    node: int | None
    header: bytes
    body: memoryview | bytes


class ControlChannel(Protocol):
    """Packets to and from all agents. One thread at a time may use it."""

    def receive(self, most: int) -> list[Arrival]:
        """Return what the last wait has found, up to about so many packets, and of each agent that has sent something."""
        ...

    def receive_now(self, most: int) -> list[Arrival]:
        """Return what is there, up to about so many packets, for a thread that has not waited."""
        ...

    def send(self, way: Way, frame: bytes) -> bool:
        """Send a packet; return False if it is lost: the connection is gone or full."""
        ...


class LogChannel(Protocol):
    """Pieces of logs and files from all agents, and what answers them. Owned by one thread."""

    def watch(self, waiting: Waiting) -> None:
        """Have this thread's wait find what arrives."""
        ...

    def receive(self, most: int) -> Iterable[LogArrival]:
        """Yield what the last wait has found, up to about so many."""
        ...

    def send(self, way: Way, frame: bytes, body: bytes = b"") -> bool:
        """Send an answer, with bytes of a file; return False if it is lost."""
        ...


class Transport(Protocol):
    """All connections with the agents of a run."""

    agents: int
    """The number of nodes."""
    waiting: Waiting
    control_endpoints: tuple[str, ...]
    log_endpoints: tuple[str, ...]
    """Where agents connect; empty where they have inherited a door."""

    @property
    def control(self) -> ControlChannel:
        """Return what packets travel by."""
        ...

    @property
    def logs(self) -> LogChannel:
        """Return what logs travel by."""
        ...

    @property
    def admission(self) -> "Admission | None":
        """Return the agents' keys, where they need any."""
        ...

    def answer(self) -> None:
        """Let connections in that are being made, as the last wait has found."""
        ...

    def answer_now(self) -> None:
        """The same for a thread that has not waited."""
        ...

    def look(self) -> None:
        """Do what is to be done about once a second."""
        ...

    def doors(self) -> dict[int, int]:
        """Return the doors of nodes of this machine, for the controller that takes over."""
        ...

    def ports(self) -> list[OpenPort]:
        """Return all ports, for the controller that takes over."""
        ...

    def shortage(self) -> str | None:
        """Return what to do if descriptors are, or were, short; else None."""
        ...

    def refused(self) -> dict[str, int]:
        """Return the counts of refused connections, by kind."""
        ...

    def close(self) -> None:
        """Close every connection, and what they come through."""
        ...


def allow_agents(agents: int) -> None:
    """Raise the limit of open files for the connections of so many agents. Raises: LaunchError if it cannot be enough."""
    allow_many()
    if problem := too_few(agents):
        raise LaunchError.of("too-few-files", problem, hint=MORE_FILES)
