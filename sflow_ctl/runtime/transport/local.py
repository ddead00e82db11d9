"""Connections with agents that this controller has started on its own machine: streams that they pass through their doors.

Nothing is encrypted, and there is no key: what comes through a door is its agent's, because nothing else has the inner end.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Mapping

from protocol.session.codec import MAX_FRAME_BYTES
from protocol.streams.door import accept
from protocol.streams.frame_stream import Frame, FrameStream
from protocol.streams.waiting import Waiting
from sflow_ctl.runtime.transport.ports import OpenPort
from sflow_ctl.runtime.transport.transport import Arrival, LogArrival, Way, allow_agents

MOST_UNSENT = MAX_FRAME_BYTES
"""Bytes that are kept for an agent that takes nothing; what is more is repeated later, as after a broken connection."""


class LocalTransport:
    """The doors of agents, and the streams that have come through them. A `Transport`."""

    control_endpoints: tuple[str, ...] = ()
    log_endpoints: tuple[str, ...] = ()
    admission: None = None

    def __init__(self, agents: int, doors: Mapping[int, int] | None = None) -> None:
        """`doors` are those of a controller that was killed, by node. Raises: LaunchError."""
        self.agents = agents
        allow_agents(agents)
        self.waiting = Waiting()
        self._doors: dict[int, int] = {}
        """By node."""
        self.logs = LocalLogs()
        self.control = LocalControl(self.waiting, self.logs)
        for node, outer in (doors or {}).items():
            self.open(node, outer)

    def open(self, node: int, outer: int) -> None:
        """Take the connections that the agent of a node passes through its door, from now on; this is the owner of that."""
        before = self._doors.get(node)
        if before is not None:
            self.control.close_door(before)
        self._doors[node] = outer
        self.control.open_door(node, outer)

    def answer(self) -> None:
        """Do nothing: only agents connect, through their doors."""

    def answer_now(self) -> None:
        """The same."""

    def look(self) -> None:
        """Do nothing: there is no port."""

    def doors(self) -> dict[int, int]:
        """Return the doors, for the controller that takes over."""
        return self._doors

    def ports(self) -> list[OpenPort]:
        """Return none."""
        return []

    def shortage(self) -> str | None:
        """Return None: descriptors are the run's own."""
        return None

    def refused(self) -> dict[str, int]:
        """Return nothing: every connection is an agent's."""
        return {}

    def close(self) -> None:
        """Close every stream, and all doors."""
        self.control.close()
        self.logs.close()
        self._doors.clear()


class LocalControl:
    """The streams for packets. A `ControlChannel`."""

    def __init__(self, waiting: Waiting, logs: "LocalLogs") -> None:
        self._waiting, self._logs = waiting, logs
        self._doors: dict[int, int] = {}
        """The node of each outer end."""
        self._streams: dict[int, tuple[FrameStream, int]] = {}
        """By descriptor, each with the node."""

    def open_door(self, node: int, outer: int) -> None:
        """Take connections from this door."""
        self._doors[outer] = node
        self._waiting.add(outer)

    def close_door(self, outer: int) -> None:
        """Take none any more: its agent has ended."""
        del self._doors[outer]
        self._waiting.remove(outer)
        os.close(outer)

    def receive(self, most: int) -> list[Arrival]:
        """Return what has come, of each agent in turn."""
        for outer in self._waiting.ready_of(self._doors):
            self._accept(outer)
        return self._read(self._waiting.ready_of(self._streams), most)

    def receive_now(self, most: int) -> list[Arrival]:
        """Return what is there."""
        for outer in self._doors:
            self._accept(outer)
        return self._read(list(self._streams), most)

    def send(self, way: Way, frame: bytes) -> bool:
        """Send a packet on a stream."""
        assert isinstance(way, FrameStream)
        return way.send(frame)

    def close(self) -> None:
        """Close streams and doors."""
        for stream, _ in self._streams.values():
            stream.close()
        self._streams.clear()
        for outer in list(self._doors):
            self.close_door(outer)

    def _accept(self, outer: int) -> None:
        while (ends := accept(outer)) is not None:
            control, logs = ends
            node = self._doors[outer]
            self._streams[control] = FrameStream(control, self._waiting, MOST_UNSENT), node
            self._logs.add(logs, node)

    def _read(self, ready: list[int], most: int) -> list[Arrival]:
        arrivals: list[Arrival] = []
        for descriptor in ready:
            stream, node = self._streams[descriptor]
            stream.flush()
            arrivals += [Arrival(stream, node, False, frame) for frame, _ in stream.receive()]
            if not stream.is_open:
                del self._streams[descriptor]
            if len(arrivals) >= most:
                break  # what is left is found by the next wait
        return arrivals


class LocalLogs:
    """The streams for logs. A `LogChannel`. Its owner is another thread than that which takes connections."""

    def __init__(self) -> None:
        self._waiting: Waiting | None = None
        self._new: deque[tuple[int, int]] = deque()
        """Descriptors that the thread has not taken yet, with their nodes."""
        self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._streams: dict[int, tuple[FrameStream, int]] = {}

    def add(self, descriptor: int, node: int) -> None:
        """Take over one end of a stream; callable from any thread."""
        self._new.append((descriptor, node))
        os.eventfd_write(self._news, 1)

    def watch(self, waiting: Waiting) -> None:
        """Have this thread's wait find what arrives."""
        self._waiting = waiting
        waiting.add(self._news)

    def receive(self, most: int) -> Iterator[LogArrival]:
        """Yield what has come, of each agent in turn."""
        assert self._waiting is not None
        if self._news in self._waiting:
            self._take_new(self._waiting)
        count = 0
        for descriptor in self._waiting.ready_of(self._streams):
            stream, node = self._streams[descriptor]
            stream.flush()
            frames: list[Frame] = stream.receive()
            if not stream.is_open:
                del self._streams[descriptor]
            for header, body in frames:
                yield LogArrival(stream, node, header, body)
            count += len(frames)
            if count >= most:
                return

    def send(self, way: Way, frame: bytes, body: bytes = b"") -> bool:
        """Send an answer on a stream."""
        assert isinstance(way, FrameStream)
        return way.send(frame, body)

    def close(self) -> None:
        """Close all streams. The thread has ended."""
        for descriptor, _ in self._new:
            os.close(descriptor)
        for stream, _ in self._streams.values():
            stream.close()
        self._streams.clear()
        os.close(self._news)

    def _take_new(self, waiting: Waiting) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._news)
        while self._new:
            descriptor, node = self._new.popleft()
            self._streams[descriptor] = FrameStream(descriptor, waiting, MOST_UNSENT), node
