"""The sockets of an agent: one for each address of the controller until one of them has won, then that and one for logs.

Knows nothing of sessions. Used by `link.py`, which lets one thread at a time in.
"""

import socket
from collections import Counter

import msgspec
import zmq
from msgspec import Struct
from zmq.utils import z85

from protocol.errors import MalformedMessageError
from protocol.machine.waiting import Waiting, has_waiting
from protocol.messages.config import AgentConfig
from protocol.messages.packets import LogAck, LogChunk
from protocol.session.codec import MAX_FRAME_BYTES, decode_log_ack, encode, is_numbered
from sflow_agent.descriptors import Descriptors

REFUSED_WITHIN_S = 0.2
CONNECT_MS = 5000
"""The limit for an address that drops packets silently; a later packet may pass."""
HANDSHAKE_MS = 30_000
"""Three round trips, and a controller that has a thousand hellos to read, or is suspended, before it answers.

An agent that gives up sooner only joins the end of the queue again.
"""
MAX_PACKETS_PER_PASS = 512
HELD_BYTES = 64 * 1024 * 1024
"""Packets that are taken in while the loop stands still; more stay in the socket. A window of orders has 4 MiB."""
Keys = tuple[bytes, bytes]
"""(public, secret), Z85."""


class Dialled(Struct):
    """One address of the controller."""

    control: "zmq.Socket[bytes]"
    endpoint: str
    log_endpoint: str
    own_address: str
    """This node's address on the way there."""


class Connections:
    """All sockets of an agent, with which its loop waits for its other descriptors, too."""

    def __init__(self, config: AgentConfig, counters: "Counter[str]", descriptors: Descriptors) -> None:
        self.dialled: list[Dialled] = []
        """The first is the one in use once there is a session."""
        self._config = config
        self.addresses = [*zip(config.control_endpoints, config.log_endpoints, strict=True)]
        """Of the controller, for control and logs."""
        self._counters = counters
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._logs: zmq.Socket[bytes] | None = None
        self._held: list[tuple[bytes, Dialled]] = []
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

    def as_session(
        self, config: AgentConfig, keys: Keys, incarnation: int, controller_pid: int | None
    ) -> AgentConfig:
        """Return a configuration with these addresses and what the present session has."""
        public, secret = (key.decode() for key in keys)
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

    def dial(self, keys: Keys) -> None:
        """Connect to every address that the controller has published."""
        for endpoint, log_endpoint in self.addresses:
            control = self._dealer(keys, endpoint)
            self._waiting.add(control)
            self.dialled.append(Dialled(control, endpoint, log_endpoint, own_address(endpoint)))

    def keep(self, kept: Dialled, keys: Keys) -> None:
        """Keep this address, which works: close the others, and send logs the same way."""
        for other in self.dialled:
            if other is not kept:
                self._waiting.remove(other.control)
                other.control.close(linger=0)
        self.dialled = [kept]
        self._logs = self._dealer(keys, kept.log_endpoint)
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
        packets, self._held, self._held_bytes = self._held, [], 0
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
        """Send a packet, unless the socket accepts no more: the channel repeats it then."""
        self._waiting.note_use(target.control)
        try:
            target.control.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            self._counters["unsent"] += 1

    def send_log(self, header: LogChunk, body: bytes) -> bool:
        """Send one chunk; return False when the socket accepts no more now."""
        if self._logs is None:
            return False
        self._waiting.note_use(self._logs)
        try:
            self._logs.send_multipart((encode(header), body), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def log_acks(self) -> list[LogAck]:
        """Return how much the controller has of each log."""
        acks: list[LogAck] = []
        if self._logs is None or not self._waiting.take(self._logs):
            return acks
        while True:
            try:
                frame = self._logs.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                acks.append(decode_log_ack(frame))
            except MalformedMessageError:
                self._counters["malformed"] += 1
        return acks

    def _dealer(self, keys: Keys, endpoint: str) -> "zmq.Socket[bytes]":
        made = self._context.socket(zmq.DEALER)
        made.linger = 0
        made.ipv6 = "[" in endpoint
        made.curve_serverkey = self._config.controller_key.encode()
        made.curve_publickey, made.curve_secretkey = keys
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


def is_refused(endpoint: str) -> bool:
    """Return whether the host of an address says that nothing listens there: the process that did has died."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REFUSED_WITHIN_S):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
