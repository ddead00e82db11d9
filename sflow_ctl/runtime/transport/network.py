"""Connections with agents on any machine: ZeroMQ over TCP, encrypted and authenticated by CURVE."""

from collections.abc import Iterator, Sequence

import zmq

from protocol.streams.waiting import Waiting, has_waiting
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.transport.admission import Admission
from sflow_ctl.runtime.transport.listeners import Listeners
from sflow_ctl.runtime.transport.ports import OpenPort, open_ports
from sflow_ctl.runtime.transport.transport import Arrival, LogArrival, Way, allow_agents
from sflow_ctl.runtime.transport.zap import Authenticator

LINGER_MS = 200


class NetworkTransport:
    """Two sockets that listen at each address, for control and for logs. A `Transport`."""

    def __init__(self, keys: RunKeys, hosts: tuple[str, ...], ports: Sequence[OpenPort] = ()) -> None:
        """`ports` are those of a controller that was killed, for control and logs in equal parts. Raises: LaunchError."""
        self.agents = len(keys.agents)
        allow_agents(self.agents)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._listeners = Listeners()
        self._auth = Authenticator(self._context)
        self.admission = Admission(keys, self._auth)
        each = len(ports) // 2
        for_control = ports[:each] if ports else open_ports(hosts)
        for_logs = ports[each:] if ports else open_ports(hosts)
        self.control_endpoints = tuple(port.endpoint for port in for_control)
        self.log_endpoints = tuple(port.endpoint for port in for_logs)
        control = self._listeners.router(self._context, keys.controller, "control", for_control)
        logs = self._listeners.router(self._context, keys.controller, "logs", for_logs)
        self.waiting = Waiting(sockets=(self._auth.socket, control))
        self.control = NetworkControl(control, self.waiting, self.admission)
        self.logs = NetworkLogs(logs, self.admission)

    def answer(self) -> None:
        """Answer the questions of the library who may connect."""
        if self.waiting.take(self._auth.socket):
            self._auth.answer_all()

    def answer_now(self) -> None:
        """The same without a wait."""
        self.waiting.note_use(self._auth.socket)
        self._auth.answer_all()

    def look(self) -> None:
        """Accept nothing while descriptors are short."""
        self._listeners.look()

    def doors(self) -> dict[int, int]:
        """Return none: agents of this machine use the ports as well."""
        return {}

    def ports(self) -> list[OpenPort]:
        """Return all ports, for the controller that takes over."""
        return self._listeners.ports()

    def shortage(self) -> str | None:
        """Return what to do if descriptors are, or were, short; else None."""
        return self._listeners.shortage()

    def refused(self) -> dict[str, int]:
        """Return the counts of refused connections, by kind."""
        return {
            "unauthenticated_connections": self._auth.denied,
            "connections_with_a_void_key": self._auth.denied_revoked,
            "times_without_descriptors": self._listeners.closings,
        }

    def close(self) -> None:
        """Close every socket."""
        self.control.socket.close(linger=LINGER_MS)
        self.logs.socket.close(linger=LINGER_MS)
        self._auth.close()
        self._listeners.close()
        self._context.term()


class NetworkControl:
    """The socket for packets. A `ControlChannel`."""

    def __init__(self, made: "zmq.Socket[bytes]", waiting: Waiting, admission: Admission) -> None:
        self.socket, self._waiting, self._admission = made, waiting, admission

    def receive(self, most: int) -> list[Arrival]:
        """Return what has come. The socket hands out one packet of each agent in turn."""
        if not self._waiting.take(self.socket):
            self._waiting.note_use(self.socket)  # an answer of the authenticator may have let a packet in
            return []
        return self._read(most)

    def receive_now(self, most: int) -> list[Arrival]:
        """Return what is there."""
        self._waiting.note_use(self.socket)
        return self._read(most)

    def send(self, way: Way, frame: bytes) -> bool:
        """Send a packet to the connection with this routing id."""
        assert isinstance(way, bytes)
        self._waiting.note_use(self.socket)
        try:
            self.socket.send_multipart((way, frame), zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def _read(self, most: int) -> list[Arrival]:
        arrivals: list[Arrival] = []
        while len(arrivals) < most and (frames := self._next()):
            arrivals.append(self._arrival(frames))
            if not has_waiting(self.socket):
                break
        return arrivals

    def _arrival(self, frames: "list[zmq.Frame]") -> Arrival:
        if len(frames) != 2:
            return Arrival(frames[0].bytes, None, False, b"")
        key = str(frames[1].get("User-Id"))
        enrolling = self._admission.node_to_enrol(key)
        node = self._admission.node_of_key(key) if enrolling is None else enrolling
        return Arrival(frames[0].bytes, node, enrolling is not None, frames[1].bytes)

    def _next(self) -> "list[zmq.Frame]":
        """Return the next packet's frames; none if nothing has arrived."""
        try:
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return []
        frames = [frame]
        while frame.more:  # `recv_multipart` asks the socket instead, which takes longer than the frame
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
            frames.append(frame)
        return frames


class NetworkLogs:
    """The socket for logs. A `LogChannel`."""

    def __init__(self, made: "zmq.Socket[bytes]", admission: Admission) -> None:
        self.socket, self._admission = made, admission
        self._waiting: Waiting | None = None

    def watch(self, waiting: Waiting) -> None:
        """Have this thread's wait find what arrives."""
        self._waiting = waiting
        waiting.add(self.socket)

    def receive(self, most: int) -> Iterator[LogArrival]:
        """Yield what has come."""
        assert self._waiting is not None
        if not self._waiting.take(self.socket):
            return
        for _ in range(most):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if len(frames) == 3:
                yield LogArrival(frames[0].bytes, self._node_of(frames[2]), frames[1].bytes, frames[2].buffer)
            else:
                yield LogArrival(frames[0].bytes, None, b"", b"")

    def send(self, way: Way, frame: bytes, body: bytes = b"") -> bool:
        """Send an answer to the connection with this routing id."""
        assert isinstance(way, bytes)
        if self._waiting is not None:
            self._waiting.note_use(self.socket)
        try:
            self.socket.send_multipart((way, frame, body) if body else (way, frame), zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def _node_of(self, frame: "zmq.Frame") -> int | None:
        try:
            return self._admission.node_of_key(str(frame.get("User-Id")))
        except zmq.ZMQError:
            return None
