"""The sockets of an agent that reaches its controller through the network.

One for each of its addresses until one of them has won, then that and one for logs.
"""

import socket
from collections import Counter

import msgspec
import zmq
from zmq.utils import z85

from protocol.errors import MalformedMessageError
from protocol.messages.config import AgentConfig
from protocol.messages.packets import LogAnswer, LogFrame
from protocol.session.codec import MAX_FRAME_BYTES, decode_log_answer, encode, is_numbered
from protocol.streams.waiting import Waiting, has_waiting
from sflow_agent.connection.connections import HELD_BYTES, Dialled
from sflow_agent.descriptors import Descriptors

CONNECT_MS = 5000
"""The limit for an address that drops packets silently; a later packet may pass."""
HANDSHAKE_MS = 30_000
"""Three round trips, and a controller that has a thousand hellos to read, or is suspended, before it answers.

An agent that gives up sooner only joins the end of the queue again.
"""
MAX_PACKETS_PER_PASS = 512
Keys = tuple[bytes, bytes]
"""(public, secret), Z85."""


class _Dialled(Dialled):
    """One address of the controller."""

    control: "zmq.Socket[bytes]"
    log_endpoint: str


class NetworkConnections:
    """All sockets of an agent. A `Connections`."""

    def __init__(self, config: AgentConfig, counters: "Counter[str]", descriptors: Descriptors) -> None:
        self.dialled: list[_Dialled] = []
        self._config = config
        self._keys: Keys = (config.public_key.encode(), config.secret_key.encode())
        self._new_keys: Keys | None = zmq.curve_keypair() if config.must_enrol else None
        """Not in use yet: the controller has to know them first."""
        self.addresses = [*zip(config.control_endpoints, config.log_endpoints, strict=True)]
        """Of the controller, for control and logs."""
        self._counters = counters
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._logs: zmq.Socket[bytes] | None = None
        self._held: list[tuple[bytes, _Dialled]] = []
        self._held_bytes = 0
        self._descriptors = descriptors
        self._waiting = Waiting(descriptors.epoll)

    def wait(self, timeout_ms: int) -> None:
        """Wait for so many ms, or until a socket or another descriptor is ready."""
        self._waiting.wait(timeout_ms)
        self._descriptors.note_ready(self._waiting.descriptors)

    @property
    def has_arrivals(self) -> bool:
        """Return whether something can be read, as far as is known."""
        for dialled in self.dialled:
            if dialled.control in self._waiting:
                return True
        return self._logs in self._waiting or bool(self._held)

    @property
    def new_key(self) -> str:
        """Return the key that the controller must know before this agent uses it; empty for none."""
        return "" if self._new_keys is None else self._new_keys[0].decode()

    def use_new_key(self, key: str) -> bool:
        """Use it, if that is the one, from the next `dial` on; return whether it is."""
        if self._new_keys is None or key != self._new_keys[0].decode():
            return False
        self._keys, self._new_keys = self._new_keys, None
        return True

    def as_session(self, config: AgentConfig, incarnation: int, controller_pid: int | None) -> AgentConfig:
        """Return a configuration with these addresses and what the present session has."""
        public, secret = (key.decode() for key in self._keys)
        return msgspec.structs.replace(
            config,
            must_enrol=False,
            public_key=public,
            secret_key=secret,
            nonce_path=None,
            control_endpoints=tuple(control for control, _ in self.addresses),
            log_endpoints=tuple(log for _, log in self.addresses),
            controller_incarnation=incarnation,
            controller_pid=controller_pid,
        )

    def dial(self) -> None:
        """Connect to every address that the controller has published."""
        for endpoint, log_endpoint in self.addresses:
            control = self._dealer(endpoint)
            self._waiting.add(control)
            self.dialled.append(_Dialled(endpoint, own_address(endpoint), control, log_endpoint))

    def keep(self, kept: Dialled) -> None:
        """Keep this address, which works: close the others, and send logs the same way."""
        for other in self.dialled:
            if other is not kept:
                self._waiting.remove(other.control)
                other.control.close(linger=0)
        self.dialled = [one for one in self.dialled if one is kept]
        self._logs = self._dealer(self.dialled[0].log_endpoint)
        self._waiting.add(self._logs)

    def drop(self) -> None:
        """Close all sockets, to dial anew. What they have not sent is lost."""
        for dialled in self.dialled:
            self._waiting.remove(dialled.control)
            dialled.control.close(linger=0)
        self.dialled.clear()
        if self._logs is not None:
            self._waiting.remove(self._logs)
            self._logs.close(linger=0)
            self._logs = None

    def close(self, linger_ms: int) -> None:
        """Close all sockets once everything is sent, or after `linger_ms`."""
        for dialled in self.dialled:
            self._waiting.remove(dialled.control)
            dialled.control.close(linger=linger_ms)
        self.dialled.clear()
        if self._logs is not None:
            self._waiting.remove(self._logs)
            self._logs.close(linger=linger_ms)

    def end(self) -> None:
        """Wait for what lingers; the sockets are closed."""
        self._context.term()

    # ------------------------------------------------------------------ packets

    def receive(self) -> list[tuple[bytes, Dialled]]:
        """Return the packets that have come since the last call, up to a bounded number, and which way."""
        packets: list[tuple[bytes, Dialled]] = [*self._held]
        self._held, self._held_bytes = [], 0
        for dialled in self.dialled:
            if not self._waiting.take(dialled.control):
                continue
            for _ in range(MAX_PACKETS_PER_PASS):
                try:
                    packets.append((dialled.control.recv(zmq.NOBLOCK), dialled))
                except zmq.Again:
                    break
                if not has_waiting(dialled.control):
                    break
        return packets

    def hold(self) -> bool:
        """Take packets in for a later `receive`, but not heartbeats; return whether any has come."""
        has_any = False
        while self.dialled and self._held_bytes < HELD_BYTES:
            used = self.dialled[0]
            self._waiting.note_use(used.control)
            try:
                frame = used.control.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            has_any = True
            if is_numbered(frame):
                self._held.append((frame, used))
                self._held_bytes += len(frame)
        return has_any

    def send(self, target: Dialled, frame: bytes) -> None:
        """Send a packet, unless the socket accepts no more."""
        assert isinstance(target, _Dialled)
        self._waiting.note_use(target.control)
        try:
            target.control.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            self._counters["unsent"] += 1

    def send_log(self, header: LogFrame, body: bytes) -> bool:
        """Send one piece of a log or a file; return False when the socket accepts no more now."""
        if self._logs is None:
            return False
        self._waiting.note_use(self._logs)
        try:
            self._logs.send_multipart((encode(header), body), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def log_answers(self) -> list[tuple[LogAnswer, bytes]]:
        """Return what the controller has answered to such pieces."""
        answers: list[tuple[LogAnswer, bytes]] = []
        if self._logs is None or not self._waiting.take(self._logs):
            return answers
        while True:
            try:
                header, *bodies = self._logs.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                answers.append((decode_log_answer(header), b"".join(bodies)))
            except MalformedMessageError:
                self._counters["malformed"] += 1
        return answers

    def _dealer(self, endpoint: str) -> "zmq.Socket[bytes]":
        made = self._context.socket(zmq.DEALER)
        made.linger = 0
        made.ipv6 = "[" in endpoint
        made.curve_serverkey = self._config.controller_key.encode()
        made.curve_publickey, made.curve_secretkey = self._keys
        made.maxmsgsize = MAX_FRAME_BYTES
        made.sndhwm = made.rcvhwm = 10_000
        made.connect_timeout = CONNECT_MS
        made.handshake_ivl = HANDSHAKE_MS
        made.reconnect_ivl = 50
        made.reconnect_ivl_max = 1000
        made.connect(endpoint)
        return made


def own_keys(seed: bytes, node: int) -> tuple[str, str]:
    """Return (public, secret) of a node's agent, Z85."""
    from protocol.session.keys import agent_secret  # OpenSSL: only in a job step

    secret = z85.encode(agent_secret(seed, node))
    return zmq.curve_public(secret).decode(), secret.decode()


def own_address(endpoint: str) -> str:
    """Return the address from which packets to `endpoint` leave; empty without a route."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as candidate:
            candidate.connect((host.strip("[]"), int(port)))  # sends nothing: it only asks the routing table
            return str(candidate.getsockname()[0])
    except OSError:
        return ""
